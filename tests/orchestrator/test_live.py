"""The supervisor of the analysis worker, with workers that misbehave."""

import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest

from analysis.messages import (
    AnalysisFailed,
    ScanFinished,
    ScanStarted,
    TomogramMeasured,
)
from analysis.settings import AnalysisSettings
from orchestrator.live import LiveAnalysis
from orchestrator.live_documents import LiveDocuments

HERE = Path(__file__).parent


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("fake_worker")


@pytest.fixture
def start(workers, tmp_path):
    running = []

    def start(work=workers.measures, on_message=None):
        messages = []
        live = LiveAnalysis(
            AnalysisSettings(),
            on_message=on_message or messages.append,
            log_file=tmp_path / "log.txt",
            work=work,
        )
        live.start()
        running.append(live)
        return live, messages

    yield start
    for live in running:
        live.close()
    assert not [p for p in psutil.Process().children() if "spawn_main" in p.cmdline()]


def scan(number, label, tmp_path):
    return ScanStarted(
        scan_id=f"scan_{number:04d}_00",
        scan_number=number,
        label=label,
        attempt=0,
        darks_file=tmp_path / "d.h5",
        flats_file=tmp_path / "f.h5",
        projections_file=tmp_path / "p.h5",
        nominal_angles_deg=(0.0, 1.0, 180),
        pixel_size_um=0.8,
        tomogram_file=tmp_path / "t.h5",
        preview_dir=tmp_path,
    )


def take(live, started, success=True):
    live.scan_started(started)
    for stop in (60, 120, 180):
        live.frames_written(started.scan_id, "projections", stop)
    live.frames_written(started.scan_id, "flats", 20)
    live.scan_finished(
        ScanFinished(started.scan_id, success=success, angles_deg=(0.0,) * 180)
    )


def rows(messages):
    return [m.row for m in messages if isinstance(m, TomogramMeasured)]


def test_a_scan_is_told_and_measured(start, tmp_path):
    live, messages = start()
    take(live, scan(1, "1", tmp_path))
    assert live.drain(30)
    (row,) = rows(messages)
    assert row == {
        "scan_number": 1,
        "label": "1",
        "projections": 180,
        "flats": 20,
        "angles": 180,
    }
    assert (live.measured, live.failed, live.waiting) == (1, 0, 0)


def test_a_worker_that_dies_is_started_again_and_its_job_repeated(start, tmp_path):
    live, messages = start()
    for number, label in enumerate(["1", "dies once", "2"]):
        take(live, scan(number, label, tmp_path))
    assert live.drain(60)
    assert [row["label"] for row in rows(messages)] == ["1", "dies once", "2"]
    assert all(row["projections"] == 180 for row in rows(messages))
    assert live.restarts == 1


def test_a_scan_that_kills_every_worker_is_given_up(start, tmp_path):
    live, messages = start()
    take(live, scan(0, "dies always", tmp_path))
    take(live, scan(1, "1", tmp_path))
    assert live.drain(60)
    (failure,) = [m for m in messages if isinstance(m, AnalysisFailed)]
    assert failure.scan_id == "scan_0000_00"
    assert "exit code 42" in failure.reason
    assert [row["label"] for row in rows(messages)] == ["1"]
    assert (live.failed, live.measured, live.restarts) == (1, 1, 3)


def test_a_worker_that_never_starts_stops_nothing(start, workers, tmp_path):
    live, messages = start(workers.dies_at_start)
    take(live, scan(0, "1", tmp_path))
    assert live.drain(60)
    assert live.failed == 1
    take(live, scan(1, "1.5", tmp_path))
    assert live.drain(30)
    assert live.failed == 2


def test_a_failed_measurement_is_counted(start, tmp_path):
    live, messages = start()
    take(live, scan(0, "fails", tmp_path))
    assert live.drain(30)
    assert live.failed == 1


def test_a_scan_that_failed_is_not_waited_for(start, tmp_path):
    live, messages = start()
    take(live, scan(0, "1", tmp_path), success=False)
    take(live, scan(1, "1", tmp_path))
    assert live.drain(30)
    assert [row["scan_number"] for row in rows(messages)] == [1]


def test_what_waits_is_seen_and_does_not_block(start, tmp_path):
    live, messages = start()
    assert live.ready.wait(30)
    begun = time.perf_counter()
    for number in range(3):
        started = scan(number, "is slow", tmp_path)
        live.scan_started(started)
        for stop in range(1, 2400):
            live.frames_written(started.scan_id, "projections", stop)
        live.scan_finished(ScanFinished(started.scan_id, success=True))
    assert time.perf_counter() - begun < 2.0  # 7200 notes; the worker takes 3 s
    assert live.waiting >= 2
    assert live.lag_s >= 0
    assert live.drain(60)
    assert [row["projections"] for row in rows(messages)] == [2399] * 3
    assert live.waiting == 0
    assert live.lag_s == 0


def test_what_a_listener_raises_stops_nothing(start, tmp_path):
    def refuse(message):
        raise ValueError("a display that is broken")

    live, _ = start(on_message=refuse)
    take(live, scan(0, "1", tmp_path))
    assert live.drain(30)
    assert live.measured == 1
    assert live.callback_errors >= 1


def test_the_worker_ignores_ctrl_c(start, tmp_path):
    live, messages = start()
    assert live.ready.wait(30)
    os.kill(live.worker_pid, signal.SIGINT)
    take(live, scan(0, "1", tmp_path))
    assert live.drain(30)
    assert live.restarts == 0


def test_the_worker_ends_when_the_orchestrator_is_killed(tmp_path):
    script = tmp_path / "orchestrator_that_dies.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys, time
            sys.path.insert(0, {str(HERE)!r})
            from pathlib import Path
            from analysis.settings import AnalysisSettings
            from orchestrator.live import LiveAnalysis
            import fake_worker
            if __name__ == "__main__":
                live = LiveAnalysis(AnalysisSettings(), on_message=print,
                    log_file=Path({str(tmp_path / "log")!r}), work=fake_worker.measures)
                live.start()
                live.ready.wait(30)
                Path({str(tmp_path / "pid")!r}).write_text(str(live.worker_pid))
                os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    pid = int((tmp_path / "pid").read_text())
    try:
        psutil.Process(pid).wait(timeout=20)
    except psutil.NoSuchProcess:
        pass


class Told:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, *args))


def documents(number, exit_status="success", darks=5):
    """The documents of a tomogram, as the plans emit them."""
    yield "start", {"plan_name": "tomogram", "scan_number": number}
    for stream in ("darks", "projections"):
        if stream == "darks" and not darks:
            continue
        yield "descriptor", {"uid": f"D{stream}", "name": stream}
        for key in ("camera_image", "camera_timestamp"):
            yield "stream_resource", {"uid": f"{key}{stream}", "data_key": key}
            yield (
                "stream_datum",
                {
                    "stream_resource": f"{key}{stream}",
                    "descriptor": f"D{stream}",
                    "indices": {"start": 0, "stop": darks or 9},
                },
            )
    yield "descriptor", {"uid": "A", "name": "angles"}
    yield "event", {"descriptor": "A", "data": {"rotation_angle_deg": [0.0, 0.5]}}
    yield "stop", {"exit_status": exit_status, "reason": "why"}


def test_documents_become_messages(tmp_path):
    told = Told()
    callback = LiveDocuments(told, lambda doc: scan(doc["scan_number"], "1", tmp_path))
    for name, document in documents(3, "fail"):
        callback(name, document)
    assert told.calls == [
        ("scan_started", scan(3, "1", tmp_path)),
        ("frames_written", "scan_0003_00", "darks", 5),
        ("frames_written", "scan_0003_00", "projections", 5),
        (
            "scan_finished",
            ScanFinished("scan_0003_00", False, (0.0, 0.5), "why"),
        ),
    ]


def test_darks_of_an_earlier_scan_are_told_again(tmp_path):
    told = Told()
    callback = LiveDocuments(told, lambda doc: scan(doc["scan_number"], "1", tmp_path))
    for name, document in documents(3):
        callback(name, document)
    told.calls.clear()
    for name, document in documents(4, darks=0):
        callback(name, document)
    assert ("frames_written", "scan_0004_00", "darks", 5) in told.calls


def test_a_half_cycle_tells_nothing(tmp_path):
    told = Told()
    callback = LiveDocuments(told, lambda doc: scan(0, "1", tmp_path))
    callback("start", {"plan_name": "half_cycle"})
    callback("event", {"data": {}, "descriptor": "x"})
    callback("stop", {"exit_status": "success"})
    assert told.calls == []


def test_no_thread_is_left(start, tmp_path):
    before = threading.active_count()
    live, _ = start()
    take(live, scan(0, "1", tmp_path))
    assert live.drain(30)
    live.close()
    deadline_s = time.monotonic() + 10  # the queue's own thread ends by itself
    while threading.active_count() > before and time.monotonic() < deadline_s:
        threading.Event().wait(0.01)
    assert threading.active_count() <= before
