"""Dry runs that are killed, stopped and resumed: nothing lost, nothing passed twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import yaml

from orchestrator.journal import read_entries
from orchestrator.record import read_documents
from orchestrator.results import read_rows

EXAMPLES = Path(__file__).parents[2] / "examples"
HALF_CYCLE_S = 60.0
CHARGE_C = 0.15e-3 * np.pi / 4 * 0.020**2 * HALF_CYCLE_S
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("EPICS")}

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def experiment_file(tmp_path):
    content = yaml.safe_load((EXAMPLES / "dry_run.yaml").read_text())
    content["cycling"].update(half_cycle_duration_s=HALF_CYCLE_S, num_half_cycles=2)
    content["scan"].update(num_projections=90, num_darks=3, num_flats=5)
    content["simulation"]["clock_factor"] = 15
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


class Running:
    """`insitu-ct` in a process of its own, and what its journal says."""

    def __init__(self, folder, *arguments):
        self.folder = folder
        self.output = open(folder.parent / "output.txt", "ab+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            env=ENVIRONMENT,
        )

    def entries(self):
        path = self.folder / "journal.sqlite"
        return read_entries(path) if path.exists() else []

    def wait_for(self, kind, step_index, timeout_s=120):
        self.wait_until(
            lambda: any(
                e.kind == kind and e.step_index == step_index for e in self.entries()
            ),
            timeout_s,
        )

    def wait_until(self, condition, timeout_s=120):
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, self.text()
            assert self.process.poll() is None, self.text()
            pause()

    def kill(self):
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == [], "a process outlives its orchestrator"

    def end(self, timeout_s=200):
        code = self.process.wait(timeout_s)
        self.output.close()
        return code

    def text(self):
        return Path(self.output.name).read_text()


def pause(seconds=0.05):
    signal.sigtimedwait([], seconds)


@pytest.fixture
def start(tmp_path):
    folder = tmp_path / "experiment"
    running = []

    def start(*arguments):
        running.append(Running(folder, *arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.output.close()


def check_whole(folder):
    """Every half-cycle passed once, every tomogram there once, nothing damaged."""
    documents = list(read_documents(folder / "documents.jsonl"))
    starts = {d["uid"]: d for name, d in documents if name == "start"}
    successes = Counter(
        starts[d["run_start"]]["scan_number"]
        for name, d in documents
        if name == "stop"
        and d["exit_status"] == "success"
        and starts[d["run_start"]]["plan_name"] == "tomogram"
    )
    assert successes == {0: 1, 1: 1, 2: 1}
    last = max(
        (d for d in starts.values() if d["plan_name"] == "tomogram"),
        key=lambda d: d["time"],
    )
    assert last["gross_charge_c"] == pytest.approx(2 * CHARGE_C, rel=1e-3)
    assert last["net_charge_c"] == pytest.approx(0, abs=1e-3 * CHARGE_C)
    with h5py.File(folder / "simulation" / "truth.h5") as truth:
        # what the cell itself lived through, not what anyone noted
        scan = truth[f"scan_0002_{last['attempt']:02d}"]
        assert scan["gross_charge_c"][()] == pytest.approx(2 * CHARGE_C, rel=1e-3)
    done = Counter(
        e.step_index
        for e in read_entries(folder / "journal.sqlite")
        if e.kind == "done"
    )
    assert done == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}
    rows = read_rows(folder / "results" / "measurements.csv")
    assert [row["scan_number"] for row in rows] == [0, 1, 2]
    for number in range(3):
        with h5py.File(folder / "scans" / f"scan_{number:04d}.nxs") as file:
            assert file["entry/instrument/detector/data"].shape[0] == 98
        with h5py.File(folder / "tomograms" / f"scan_{number:04d}.h5") as file:
            assert np.isfinite(file["entry/data/data"][100]).all()
    return rows


def sizes(folder):
    return {path: path.stat().st_size for path in (folder / "raw").iterdir()}


@pytest.mark.parametrize(
    "moment",
    [
        "in the half-cycle",
        pytest.param("in the scan", marks=pytest.mark.slow),
        pytest.param("as the scan ended", marks=pytest.mark.slow),
    ],
)
def test_kill_9_and_resume(start, experiment_file, tmp_path, moment):
    folder = tmp_path / "experiment"
    run = start("dry-run", experiment_file, "--data", folder)
    if moment == "in the half-cycle":
        run.wait_for("begin", 3)
        pause(1.5)
    elif moment == "in the scan":
        run.wait_for("begin", 2)
        projections = folder / "raw" / "scan_0001_00_projections.h5"
        run.wait_until(projections.exists)
        pause(0.5)
    else:
        run.wait_for("done", 2)
    run.kill()
    before = sizes(folder)

    resumed = start("resume", folder)
    assert resumed.end() == 0, resumed.text()
    assert "Traceback" not in resumed.text()
    check_whole(folder)
    after = sizes(folder)
    assert {path: after[path] for path in before} == before  # nothing overwritten
    if moment == "in the half-cycle":
        entries = read_entries(folder / "journal.sqlite")
        (cut,) = [e for e in entries if e.kind == "reconciled"]
        assert cut.details["certain"]
        assert -CHARGE_C < cut.details["charge_c"] < 0


@pytest.mark.slow
def test_stop_from_another_terminal_and_resume(start, experiment_file, tmp_path):
    folder = tmp_path / "experiment"
    run = start("dry-run", experiment_file, "--data", folder)
    run.wait_for("begin", 1)
    pause(1.0)

    second = start("resume", folder)
    assert second.end() == 3
    assert "an orchestrator works on this experiment" in second.text()

    stop = start("stop", folder)
    assert stop.end() == 0
    assert run.end() == 1
    assert "stopped: stopped by SIGTERM" in run.text()
    ended = read_entries(folder / "journal.sqlite")[-1]
    assert (ended.kind, ended.details["outcome"]) == ("ended", "stopped")
    *_, (_, stopped) = (d for d in read_documents(folder / "documents.jsonl"))
    assert stopped["exit_status"] in ("abort", "fail")
    assert "SIGTERM" in stopped["reason"]

    resumed = start("resume", folder)
    assert resumed.end() == 0, resumed.text()
    check_whole(folder)


@pytest.mark.slow
def test_stop_after_the_tomogram(start, experiment_file, tmp_path):
    folder = tmp_path / "experiment"
    run = start("dry-run", experiment_file, "--data", folder)
    run.wait_for("begin", 1)
    stop = start("stop", folder, "--after-tomogram")
    assert stop.end() == 0
    assert run.end() == 1
    entries = read_entries(folder / "journal.sqlite")
    done = [e.step_index for e in entries if e.kind == "done"]
    assert done == [0, 1, 2]  # the half-cycle and its tomogram, no more
    assert entries[-1].details["outcome"] == "stopped"


def test_nothing_to_resume(start, tmp_path):
    (tmp_path / "experiment").mkdir()
    resumed = start("resume", tmp_path / "experiment")
    assert resumed.end() == 2
    assert "no experiment.yaml in it" in resumed.text()
    stop = start("stop", tmp_path / "experiment")
    assert stop.end() == 3
    assert "no orchestrator works on it" in stop.text()
