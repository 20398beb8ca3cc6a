"""A bench for the whole program: simulated beamline, ``insitu-ct run``, a watcher.

The program runs as an operator runs it, in a process of its own, against the simulated
beamline in another. The test's process follows the record, strikes at the wanted moment
over Channel Access and looks at the hardware afterwards.
"""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import pytest
import yaml
from caproto import CaprotoError
from caproto.sync.client import read as ca_read
from caproto.sync.client import write as ca_write

from orchestrator.errors import RecordError
from orchestrator.journal import read_entries
from orchestrator.layout import Layout
from orchestrator.record import read_documents
from sim.beamline import SimulatedBeamline
from sim.settings import SimulationSettings

DIAMETER_MM, CURRENT_DENSITY_MA_CM2, HALF_CYCLE_S = 0.1, 0.15, 40.0
AREA_CM2 = math.pi * (DIAMETER_MM / 20) ** 2
HALF_CYCLE_C = 1e-3 * CURRENT_DENSITY_MA_CM2 * AREA_CM2 * HALF_CYCLE_S
HEARTBEAT_S = 3.0
SETTINGS = {
    "clock_factor": 10.0,
    "cell": {
        "pellet_diameter_mm": DIAMETER_MM,
        "pellet_thickness_mm": 0.03,
        "lithium_thickness_mm": 0.02,
        "half_cycle_charge_c": HALF_CYCLE_C,
        "cracks": {"enabled": False},
        "short": {"kind": "none"},
    },
    "camera": {"num_columns": 96, "num_rows": 64, "flat_counts_per_s": 200_000},
}
EXPERIMENT = {
    "experiment": {"id": "bench", "sample": "simulated"},
    "cell": {
        "pellet_diameter_mm": DIAMETER_MM,
        "pellet_thickness_mm": 0.03,
        "lithium_thickness_mm": 0.02,
    },
    "cycling": {
        "current_density_ma_cm2": CURRENT_DENSITY_MA_CM2,
        "half_cycle_duration_s": HALF_CYCLE_S,
        "num_half_cycles": 1,
        "rest_s": 20.0,
        "heartbeat_timeout_s": HEARTBEAT_S,
    },
    "guard": {"stale_after_s": 1.5},
    "scan": {
        "num_projections": 100,
        "exposure_time_s": 0.15,
        "frame_period_s": 0.2,
        "pixel_size_um": 1.6,
        "num_darks": 3,
        "num_flats": 6,
        "sample_out_mm": 1.0,
        "return_velocity_deg_s": 15.0,  # slow enough to be struck
        "attempts_max": 2,
        "beam_wait_max_s": 600.0,
    },
}
RELAY_OPEN, SHUTTER_CLOSED, IDLE = b"Open", b"Closed", b"Done"


class Bench:
    """One simulated beamline and the program that runs an experiment on it."""

    def __init__(self, directory, beamline, experiment=EXPERIMENT):
        self.directory = directory
        self.beamline = beamline
        self.experiment = experiment
        self.layout = Layout(directory / "data")
        self.program = None
        self._lock = threading.Lock()

    # --- the program --------------------------------------------------------------

    def start(self, *, cycling=None, scan=None, ioc_wait_max_s=2.0):
        """Begin the experiment."""
        values = json.loads(json.dumps(self.experiment))
        values["cycling"].update(cycling or {})
        values["scan"].update(scan or {})
        port = int(self.beamline.environment["EPICS_CA_SERVER_PORT"])
        values["beamline"] = {
            "name": "simulated",
            "pvs": self.beamline.pvs.model_dump(),
            "channel_access": {"server_port": port},
            "connect_timeout_s": 20.0,
            "ioc_wait_max_s": ioc_wait_max_s,
        }
        file = self.directory / "experiment.yaml"
        file.write_text(yaml.safe_dump(values))
        self._insitu_ct("run", file, "--data", self.layout.directory)

    def resume(self):
        """Take the experiment up again."""
        self._insitu_ct("resume", self.layout.directory)

    def _insitu_ct(self, *arguments):
        with open(self.directory / "output.txt", "ab") as output:
            self.program = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for_end(self, timeout_s=120.0):
        """Return the program's exit code."""
        try:
            return self.program.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"did not end within {timeout_s:g} s:\n{self.story()}")

    def kill(self):
        """End the program and its worker as a power cut does."""
        os.killpg(self.program.pid, signal.SIGKILL)
        self.program.wait()

    def close(self):
        if self.program is not None and self.program.poll() is None:
            self.kill()
        self.beamline.stop()

    # --- the hardware -------------------------------------------------------------

    def _channel_access(self, call):
        with self._lock, pytest.MonkeyPatch.context() as patch:
            for name, value in self.beamline.environment.items():
                patch.setenv(name, value)
            return call()

    def get(self, pv):
        def read():
            return ca_read(pv, timeout=5, repeater=False)

        return self._channel_access(read).data[0]

    def put(self, pv, value):
        self._channel_access(
            lambda: ca_write(pv, value, notify=True, timeout=5, repeater=False)
        )

    def fault(self, name, *, on=True):
        try:
            self.put(f"SIM:FAULT:{name.upper()}", int(on))
        except CaprotoError:
            if name != "ioc_death":  # a dead one does not answer
                raise

    half_cycle_c = HALF_CYCLE_C

    @property
    def relay(self):
        return self.get(self.beamline.pvs.potentiostat + "Relay_RBV")

    @property
    def gross_charge_c(self):
        """All that ever went through the cell, by the instrument's own count."""
        return float(self.get(self.beamline.pvs.potentiostat + "GrossCharge_RBV"))

    def unsafe(self):
        """Return what of the hardware is not in the safe state."""
        pvs = self.beamline.pvs
        wanted = {
            pvs.potentiostat + "Relay_RBV": RELAY_OPEN,
            pvs.shutter + "STA": SHUTTER_CLOSED,
            pvs.rotation + ".DMOV": 1,
            pvs.sample_x + ".DMOV": 1,
            pvs.camera + "cam1:Acquire": IDLE,
            pvs.camera + "HDF1:Capture": IDLE,
            pvs.position_compare + "PC_ARM_OUT": 0,
        }
        found = {pv: self.get(pv) for pv in wanted}
        return {pv: value for pv, value in found.items() if value != wanted[pv]}

    # --- the record ---------------------------------------------------------------

    def entries(self):
        try:
            return read_entries(self.layout.journal_file)
        except (FileNotFoundError, RecordError):
            return []  # being made

    def documents(self):
        path = self.layout.documents_file
        return list(read_documents(path)) if path.exists() else []

    def runs(self):
        """Start and stop document of each run in order; None where it is open."""
        starts, stops = {}, {}
        for kind, doc in self.documents():
            if kind == "start":
                starts[doc["uid"]] = doc
            elif kind == "stop":
                stops[doc["run_start"]] = doc
        return [(start, stops.get(uid)) for uid, start in starts.items()]

    def tomograms(self):
        """Labels of the tomograms that closed as success."""
        return [
            start["label"]
            for start, stop in self.runs()
            if start["plan_name"] == "tomogram"
            and stop is not None
            and stop["exit_status"] == "success"
        ]

    def said(self):
        """All that the journal says, a line each."""
        return "\n".join(entry.text for entry in self.entries())

    def story(self):
        """The journal and the end of the output, for a failing test's message."""
        lines = [f"{entry.kind}: {entry.text}" for entry in self.entries()]
        output = (self.directory / "output.txt").read_text(errors="replace")
        return "\n".join([*lines, "--- output", output[-3000:]])

    def check_record(self, *, killed=False):
        """Check what must hold after any end, and return the journal's last entry.

        Every run is closed, a success has all its frames, what failed says why, each
        step that was begun has an end, and the experiment has one with a reason.
        A program that was killed leaves the run and the step it was in open.
        """
        for start, stop in self.runs():
            assert killed or stop is not None, "each run has a stop document"
            if stop is None:
                continue
            if start["plan_name"] == "tomogram":
                _check_frames(start, stop)
            if stop["exit_status"] != "success":
                assert stop["reason"], "a run that failed says why"
        entries = self.entries()
        steps = {
            kind: {(e.step_index, e.attempt) for e in entries if e.kind in kinds}
            for kind, kinds in {"begun": ("begin",), "over": ("done", "failed")}.items()
        }
        assert killed or steps["begun"] == steps["over"], "each step has an end"
        assert entries[-1].kind == "ended", self.story()
        assert entries[-1].text.strip(), "the end has a reason"
        return entries[-1]

    # --- moments ------------------------------------------------------------------

    def reach(self, phase, timeout_s=60.0):
        """Wait until the program is in a phase."""
        reached = PHASES[phase]
        deadline = time.monotonic() + timeout_s
        while not reached(self):
            if self.program.poll() is not None:
                pytest.fail(f"ended before {phase}:\n{self.story()}")
            if time.monotonic() > deadline:
                pytest.fail(f"{phase} not reached in {timeout_s:g} s:\n{self.story()}")
            threading.Event().wait(0.02)

    def frames(self):
        """Frames or events of each stream of the newest run."""
        names, frames = {}, {}
        for kind, doc in self.documents():
            if kind == "start":
                names, frames = {}, {}
            elif kind == "descriptor":
                names[doc["uid"]] = doc["name"]
                frames.setdefault(doc["name"], 0)
            elif kind == "stream_datum":
                frames[names[doc["descriptor"]]] = doc["indices"]["stop"]
            elif kind == "event":
                frames[names[doc["descriptor"]]] += 1
        return frames

    def cell_is_driven(self):
        begun = [entry for entry in self.entries() if entry.kind == "begin"]
        return (
            bool(begun)
            and "half_cycle" in begun[-1].details
            and self.relay != RELAY_OPEN
        )

    def half_cycle_is_done(self):
        done = [entry for entry in self.entries() if entry.kind == "done"]
        return bool(done) and "end_reason" in done[-1].details


PHASES = {
    "idle": lambda bench: True,
    "flats": lambda bench: "flats" in bench.frames(),
    "scan": lambda bench: bench.frames().get("projections", 0) >= 15,
    "return": lambda bench: bench.frames().get("angles", 0) > 0,
    "half-cycle": Bench.cell_is_driven,
    "open circuit": Bench.half_cycle_is_done,
    "closing": lambda bench: any(e.text.startswith("end: ") for e in bench.entries()),
}


def _check_frames(start, stop):
    success = stop["exit_status"] == "success"
    for stream, path in start["raw_files"].items():
        if not Path(path).exists():
            assert not success, f"{path} is missing"
            continue
        # A dead IOC left its file open: SWMR readers can still have the frames.
        with h5py.File(path, "r", swmr=not success) as file:
            frames = file["entry/data/data"].shape[0]
        asked = start["scan"][f"num_{stream}"]
        assert frames == asked or not success, f"{stream}: {frames} frames"


@pytest.fixture(scope="session")
def new_bench():
    """Make a bench in a directory, with another cell or experiment if given."""

    def new(directory, settings=SETTINGS, experiment=EXPERIMENT):
        settings = SimulationSettings.model_validate(settings)
        beamline = SimulatedBeamline.start(settings, directory / "simulation")
        return Bench(directory, beamline, experiment)

    return new


@pytest.fixture
def bench(tmp_path, new_bench):
    bench = new_bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def pause():
    """Wait some wall time while other processes work."""
    return threading.Event().wait


SAFE = ("relay", "shutter", "stage", "camera", "file")


def pytest_terminal_summary(terminalreporter):
    """Print how long the hardware took to be safe, where a test has noted it."""
    rows = [
        (report.nodeid.rpartition("::")[2], *value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "teardown"
        for name, value in report.user_properties
        if name == "safe_state"
    ]
    if not rows:
        return
    write = terminalreporter.write_line
    write("\nwall time from the alarm until the hardware was safe (s)")
    write(f"{'case':50}{''.join(f'{part:>9}' for part in SAFE)}  begun by")
    for name, what, delays_s in sorted(rows):
        parts = "".join(f"{delays_s[part]:9.2f}" for part in SAFE)
        write(f"{name:50}{parts}  {what}")
    known_s = [t for _, _, delays_s in rows for t in delays_s.values() if t == t]
    if known_s:
        write(f"largest of {len(rows)} cases: {max(known_s):.2f} s")
