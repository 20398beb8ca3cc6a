"""The copy to Tiled: every run once, whatever becomes of the server or of us."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import yaml

import orchestrator.tiled_process
from orchestrator.config import load_experiment
from orchestrator.errors import ConfigurationError
from orchestrator.layout import Layout
from orchestrator.record import DocumentRecord
from orchestrator.tiled_copy import (
    CopyStatus,
    RecordedRuns,
    RunCopier,
    ServerAwayError,
)
from orchestrator.tiled_process import TiledProcess

NEVER_S = 60.0
KEY = "akeyforthistestonly"


class Server:
    """Takes runs, unless it is told not to."""

    def __init__(self):
        self.runs = {}
        self.away = False
        self.refused = set()

    def send(self, documents):
        if self.away:
            raise ServerAwayError("nobody answers")
        uid = documents[0][1]["uid"]
        if uid in self.refused:
            raise ValueError("no such thing as this")
        assert uid not in self.runs, "sent twice"
        self.runs[uid] = documents


@pytest.fixture
def record(tmp_path):
    record = DocumentRecord(tmp_path / "documents.jsonl")
    yield record
    record.close()


def write_run(record, uid, *, whole=True):
    record("start", {"uid": uid, "time": 1.0})
    record("descriptor", {"uid": f"{uid}-d", "run_start": uid, "time": 2.0})
    record("event", {"descriptor": f"{uid}-d", "time": 3.0, "data": {}})
    if whole:
        record("stop", {"uid": f"{uid}-s", "run_start": uid, "exit_status": "success"})


def copier(record, server, told=None):
    tell = (lambda status: None) if told is None else told.append
    return RunCopier(RecordedRuns(record.path), server.send, tell)


def test_each_run_is_sent_once_when_it_has_ended(record):
    server, told = Server(), []
    copy = copier(record, server, told)
    assert copy.once() == CopyStatus()
    write_run(record, "a")
    write_run(record, "b", whole=False)
    copy.once()
    assert list(server.runs) == ["a"]
    assert [name for name, _ in server.runs["a"]] == [
        *("start", "descriptor", "event", "stop")
    ]
    record("stop", {"uid": "b-s", "run_start": "b", "exit_status": "success"})
    copy.once()
    assert list(server.runs) == ["a", "b"]
    assert told[-1] == CopyStatus(sent=2)


def test_a_line_that_is_being_written_is_left_for_later(record):
    server = Server()
    copy = copier(record, server)
    write_run(record, "a", whole=False)
    with open(record.path, "ab") as file:
        file.write(b'["stop", {"uid": "a-s", ')
    copy.once()
    assert server.runs == {}
    with open(record.path, "ab") as file:
        file.write(b'"run_start": "a", "exit_status": "success"}]\n')
    copy.once()
    assert list(server.runs) == ["a"]


def test_a_run_that_was_cut_is_sent_as_one_that_failed(record):
    server = Server()
    write_run(record, "a", whole=False)
    with open(record.path, "ab") as file:
        file.write(b'["event", {"torn by a pow\n')
    write_run(record, "b")
    copier(record, server).once()
    assert list(server.runs) == ["a", "b"]
    name, stop = server.runs["a"][-1]
    assert name == "stop"
    assert (stop["run_start"], stop["exit_status"], stop["time"]) == ("a", "fail", 3.0)
    assert "never recorded" in stop["reason"]


def test_nothing_is_lost_while_the_server_is_away(record):
    server, told = Server(), []
    copy = copier(record, server, told)
    server.away = True
    for uid in "abc":
        write_run(record, uid)
        assert copy.once(tries_max=3).fault == "nobody answers"
    assert told[-1].waiting == 3
    assert told[-1].lag_s > 0
    server.away = False
    assert copy.once().fault == ""
    assert list(server.runs) == ["a", "b", "c"]
    assert told[-1] == CopyStatus(sent=3)


def test_a_run_that_is_not_taken_does_not_keep_the_others_back(record):
    server, told = Server(), []
    copy = copier(record, server, told)
    server.refused = {"a"}
    write_run(record, "a")
    write_run(record, "b")
    for _ in range(2):
        assert "no such thing" in copy.once(tries_max=3).fault
        assert server.runs == {}
    copy.once(tries_max=3)
    assert list(server.runs) == ["b"]
    assert told[-1] == CopyStatus(sent=1, refused=1)


def test_what_waits_when_the_experiment_ends_is_sent(record):
    server, ended = Server(), threading.Event()
    copy = copier(record, server)
    server.away = True
    write_run(record, "a")
    follower = threading.Thread(target=copy.follow, args=(ended, 0.05))
    follower.start()
    write_run(record, "b")
    server.away = False
    ended.set()
    follower.join(NEVER_S)
    assert list(server.runs) == ["a", "b"]


def test_a_status_survives_its_line():
    status = CopyStatus(2, 3.5, 4, 1, "nobody answers")
    assert CopyStatus.from_line(status.line()) == status


# --- the file that names the server -------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "fault"),
    [
        ("ftp://127.0.0.1/", "must be http"),
        ("127.0.0.1:8000", "must be http"),
        ("http://127.0.0.1:8000/?api_key=secret", "never into a file"),
        ("https://me:secret@tiled.example/", "never into a file"),
        ("http://tiled.example:8000", "in clear; use https"),
    ],
)
def test_an_unsafe_server_is_refused(experiment_file, uri, fault):
    with pytest.raises(ConfigurationError, match=fault):
        load_experiment(experiment_file(uri))


@pytest.mark.parametrize("uri", ["http://127.0.0.1:8000", "https://tiled.example/api"])
def test_a_safe_server_is_taken(experiment_file, uri):
    assert load_experiment(experiment_file(uri)).tiled.uri == uri


@pytest.fixture
def experiment_file(tmp_path, request):
    examples = request.config.rootpath / "examples"

    def write(uri):
        content = yaml.safe_load((examples / "dry_run.yaml").read_text())
        content["tiled"] = {"uri": uri, "retry_s": 0.2}
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


# --- the process beside an experiment -----------------------------------------------


@pytest.mark.slow
def test_what_keeps_it_from_copying_is_told(tmp_path, experiment_file):
    """Whether Tiled is not installed here, or its server is away."""
    layout = Layout(tmp_path / "data")
    layout.create()
    layout.keep(experiment_file(f"http://127.0.0.1:{free_port()}"))
    record = DocumentRecord(layout.documents_file)
    write_run(record, "a")
    record.close()
    warnings = []
    process = TiledProcess(layout, on_status=lambda status: None, warn=warnings.append)
    process.start()
    until(lambda: warnings)
    process.close(NEVER_S)
    assert "not installed" in warnings[0] or "does not answer" in warnings[0]
    assert not any("ended" in text for text in warnings), warnings


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "data")
    layout.create()
    return layout


def test_a_copy_that_always_dies_is_given_up_and_said_so(layout, monkeypatch):
    starts = SimpleNamespace(executable="/bin/false")
    monkeypatch.setattr(orchestrator.tiled_process, "sys", starts)
    warnings = []
    process = TiledProcess(layout, on_status=lambda status: None, warn=warnings.append)
    process.start()
    until(lambda: len(warnings) == 2)
    assert "ended (1)" in warnings[0]
    assert "is not started again" in warnings[1]
    process.close(NEVER_S)


def test_a_copy_that_starts_while_it_is_closed_ends(layout, monkeypatch):
    # `close` runs between the look at it and the start: nobody else can end it.
    closing = orchestrator.tiled_process.subprocess.Popen
    warnings = []
    process = TiledProcess(layout, on_status=lambda status: None, warn=warnings.append)

    def start(command, **kwargs):
        process._closing.set()
        return closing(["/bin/cat"], **kwargs)

    monkeypatch.setattr(
        orchestrator.tiled_process,
        "subprocess",
        SimpleNamespace(Popen=start, PIPE=subprocess.PIPE),
    )
    assert process._run() == 0
    assert warnings == []


# --- a real server ------------------------------------------------------------------

SERVE = """
import sys
import tiled.server.simple
tiled.server.simple._STARTUP_TIMEOUT = 120  # of a busy machine
directory, port, readable = sys.argv[1:]
server = tiled.server.simple.SimpleTiledServer(
    directory, api_key={key!r}, port=int(port), readable_storage=[readable]
)
print("serving", flush=True)
sys.stdin.read()
"""


class RealServer:
    """A Tiled server on loopback that can be killed and started again."""

    def __init__(self, directory, readable):
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._arguments = [str(directory), str(self.port), str(readable)]
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVE.format(key=KEY)]
            + self._arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdout.readline() == b"serving\n"

    def kill(self):
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Tiled and what it imports
def test_runs_arrive_at_a_real_server_that_dies_and_comes_back(
    tmp_path, experiment_file, monkeypatch
):
    pytest.importorskip("bluesky_tiled_plugins", reason="the extra tiled is missing")
    from tiled.client import from_uri

    monkeypatch.setenv("TILED_API_KEY", KEY)
    layout = Layout(tmp_path / "data")
    layout.create()
    server = RealServer(tmp_path / "tiled", layout.directory)
    layout.keep(experiment_file(server.uri))
    record = DocumentRecord(layout.documents_file)
    warnings, statuses = [], []
    process = TiledProcess(layout, on_status=statuses.append, warn=warnings.append)
    try:
        server.start()
        process.start()
        scans = {"scan-0": write_scan(layout, record, "scan-0", 0)}
        until(lambda: process.status.sent == 1)
        server.kill()
        scans["scan-1"] = write_scan(layout, record, "scan-1", 1)
        until(lambda: any("does not answer" in text for text in warnings))
        assert process.status.waiting == 1
        server.start()
        until(lambda: process.status.sent == 2)
        scans["scan-2"] = write_scan(layout, record, "scan-2", 2)
        process.close(NEVER_S)
        client = from_uri(server.uri, api_key=KEY)
        assert sorted(client) == sorted(scans)
        for uid, frames in scans.items():
            run = client[uid]
            assert run.metadata["stop"]["exit_status"] == "success"
            np.testing.assert_array_equal(run["projections"]["camera"].read(), frames)
        # A second copy finds them there and sends nothing again.
        again = subprocess.run(
            [sys.executable, "-m", "orchestrator.cli", "tiled", str(layout.directory)],
            capture_output=True,
            text=True,
            env={**os.environ, "TILED_API_KEY": KEY},
            timeout=NEVER_S,
        )
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout.splitlines()[-1])["sent"] == 3
        assert sorted(client) == sorted(scans)
        client.context.http_client.close()
    finally:
        process.close(0.1)
        server.kill()
        record.close()


def write_scan(layout, record, uid, number):
    """Write a raw file and the documents of its run; return the frames."""
    frames = np.arange(5 * 4 * 6, dtype="u2").reshape(5, 4, 6) + 1000 * number
    path = layout.raw_dir / f"{uid}.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("entry/data/data", data=frames, chunks=(1, 4, 6))
    key = {
        "source": "a camera",
        "dtype": "array",
        "dtype_numpy": "<u2",
        "shape": [4, 6],
        "external": "STREAM:",
    }
    record("start", {"uid": uid, "time": 1.0, "plan_name": "tomogram"})
    record(
        "descriptor",
        {
            "uid": f"{uid}-d",
            "run_start": uid,
            "time": 2.0,
            "name": "projections",
            "data_keys": {"camera": key},
            "configuration": {},
            "object_keys": {"camera": ["camera"]},
            "hints": {},
        },
    )
    record(
        "stream_resource",
        {
            "uid": f"{uid}-r",
            "run_start": uid,
            "data_key": "camera",
            "mimetype": "application/x-hdf5",
            "uri": f"file://localhost{path}",
            "parameters": {
                "dataset": "/entry/data/data",
                "chunk_shape": [1, 4, 6],
                "join_method": "stack",
            },
        },
    )
    record(
        "stream_datum",
        {
            "uid": f"{uid}-r/0",
            "stream_resource": f"{uid}-r",
            "descriptor": f"{uid}-d",
            "indices": {"start": 0, "stop": 5},
            "seq_nums": {"start": 1, "stop": 6},
        },
    )
    record(
        "stop",
        {
            "uid": f"{uid}-s",
            "run_start": uid,
            "time": 3.0,
            "exit_status": "success",
            "reason": "",
            "num_events": {"projections": 5},
        },
    )
    return frames


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition):
    end_s = time.monotonic() + NEVER_S
    while not condition():
        assert time.monotonic() < end_s
        threading.Event().wait(0.05)
