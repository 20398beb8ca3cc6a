"""The simulation's process: it starts, says why it does not, and leaves no orphan."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sim.beamline import SimulatedBeamline, loopback_environment
from sim.settings import SimulationSettings

SETTINGS = SimulationSettings.model_validate(
    {
        "cell": {
            "pellet_diameter_mm": 0.05,
            "pellet_thickness_mm": 0.02,
            "lithium_thickness_mm": 0.01,
            "cracks": {"enabled": False},
            "short": {"kind": "none"},
        },
        "camera": {"num_columns": 80, "num_rows": 56},
    }
)


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("condition not met")
        threading.Event().wait(0.02)


def test_environment_keeps_to_the_loopback_interface() -> None:
    environment = loopback_environment()
    assert all(name.startswith("EPICS_CA") for name in environment)
    for name, value in environment.items():
        if name.endswith("ADDR_LIST") and "AUTO" not in name:
            assert value == "127.0.0.1"
    assert environment["EPICS_CA_AUTO_ADDR_LIST"] == "NO"
    assert environment["EPICS_CAS_AUTO_BEACON_ADDR_LIST"] == "NO"
    assert environment != loopback_environment()


def test_listens_on_the_loopback_interface_only(tmp_path: Path) -> None:
    with SimulatedBeamline.start(SETTINGS, tmp_path) as beamline:
        assert beamline.pid is not None
        sockets = psutil.Process(beamline.pid).net_connections()
        assert sockets
        assert {s.laddr.ip for s in sockets} == {"127.0.0.1"}


def test_stop_ends_the_process_and_may_be_repeated(tmp_path: Path) -> None:
    beamline = SimulatedBeamline.start(SETTINGS, tmp_path)
    pid = beamline.pid
    assert pid is not None
    beamline.stop()
    beamline.stop()
    assert not beamline.running
    assert not psutil.pid_exists(pid)


def test_failed_start_tells_the_end_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "cell.json").write_text("{not json")
    with pytest.raises(RuntimeError, match=r"(?s)ended with code 1.*JSONDecodeError"):
        SimulatedBeamline.start(SETTINGS, tmp_path)


def test_start_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    before = psutil.Process().children()
    with pytest.raises(RuntimeError, match="not ready in 0.01 s"):
        SimulatedBeamline.start(SETTINGS, tmp_path, timeout_s=0.01)
    assert psutil.Process().children() == before


PARENT = """
import sys, threading
from pathlib import Path
from sim.beamline import SimulatedBeamline
from sim.settings import SimulationSettings
settings = SimulationSettings.model_validate_json(sys.argv[1])
beamline = SimulatedBeamline.start(settings, Path(sys.argv[2]))
print(beamline.pid, flush=True)
threading.Event().wait()
"""


def test_a_law_that_the_first_crack_cannot_keep_is_refused_at_the_start(
    tmp_path: Path,
) -> None:
    cell = {"pellet_diameter_mm": 0.12, "pellet_thickness_mm": 0.04}
    settings = SimulationSettings.model_validate(
        {"cell": cell, "camera": {"num_columns": 80, "num_rows": 56}}
    )
    with pytest.raises(RuntimeError, match="first_volume_fraction is 0.0146") as told:
        SimulatedBeamline.start(settings, tmp_path)
    assert "Traceback" not in str(told.value)


def test_the_records_do_not_outlive_the_darkroom(tmp_path: Path) -> None:
    with SimulatedBeamline.start(SETTINGS, tmp_path) as beamline:
        assert beamline.pid is not None
        (darkroom,) = psutil.Process(beamline.pid).children()
        darkroom.kill()
        wait_for(lambda: not beamline.running)
        text = beamline.log_file.read_text()
    assert "the process that draws the simulated frames ended with code -9" in text
    assert "Traceback" not in text
    assert (tmp_path / "cell.json").exists()


DOOMED = """
import multiprocessing, os, sys, threading, time
from pathlib import Path
from sim.beamline import SimulatedBeamline
from sim.settings import SimulationSettings
if __name__ == "__main__":
    worker = multiprocessing.get_context("spawn").Process(
        target=time.sleep, args=(600,), name="analysis-worker", daemon=True
    )
    worker.start()
    settings = SimulationSettings.model_validate_json(sys.argv[1])
    beamline = SimulatedBeamline.start(settings, Path(sys.argv[2]))
    print(beamline.pid, flush=True)
    worker.join()
    print("worker", worker.exitcode, flush=True)
    os.environ.update(beamline.environment)
    from caproto.sync.client import write

    write("SIM:FAULT:POWER_CUT", 1, timeout=60)
    threading.Event().wait()
"""


def test_faults_of_the_program_strike_it_and_are_remembered(tmp_path: Path) -> None:
    faults = ("tiled_death@t=0", "worker_death@t=1")
    settings = SETTINGS.model_copy(update={"faults": faults})
    script = tmp_path / "doomed.py"
    script.write_text(DOOMED)
    program = subprocess.Popen(
        [sys.executable, str(script), settings.model_dump_json(), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    said, errors = program.communicate(timeout=100)
    server, worker = said.splitlines()
    assert worker == f"worker {-signal.SIGKILL}"
    assert "tiled_death: nothing of that kind runs here" in errors
    assert program.returncode == -signal.SIGKILL
    wait_for(lambda: not psutil.pid_exists(int(server)))
    kept = json.loads((tmp_path / "cell.json").read_text())
    assert kept["struck_faults"] == list(faults)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_server_does_not_outlive_its_parent(
    how: signal.Signals, tmp_path: Path
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, SETTINGS.model_dump_json(), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    server_pid = int(parent.stdout.readline())
    assert psutil.pid_exists(server_pid)
    parent.send_signal(how)
    parent.wait(30)
    parent.stdout.close()
    wait_for(lambda: not psutil.pid_exists(server_pid))
    assert (tmp_path / "cell.json").exists()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(tmp_path: Path) -> None:
    with SimulatedBeamline.start(SETTINGS, tmp_path) as beamline:
        assert beamline.pid is not None
        os.kill(beamline.pid, signal.SIGINT)
        threading.Event().wait(0.2)
        assert beamline.running
