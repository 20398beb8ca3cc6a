"""One experiment from the first process variable to the last tomogram.

Imports ophyd and bluesky: set the EPICS environment before importing this module
(`orchestrator.channel_access`).
"""

import logging
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import epics
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

from analysis.measurement.lithium import lithium_volume_um3
from analysis.messages import (
    AnalysisFailed,
    FromWorker,
    ScanStarted,
    TomogramMeasured,
)
from devices.beamline import Beamline, connect_beamline
from devices.errors import DeviceError, NotConnectedError
from devices.pvs import BeamlinePVs
from orchestrator.archive import Archive
from orchestrator.config import Experiment
from orchestrator.errors import InsituError, RefusedError
from orchestrator.journal import Journal
from orchestrator.layout import Layout, scan_id
from orchestrator.live import LiveAnalysis, LiveDocuments
from orchestrator.readings import show_readings
from orchestrator.record import DocumentRecord
from orchestrator.results import ResultsTable, Row
from orchestrator.screen import Screen
from orchestrator.state import ExperimentState
from plans.experiment import experiment as experiment_plan
from plans.safe_state import make_safe
from plans.steps import HalfCycleStep, Step
from plans.timing import scan_duration_s

_log = logging.getLogger(__name__)

PACKAGES = ("insitu-ct", "bluesky", "ophyd", "pyepics", "numpy", "h5py", "numba")
DRAIN_TIMEOUT_S = 3600.0
ROTATION_RAMP_S = 1.0  # for the estimate of the time only

Kind = Literal["done", "short_circuit", "stopped", "failed"]
_KINDS: Mapping[str, Kind] = {"completed": "done", "short_circuit": "short_circuit"}


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Attributes
    ----------
    reason : str
        Why, in one line.
    unmeasured : int
        Tomograms whose analysis failed; their frames are safe.
    """

    kind: Kind
    reason: str
    unmeasured: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether it ended as it was meant to."""
        return self.kind in ("done", "short_circuit")


class Session:
    """Everything that runs beside the plans of one experiment, wired together.

    Parameters
    ----------
    experiment : Experiment
        What to do.
    layout : Layout
        Its data folder, made already.
    simulated : bool
        Written into every record of a dry run.
    """

    def __init__(self, experiment: Experiment, layout: Layout, *, simulated: bool):
        self.experiment = experiment
        self.layout = layout
        self.simulated = simulated
        self.state = ExperimentState(experiment.experiment.id, simulated=simulated)
        self.journal = Journal(layout.journal_file)
        self.results = ResultsTable(layout.results_dir)
        self.record = DocumentRecord(layout.documents_file)
        self.live = LiveAnalysis(
            experiment.analysis,
            on_message=self._message,
            log_file=layout.log_file,
        )
        self.archive = Archive(
            layout,
            title=experiment.experiment.title,
            sample=experiment.experiment.sample,
            beamline=experiment.beamline.name,
            on_fault=self._warn,
        )
        self._live_documents = LiveDocuments(self.live, self._scan_of)
        self._scans: dict[str, Row] = {}
        self._report = _ReportWriter(layout)

    # --- the experiment --------------------------------------------------------------

    def run(self, pvs: BeamlinePVs) -> Outcome:
        """Connect, run the plans, measure what is left, and say how it ended.

        Raises
        ------
        RefusedError
            The beamline is not ready; nothing was moved.
        """
        steps = self.experiment.steps
        self._note_session(steps)
        self.state.planned(steps, [self._expected_s(step) for step in steps])
        self.live.start()
        try:
            with Screen(self.state), self._shown_backlog():
                beamline = self._connect(pvs)
                outcome = self._run_plans(beamline, steps)
                outcome = self._finish(outcome)
        except BaseException as error:
            self.journal.add("ended", str(error) or "killed", details=_ended("failed"))
            raise
        finally:
            self.live.close()
            self.archive.close()
            self.record.close()
            self.journal.close()
        return outcome

    def _connect(self, pvs: BeamlinePVs) -> Beamline:
        # A lost IOC is told by the devices; libca would write into the screen.
        epics.ca.disable_ca_messages()
        try:
            beamline = connect_beamline(pvs, self.experiment.beamline.connect_timeout_s)
        except NotConnectedError as error:
            raise RefusedError(str(error)) from error
        beamline.potentiostat.guard = self.experiment.guard
        show_readings(beamline, self.state)
        return beamline

    def _run_plans(self, beamline: Beamline, steps: tuple[Step, ...]) -> Outcome:
        engine = RunEngine({}, context_managers=[], call_returns_result=True)
        engine.subscribe(self.record)  # first: what follows has been recorded
        engine.subscribe(self._live_documents)
        engine.subscribe(self.archive)
        engine.subscribe(self.state.document)
        plan = experiment_plan(
            beamline,
            self.experiment.scan,
            self.experiment.cycling,
            steps,
            self,
            self.layout,
            self._metadata(),
        )
        with _stop_on_signals(engine, self):
            try:
                result = engine(plan)
            except (RunEngineInterrupted, DeviceError, InsituError, OSError) as error:
                _log.exception("the plan ended with an error")
                outcome = Outcome("failed", _one_line(error))
            except Exception as error:  # a fault of ours: safe first, then the report
                _log.exception("the plan ended with an unexpected error")
                outcome = Outcome("failed", f"{type(error).__name__}: {error}")
            else:
                outcome = _outcome(result)
        if not outcome.succeeded:
            self._make_safe(beamline)
        return outcome

    def _make_safe(self, beamline: Beamline) -> None:
        try:
            make_safe(beamline)
        except DeviceError as error:
            _log.exception("the safe state could not be confirmed")
            self.state.alarm(str(error))
            self.journal.add("alarm", str(error))

    def _finish(self, outcome: Outcome) -> Outcome:
        if self.live.waiting:
            self.state.notice(f"{self.live.waiting} tomogram(s) still to be measured")
        if not self.live.drain(DRAIN_TIMEOUT_S):
            self._warn(f"{self.live.waiting} tomogram(s) were not measured in time")
        unmeasured = self.live.failed + self.live.waiting
        outcome = Outcome(outcome.kind, outcome.reason, unmeasured)
        self.journal.add("ended", outcome.reason, details=_ended(outcome.kind))
        self.state.finished(outcome.kind, outcome.reason)
        self._report.wait()
        return outcome

    # --- what the plans say: plans.journal.StepJournal -------------------------------

    def begin(self, step: Step, attempt: int) -> None:
        """Note that a step is about to start."""
        self.journal.begin(step, attempt)
        self.state.begin(step, attempt)

    def done(self, step: Step, attempt: int, outcome: dict[str, object]) -> None:
        """Note that a step ended as it should."""
        self.journal.done(step, attempt, outcome)
        self.state.done(step, attempt, outcome)

    def failed(self, step: Step, attempt: int, reason: str) -> None:
        """Note that an attempt failed."""
        self.journal.failed(step, attempt, reason)
        self.state.failed(step, attempt, reason)

    def decide(self, text: str) -> None:
        """Note a decision."""
        self.journal.decide(text)
        self.state.decide(text)

    # --- what the analysis says ------------------------------------------------------

    def _message(self, message: FromWorker) -> None:
        self.state.message(message)
        match message:
            case TomogramMeasured():
                row = {**self._scans.get(message.scan_id, {}), **message.row}
                self.results.add(row)
                self.journal.add(
                    "measured",
                    message.scan_id,
                    details={"seconds": message.seconds, "row": row},
                )
                self._report.refresh()
            case AnalysisFailed():
                text = f"{message.scan_id}: {message.stage}: {message.reason}"
                self.journal.add("analysis_failed", text)
            case _:
                pass

    def _scan_of(self, start: Mapping[str, Any]) -> ScanStarted:
        """Return what the worker is told of a tomogram; the row gets its context."""
        name = scan_id(start["scan_number"], start["attempt"])
        gross_c, net_c = start["gross_charge_c"], start["net_charge_c"]
        self._scans[name] = {
            "scan_number": start["scan_number"],
            "label": start["label"],
            "attempt": start["attempt"],
            "simulated": self.simulated,
            "start_time_s": start["time"],
            "gross_charge_c": gross_c,
            "net_charge_c": net_c,
        }
        files = {name: Path(path) for name, path in start["raw_files"].items()}
        first, step, number = start["nominal_angles_deg"]
        return ScanStarted(
            scan_id=name,
            scan_number=start["scan_number"],
            label=start["label"],
            attempt=start["attempt"],
            darks_file=files["darks"],
            flats_file=files["flats"],
            projections_file=files["projections"],
            nominal_angles_deg=(float(first), float(step), int(number)),
            pixel_size_um=start["scan"]["pixel_size_um"],
            tomogram_file=self.layout.tomogram_file(start["scan_number"]),
            preview_dir=self.layout.preview_dir(start["scan_number"]),
            lithium_volume_um3=lithium_volume_um3(gross_c),
            lithium_volume_net_um3=lithium_volume_um3(net_c),
        )

    # --- helpers ---------------------------------------------------------------------

    def _metadata(self) -> dict[str, Any]:
        section = self.experiment.experiment
        return {
            "experiment_id": section.id,
            "title": section.title,
            "sample": section.sample,
            "operators": list(section.operators),
            "proposal": section.proposal,
            "beamline": self.experiment.beamline.name,
            "simulated": self.simulated,
        }

    def _note_session(self, steps: tuple[Step, ...]) -> None:
        self.journal.add(
            "session",
            f"{len(steps)} steps" + (", SIMULATED" if self.simulated else ""),
            details={
                "simulated": self.simulated,
                "experiment_id": self.experiment.experiment.id,
                "pid": os.getpid(),
                "host": platform.node(),
                "python": platform.python_version(),
                "versions": {name: version(name) for name in PACKAGES},
            },
        )

    def _expected_s(self, step: Step) -> float:
        if isinstance(step, HalfCycleStep):
            return step.duration_s + self.experiment.cycling.rest_s
        return scan_duration_s(self.experiment.scan, ROTATION_RAMP_S)

    def _warn(self, text: str) -> None:
        self.journal.add("alarm", text)
        self.state.alarm(text)

    @contextmanager
    def _shown_backlog(self) -> Iterator[None]:
        ended = threading.Event()

        def show() -> None:
            while not ended.wait(0.5):
                self.state.analysis(
                    self.live.waiting, self.live.lag_s, self.live.restarts
                )

        thread = threading.Thread(target=show, name="backlog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class _ReportWriter:
    """Rewrite the report beside the experiment, never two at once."""

    def __init__(self, layout: Layout):
        self._layout = layout
        self._process: subprocess.Popen[bytes] | None = None

    def refresh(self) -> None:
        """Start to rewrite it, unless that is going on already."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()

    def wait(self, timeout_s: float = 120.0) -> None:
        """Wait for one that is being written."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)

    def _start(self) -> subprocess.Popen[bytes] | None:
        command = [sys.executable, "-m", "orchestrator.cli", "report"]
        try:
            with open(self._layout.log_file, "ab") as log:
                process = subprocess.Popen(
                    [*command, str(self._layout.directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is the orchestrator's
                )
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, 15)
        except OSError:
            _log.exception("the report could not be refreshed")
            return None
        return process


@contextmanager
def _stop_on_signals(engine: RunEngine, session: Session) -> Iterator[None]:
    """Turn Ctrl-C and the system's wish to end into a safe stop."""

    def stop(number: int, frame: object) -> None:
        reason = f"stopped by {signal.Signals(number).name}"
        session.state.alarm(f"{reason}: going to the safe state")
        threading.Thread(target=_abort, args=(engine, reason), daemon=True).start()

    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _abort(engine: RunEngine, reason: str) -> None:
    try:
        engine.abort(reason)
    except Exception:  # the plan may have ended in the meantime
        _log.exception("abort (%s)", reason)


def _outcome(result: Any) -> Outcome:
    """Return the outcome of a `RunEngineResult`."""
    ended = result.plan_result
    if result.exit_status != "success" or ended is None:
        error = result.exception
        reason = result.reason or (
            _one_line(error) if error else "the plan ended early"
        )
        kind: Kind = "stopped" if result.exit_status == "abort" else "failed"
        return Outcome(kind, reason)
    return Outcome(_KINDS.get(ended.kind, "stopped"), ended.reason)


def _ended(kind: Kind) -> dict[str, str]:
    return {"outcome": kind}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
