"""Each fault at each phase: full safe state, whole files, a journal that says why.

A handful of cases run by default; the rest is marked slow (``make faults``). The bench
is in ``conftest.py``. After each abort or alarm a process of its own sees when the
hardware is safe; ``conftest.py`` prints the wall times as a table at the end.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

# --- how long it takes to be safe -----------------------------------------------------

WATCHER = Path(__file__).with_name("watch_pvs.py")
# What the program says on its own when a guard trips, frames fail or a plan ends.
ALARM = re.compile(
    r"^(?P<time>\S+ \S+) (WARNING|ERROR) .*? (devices|plans)\.\w+: (?P<text>.*)$"
)


class Watch:
    """Notes when each device is safe; `struck` begins to count."""

    def __init__(self, bench):
        pvs = bench.beamline.pvs
        self._bench = bench
        # Enumerations come as their index.
        self._safe = {
            pvs.potentiostat + "Relay_RBV": ("relay", "0"),
            pvs.shutter + "STA": ("shutter", "3"),
            pvs.rotation + ".DMOV": ("stage", "1"),
            pvs.camera + "cam1:Acquire": ("camera", "0"),
            pvs.camera + "HDF1:Capture": ("file", "0"),
        }
        self._log = bench.directory / "pvs.txt"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, WATCHER, *self._safe],
                stdin=subprocess.PIPE,
                stdout=log,
                env={**os.environ, **bench.beamline.environment},
            )
        self._since_s = None
        self._asked = False

    def struck(self, *, asked=False):
        """Count from now on: from here if `asked` to end, else from the first alarm."""
        self._since_s, self._asked = time.time(), asked

    def close(self):
        self._process.communicate(timeout=10)

    def delays_s(self):
        """Return the time each device took to be safe, and what began it."""
        began_s, what = self._began()
        if began_s is None:
            return None
        delays_s = {}
        for pv, (name, safe) in self._safe.items():
            changes = [(t, value) for t, p, value in self._changes() if p == pv]
            before = [value for t, value in changes if t <= began_s]
            if before and before[-1] == safe:
                delays_s[name] = 0.0
                continue
            later = [t for t, value in changes if t > began_s and value == safe]
            delays_s[name] = later[0] - began_s if later else float("nan")
        return what, delays_s

    def _changes(self):
        for line in self._log.read_text().splitlines():
            time_s, pv, value = line.split("\t")
            yield float(time_s), pv, value

    def _began(self):
        if self._since_s is None:
            return None, ""
        if self._asked:
            return self._since_s, "asked"
        if self._bench.layout.log_file.exists():
            for line in self._bench.layout.log_file.read_text().splitlines():
                if match := ALARM.match(line):
                    at = datetime.strptime(match["time"], "%Y-%m-%d %H:%M:%S,%f")
                    if at.timestamp() >= self._since_s:
                        return at.timestamp(), match["text"][:40]
        return None, ""


@pytest.fixture
def watch(bench, request):
    watch = Watch(bench)
    yield watch
    watch.close()
    if (result := watch.delays_s()) is not None:
        # The table at the end is made of these, of every worker of pytest-xdist.
        request.node.user_properties.append(("safe_state", result))


@pytest.mark.slow
def test_undisturbed(bench):
    """The bench itself: without a fault everything is done."""
    bench.start()
    assert bench.wait_for_end() == 0, bench.story()
    assert bench.unsafe() == {}, bench.story()
    assert bench.check_record().details["outcome"] == "done"
    assert bench.tomograms() == ["0", "1"]
    assert not re.search(r"retake|goes on with", bench.said())


# --- the operator or the system ends it -----------------------------------------------

STOPS = [
    pytest.param(number, phase, id=f"{number.name}-{phase}", marks=marks)
    for number, phase, marks in [
        (signal.SIGINT, "half-cycle", pytest.mark.slow),
        (signal.SIGINT, "scan", ()),
        (signal.SIGINT, "flats", pytest.mark.slow),
        (signal.SIGINT, "return", pytest.mark.slow),
        (signal.SIGINT, "open circuit", pytest.mark.slow),
        (signal.SIGTERM, "half-cycle", pytest.mark.slow),
        (signal.SIGTERM, "scan", pytest.mark.slow),
        (signal.SIGTERM, "flats", pytest.mark.slow),
        (signal.SIGTERM, "return", pytest.mark.slow),
        (signal.SIGTERM, "open circuit", pytest.mark.slow),
        (signal.SIGHUP, "half-cycle", pytest.mark.slow),
        (signal.SIGHUP, "scan", pytest.mark.slow),
    ]
]


@pytest.mark.parametrize(("number", "phase"), STOPS)
def test_asked_to_stop(bench, watch, number, phase):
    bench.start()
    bench.reach(phase)
    watch.struck(asked=True)
    bench.program.send_signal(number)
    assert bench.wait_for_end() == 1, bench.story()
    assert bench.unsafe() == {}, bench.story()
    ended = bench.check_record()
    assert ended.details["outcome"] == "stopped", bench.story()
    assert number.name in ended.text, bench.story()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_while_it_closes(bench, watch, number):
    """All is taken: either end is true, and the record says which."""
    bench.start()
    bench.reach("closing")
    watch.struck(asked=True)
    bench.program.send_signal(number)
    exit_code = bench.wait_for_end()
    assert bench.unsafe() == {}, bench.story()
    ended = bench.check_record()
    outcome = ended.details["outcome"]
    assert outcome in ("done", "stopped"), bench.story()
    assert exit_code == (0 if outcome == "done" else 1), bench.story()
    assert bench.tomograms() == ["0", "1"], bench.story()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["half-cycle", "scan", "return"])
def test_asked_twice_is_as_safe_as_once(bench, watch, phase):
    bench.start()
    bench.reach(phase)
    watch.struck(asked=True)
    bench.program.send_signal(signal.SIGINT)
    threading.Event().wait(0.1)
    bench.program.send_signal(signal.SIGINT)
    assert bench.wait_for_end() == 1, bench.story()
    assert bench.unsafe() == {}, bench.story()
    bench.check_record()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["half-cycle", "open circuit", "scan", "return"])
def test_killed_program_leaves_an_open_cell_by_the_instrument_alone(bench, phase):
    bench.start()
    bench.reach(phase)
    bench.kill()
    deadline = time.monotonic() + 3.0 + 3.0  # heartbeat timeout, and to look
    while bench.relay != b"Open":
        assert time.monotonic() < deadline, "the relay is still closed"
        threading.Event().wait(0.1)
    assert bench.entries(), "the journal survives"
    assert all(entry.kind != "ended" for entry in bench.entries())


# --- faults of the beamline -----------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A fault, its moment, and what must come of it.

    Attributes
    ----------
    outcome : str
        The journal's last word.
    said : str
        Regular expression found in the journal: the reason.
    tomograms : tuple
        Labels that close as success.
    clear_after_s : float, optional
        Wall time after which the fault is taken away; it stays if absent.
    unsafe : str
        Part of the PVs' names that the fault itself keeps from being safe.
    """

    fault: str
    phase: str
    outcome: str
    said: str
    tomograms: tuple[str, ...] = ("0", "1")
    clear_after_s: float | None = None
    unsafe: str = "none"
    quick: bool = False

    @property
    def name(self):
        return f"{self.fault}-{self.phase}"

    @property
    def of_cell(self):
        return self.fault in CELL_FAULTS


CELL_FAULTS = (
    "short_circuit",
    "open_circuit",
    "compliance",
    "wrong_polarity",
    "stale_voltage",
)
CASES = [
    # camera and its writer
    Case("dropped_frame", "flats", "done", r"frame|flats"),
    Case("dropped_frame", "scan", "done", r"retake scan 0", quick=True),
    Case("dropped_frame", "half-cycle", "done", r"retake scan 1"),
    Case("camera_hang", "flats", "done", r"(?s)camera.*retake scan 0"),
    Case("camera_hang", "scan", "done", r"(?s)camera.*retake scan 0"),
    Case("camera_hang", "half-cycle", "done", r"(?s)camera.*retake scan 1"),
    Case("hdf5_write_error", "flats", "done", r"(?s)writ.*retake scan 0"),
    Case("hdf5_write_error", "scan", "done", r"(?s)writ.*retake scan 0"),
    Case("hdf5_write_error", "half-cycle", "done", r"(?s)writ.*retake scan 1"),
    Case("disk_full", "flats", "failed", r"(?i)space|full|writ", ()),
    Case("disk_full", "scan", "failed", r"(?i)space|full|writ", ()),
    Case("disk_full", "half-cycle", "failed", r"(?i)space|full|writ", ("0",)),
    Case("disk_full", "return", "failed", r"(?i)space|full|writ", ("0",)),
    # stages and shutter
    Case("stage_stall", "flats", "done", r"(?s)rotation.*retake scan 0"),
    Case("stage_stall", "scan", "done", r"(?s)rotation|angle.*retake scan 0"),
    Case("stage_stall", "return", "done", r""),
    Case("stage_stall", "closing", "done", r""),
    Case("stage_stall", "half-cycle", "done", r"(?s)rotation.*retake scan 1"),
    Case("limit_hit", "scan", "done", r"(?s)limit.*retake scan 0"),
    Case("shutter_stuck_closed", "idle", "failed", r"shutter", ()),
    Case("shutter_stuck_closed", "half-cycle", "failed", r"shutter", ("0",)),
    Case("shutter_stuck_open", "flats", "failed", r"shutter", (), unsafe="SHTR"),
    Case("shutter_stuck_open", "scan", "failed", r"shutter", (), unsafe="SHTR"),
    Case(
        "shutter_stuck_open", "half-cycle", "failed", r"shutter", ("0",), unsafe="SHTR"
    ),
    # the beam
    Case("beam_dump", "flats", "done", r"(?i)beam|ring", clear_after_s=4),
    Case("beam_dump", "scan", "done", r"(?i)beam|ring", clear_after_s=4),
    Case("beam_dump", "return", "done", r"", clear_after_s=4),
    Case("beam_dump", "half-cycle", "done", r"", clear_after_s=1),
    Case("beam_dump", "closing", "done", r"", clear_after_s=1),
    Case("beam_dump", "open circuit", "done", r"(?i)beam|ring", clear_after_s=4),
    Case("top_up", "flats", "done", r""),
    Case("top_up", "scan", "done", r""),
    Case("top_up", "half-cycle", "done", r""),
    # the cell and the potentiostat
    Case("short_circuit", "half-cycle", "short_circuit", r"(?i)short", quick=True),
    Case("compliance", "half-cycle", "failed", r"(?i)compliance", ("0",)),
    Case(
        "open_circuit", "half-cycle", "failed", r"(?i)open.circuit|compliance", ("0",)
    ),
    Case("soft_short", "half-cycle", "done", r""),
    Case("wrong_polarity", "half-cycle", "failed", r"(?i)polarity|sign", ("0",)),
    Case("wrong_polarity", "idle", "failed", r"(?i)polarity|sign", ("0",)),
    Case("stale_voltage", "half-cycle", "done", r"(?i)stale|sample", clear_after_s=4),
]


def parametrised(case):
    return pytest.param(
        case, id=case.name, marks=() if case.quick else pytest.mark.slow
    )


@pytest.mark.parametrize("case", [parametrised(case) for case in CASES])
def test_fault(bench, watch, case):
    if case.phase == "idle":
        watch.struck()
        bench.fault(case.fault)
        bench.start()
    else:
        bench.start()
        bench.reach(case.phase)
        # A cell's fault is its own alarm: the instrument may act before the program.
        watch.struck(asked=case.phase == "half-cycle" and case.of_cell)
        bench.fault(case.fault)
    if case.clear_after_s is not None:
        threading.Event().wait(case.clear_after_s)
        bench.fault(case.fault, on=False)
    exit_code = bench.wait_for_end()
    ended = bench.check_record()
    assert ended.details["outcome"] == case.outcome, bench.story()
    assert exit_code == (1 if case.outcome == "failed" else 0), bench.story()
    unsafe = {pv: v for pv, v in bench.unsafe().items() if case.unsafe not in pv}
    assert unsafe == {}, bench.story()
    assert re.search(case.said, bench.said()), bench.story()
    assert tuple(bench.tomograms()) == case.tomograms, bench.story()
    assert bench.gross_charge_c <= 1.01 * bench.half_cycle_c, "passed once"


@pytest.mark.slow
def test_lost_beam_before_the_start_is_refused(bench):
    bench.fault("beam_dump")
    bench.start()
    assert bench.wait_for_end() == 3, bench.story()
    output = (bench.directory / "output.txt").read_text()
    assert "ring_current: 0.0 mA" in output
    assert bench.unsafe() == {}
    assert bench.gross_charge_c == 0.0
    assert not bench.layout.directory.exists(), "the folder is free for the next try"


@pytest.mark.slow
@pytest.mark.parametrize(
    "phase", ["half-cycle", "flats", "scan", "return", "open circuit"]
)
def test_dead_ioc_is_told_as_it_is(bench, phase):
    bench.start()
    bench.reach(phase)
    bench.fault("ioc_death")
    assert bench.wait_for_end(180) == 1, bench.story()
    ended = bench.check_record()
    assert ended.details["outcome"] == "failed", bench.story()
    assert re.search(r"(?i)connect|answer|lost", bench.said()), bench.story()
    assert re.search(r"safe state could not be confirmed", bench.said()), bench.story()
    bench.beamline.restart()
    assert bench.relay == b"Open"


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["half-cycle", "scan"])
def test_dead_analysis_worker_costs_no_tomogram(bench, phase):
    bench.start()
    bench.reach(phase)
    children = psutil.Process(bench.program.pid).children()
    workers = [
        child
        for child in children
        if child.status() != psutil.STATUS_ZOMBIE
        and "spawn_main" in " ".join(child.cmdline())
    ]
    assert workers, "no analysis worker runs"
    for worker in workers:
        worker.kill()
    assert bench.wait_for_end() == 0, bench.story()
    assert bench.unsafe() == {}, bench.story()
    assert bench.check_record().details["outcome"] == "done"
    assert bench.tomograms() == ["0", "1"]
    measured = [entry.text for entry in bench.entries() if entry.kind == "measured"]
    assert sorted(measured) == ["scan_0000_00", "scan_0001_00"], bench.story()
    assert not re.search(r"retake", bench.said()), bench.story()
