"""One experiment from the first process variable to the last tomogram.

Imports ophyd and bluesky: set the EPICS environment before importing this module
(`orchestrator.channel_access`).
"""

import logging
import os
import platform
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted

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
from orchestrator.connection import ConnectionWatch
from orchestrator.errors import InsituError, RefusedError
from orchestrator.hands import OperatorHands
from orchestrator.heap import hand_back
from orchestrator.history import History, Rest, read_history, what_is_left
from orchestrator.journal import Journal
from orchestrator.layout import Layout, scan_id
from orchestrator.live import LiveAnalysis
from orchestrator.live_documents import LiveDocuments, scan_started
from orchestrator.outcome import Kind, Outcome, one_line, outcome_of
from orchestrator.past import show_past
from orchestrator.preflight import preflight, refuse
from orchestrator.readings import show_readings
from orchestrator.reconcile import reconcile
from orchestrator.record import DocumentRecord, read_documents
from orchestrator.report_writer import ReportWriter
from orchestrator.results import ResultsTable, Row
from orchestrator.rulebook import Rulebook
from orchestrator.screen import Screen
from orchestrator.state import ExperimentState
from orchestrator.tiled_process import TiledProcess
from plans.experiment import experiment as experiment_plan
from plans.safe_state import make_safe
from plans.steps import HalfCycleStep, Step, TomogramStep
from plans.timing import scan_duration_s

_log = logging.getLogger(__name__)

PACKAGES = ("insitu-ct", "bluesky", "ophyd", "pyepics", "numpy", "h5py", "numba")
DRAIN_TIMEOUT_S = 3600.0  # for the last tomograms at the end
RECOVERIES_MAX = 20  # from dead IOCs, in one session
UNATTENDED = ("ring_current", "time")
"""Checks that do not end an experiment in which an IOC died and came back: the plan
waits for the beam, and the last scans may still be cut short by hand."""
STOPPED_DRAIN_S = 20.0  # the same where the operator wants to leave
ROTATION_RAMP_S = 1.0  # for the estimate of the time only


class Session:
    """Everything that runs beside the plans of one experiment, wired together.

    Parameters
    ----------
    experiment : Experiment
        What to do.
    layout : Layout
        Its data folder, made already.
    simulated : bool
        Written into every record of a dry run; also set when the potentiostat says
        that it is simulated.
    force : sequence of str
        Names of refusals of the preflight that the operator overrides.
    """

    def __init__(
        self,
        experiment: Experiment,
        layout: Layout,
        *,
        simulated: bool,
        force: Sequence[str] = (),
    ):
        self.experiment = experiment
        self.layout = layout
        self.simulated = simulated
        self.force = tuple(force)
        self.state = ExperimentState(experiment.experiment.id, simulated=simulated)
        self.journal = Journal(layout.journal_file)
        self.results = ResultsTable(layout.results_dir)
        self.record = DocumentRecord(layout.documents_file)
        self.live = LiveAnalysis(
            experiment.analysis_of_cell,
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
        self.hands = OperatorHands(self.state)
        self.rulebook = Rulebook(
            experiment.rules,
            self.hands,
            self.decide,
            lambda: shutil.disk_usage(layout.directory).free,
        )
        self._live_documents = LiveDocuments(self.live, self._scan_of)
        self._scans: dict[str, Row] = {}
        self._report = ReportWriter(layout)
        self._tiled: TiledProcess | None = None
        if experiment.tiled.uri is not None:
            self._tiled = TiledProcess(
                layout, on_status=self.state.copied, warn=self._warn
            )

    # --- the experiment --------------------------------------------------------------

    def run(self, pvs: BeamlinePVs, *, resumed: bool = False) -> Outcome:
        """Connect, run the plans, measure what is left, and say how it ended.

        Parameters
        ----------
        pvs : BeamlinePVs
            Names of the process variables.
        resumed : bool
            Go on with what the journal says is left.

        Raises
        ------
        RefusedError
            The beamline is not ready; nothing was moved.
        """
        steps = self.experiment.steps
        with self._closed_at_the_end():
            past = self._past() if resumed else None
            self._note_session(resumed=resumed)
            self.state.planned(steps, [self._expected_s(step) for step in steps])
            self.live.start()
            if self._tiled is not None:
                self._tiled.start()
            with self.hands, Screen(self.state), self._shown_backlog():
                if past is None:
                    beamline = self._connect(pvs)
                    self._preflight(beamline, steps)
                    outcome = self._drive(beamline, Rest(steps, (), {}, 0.0, 0.0, ""))
                else:
                    outcome = self._go_on(past, pvs)
                return self._finish(outcome)

    @contextmanager
    def _closed_at_the_end(self) -> Iterator[None]:
        """End what was started and close what is open, whatever fails on the way."""
        with ExitStack() as stack:
            stack.callback(self.journal.close)
            stack.callback(self.record.close)
            stack.callback(self.archive.close)
            if self._tiled is not None:
                stack.callback(self._tiled.close)
            stack.callback(self._report.end)
            stack.callback(self.live.close)
            try:
                yield
            except BaseException as error:
                with suppress(InsituError):
                    details = {"outcome": "failed"}
                    self.journal.add("ended", one_line(error), details=details)
                raise

    def _past(self) -> History:
        entries = self.journal.entries()
        self.rulebook.recall(
            read_documents(self.layout.documents_file),
            self.results.rows,
            [entry.details for entry in entries if entry.kind == "decision"],
        )
        return self._read_history()

    def _read_history(self) -> History:
        documents = read_documents(self.layout.documents_file)
        return read_history(self.journal.entries(), documents)

    def _go_on(self, history: History, pvs: BeamlinePVs) -> Outcome:
        show_past(self.journal.entries(), self.experiment.steps, self.state)
        self._catch_up(history)
        rest = self._rest(history)
        if not rest.steps and not history.cut_half_cycles:
            self._note_completed(rest)
            kind: Kind = "short_circuit" if rest.short else "done"
            return Outcome(kind, rest.short or "every step was done already")
        if history.ended == "done_by_rule" and self.rulebook.stop_reason:
            return Outcome(
                "done_by_rule",
                f"{self.rulebook.stop_reason}; to go on all the same, change the rule "
                f"in {self.layout.experiment_file}",
            )
        beamline = self._connect(pvs, self.experiment.beamline.ioc_wait_max_s)
        rest = self._reconciled_rest(beamline, history)
        self.decide(
            f"resumed with {len(rest.steps)} steps left, "
            f"{rest.gross_charge_c:.5g} C passed"
        )
        return self._drive(beamline, rest)

    def _drive(self, beamline: Beamline, rest: Rest) -> Outcome:
        """Run the plans; once more with what is left when a dead IOC came back."""
        watch = ConnectionWatch(beamline)
        outcome = self._run_plans(beamline, rest)
        for _ in range(RECOVERIES_MAX):
            lost = watch.lost()
            if outcome.kind != "failed" or not lost:
                break
            if not self._are_back(beamline, watch, lost):
                if set(lost) - set(watch.lost()):  # some came back meanwhile
                    self._make_safe(beamline)
                break
            try:
                rest = self._reconciled_rest(
                    beamline, self._read_history(), pass_over=UNATTENDED
                )
            except RefusedError as error:
                text = one_line(error)
                if text not in outcome.reason:
                    outcome = replace(outcome, reason=f"{outcome.reason}; then {text}")
                continue  # one that was lost again is waited for again
            watch.lost()  # what the reconciliation found is settled
            self.decide(f"goes on with {len(rest.steps)} steps left")
            outcome = self._run_plans(beamline, rest)
        if outcome.kind == "failed" and (stopped := self.hands.abort_reason()):
            return Outcome("stopped", stopped)
        if outcome.kind == "done" and rest.short:
            return Outcome("short_circuit", rest.short)
        return outcome

    def _are_back(
        self, beamline: Beamline, watch: ConnectionWatch, lost: list[str]
    ) -> bool:
        """Wait for devices whose IOC died; False where they do not come back."""
        longest_s = self.experiment.beamline.ioc_wait_max_s
        if not longest_s or self.hands.abort_reason():
            return False
        names = ", ".join(lost)
        self.decide(f"lost {names}: waiting up to {longest_s:g} s for the IOC")
        began_s = time.monotonic()
        try:
            watch.wait_until_back(longest_s, self.hands.asked_to_end)
        except NotConnectedError as error:
            self._warn(one_line(error))
            return False
        self.decide(f"{names} answer again after {time.monotonic() - began_s:.0f} s")
        return True

    def _reconciled_rest(
        self, beamline: Beamline, history: History, *, pass_over: Sequence[str] = ()
    ) -> Rest:
        """Make the beamline safe, settle what passed, and return what is left."""
        history = reconcile(
            beamline,
            history,
            self.journal,
            silence_s=self.experiment.cycling.heartbeat_timeout_s,
        )
        rest = self._rest(history)
        self._preflight(beamline, rest.steps, pass_over=pass_over)
        self._note_completed(rest)
        return rest

    def _rest(self, history: History) -> Rest:
        rest = what_is_left(
            history,
            self.experiment.steps,
            self.experiment.guard.model_dump(),
            tomogram_after_short=self.experiment.cycling.tomogram_after_short,
        )
        attempts = dict(rest.attempts)
        for step in rest.steps:
            if isinstance(step, TomogramStep):
                first = attempts.get(step.index, 0)
                attempts[step.index] = self.layout.first_free_attempt(
                    step.scan_number, first
                )
        return replace(rest, attempts=attempts)

    def _note_completed(self, rest: Rest) -> None:
        """Let the journal say done of what the record shows to be done."""
        for step in rest.completed:
            attempt = max(rest.attempts.get(step.index, 1) - 1, 0)
            self.done(step, attempt, {"end_reason": "from the record"})

    def _catch_up(self, history: History) -> None:
        """Write the files and repeat the analyses that the end cut off."""
        wanted = {
            scan.run_uid
            for scan in history.scans.values()
            if scan.scan_id not in history.measured
        }
        if wanted:
            self.state.notice(f"{len(wanted)} scan(s) go to the analysis again")
        for name, document in read_documents(self.layout.documents_file):
            self.archive(name, document)
        self._live_documents.replay(read_documents(self.layout.documents_file), wanted)

    def _connect(self, pvs: BeamlinePVs, wait_s: float = 0.0) -> Beamline:
        """Connect; wait so much longer for IOCs that are not up yet."""
        at_once_s = self.experiment.beamline.connect_timeout_s
        told = threading.Timer(
            at_once_s,
            self.state.alarm,
            [f"not every process variable answers: waiting up to {wait_s:g} s more"],
        )
        told.daemon = True
        if wait_s:
            told.start()
        try:
            beamline = connect_beamline(
                pvs, at_once_s + wait_s, give_up=self.hands.asked_to_end
            )
        except NotConnectedError as error:
            if stopped := self.hands.abort_reason():
                raise InsituError(f"{stopped}, while it connected") from error
            raise RefusedError(str(error)) from error
        finally:
            told.cancel()
        beamline.potentiostat.guard = self.experiment.guard
        if not self.simulated and _is_simulated(beamline):
            self.simulated = True
            self._warn("the potentiostat says that it is simulated: so is this run")
        show_readings(beamline, self.state)
        return beamline

    def _preflight(
        self,
        beamline: Beamline,
        steps: Sequence[Step],
        *,
        pass_over: Sequence[str] = (),
    ) -> None:
        findings = preflight(
            self.experiment,
            beamline,
            self.layout.directory,
            steps,
            simulated=self.simulated,
        )
        details = {f.name: {"value": f.value, "verdict": f.verdict} for f in findings}
        self.journal.add("preflight", f"{len(findings)} checks", details=details)
        for finding in refuse(findings, (*self.force, *pass_over)):
            by = "forced by the operator"
            if finding.name not in self.force:
                by = "goes on"
            self.decide(f"{by} over {finding.name}: {finding.value} ({finding.advice})")

    def _run_plans(self, beamline: Beamline, rest: Rest) -> Outcome:
        engine = RunEngine({}, context_managers=[], call_returns_result=True)
        engine.subscribe(self.record)  # first: what follows has been recorded
        engine.subscribe(self._live_documents)
        engine.subscribe(self.archive)
        engine.subscribe(self.rulebook.document)
        engine.subscribe(self.state.document)
        # A week has hundreds of runs.
        engine.subscribe(lambda _name, _document: hand_back(), "stop")
        plan = experiment_plan(
            beamline,
            self.experiment.scan,
            self.experiment.cycling,
            rest.steps,
            self,
            self.layout,
            self._metadata(),
            gross_charge_c=rest.gross_charge_c,
            net_charge_c=rest.net_charge_c,
            attempts=rest.attempts,
            wishes=self.rulebook,
        )
        self.hands.reach(open_cell=beamline.potentiostat.stop, abort=engine.abort)
        try:
            if stopped := self.hands.abort_reason():  # asked while it connected
                return Outcome("stopped", stopped)
            outcome = self._judged(outcome_of(engine(plan)))
        except (RunEngineInterrupted, DeviceError, InsituError, OSError) as error:
            _log.exception("the plan ended with an error")
            outcome = Outcome("failed", one_line(error))
        except Exception as error:  # a fault of ours: safe first, then the report
            _log.exception("the plan ended with an unexpected error")
            outcome = Outcome("failed", f"{type(error).__name__}: {error}")
        finally:
            self.hands.let_go()
        if stopped := self.hands.abort_reason():
            outcome = Outcome("stopped", stopped)
        if not outcome.succeeded:
            self._make_safe(beamline)
        return outcome

    def _judged(self, outcome: Outcome) -> Outcome:
        """Tell an end that the rules asked for from one that the operator wanted."""
        reason = self.rulebook.stop_reason
        by_rule = outcome.kind == "stopped" and reason in outcome.reason
        return replace(outcome, kind="done_by_rule") if reason and by_rule else outcome

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
        self._drain(DRAIN_TIMEOUT_S if outcome.succeeded else STOPPED_DRAIN_S)
        self.live.close()  # what it says meanwhile comes before the end
        if self.live.waiting:
            self._warn(
                f"{self.live.waiting} tomogram(s) are not measured yet; 'insitu-ct "
                f"resume {self.layout.directory}' measures them"
            )
        unmeasured = self.live.failed + self.live.waiting
        outcome = Outcome(outcome.kind, outcome.reason, unmeasured)
        self.journal.add("ended", outcome.reason, details={"outcome": outcome.kind})
        self.state.finished(outcome.kind, outcome.reason)
        return outcome

    def _drain(self, timeout_s: float) -> None:
        """Wait for the analysis; a second wish to end cuts the wait."""
        self.hands.asked_to_end.clear()
        end_s = time.monotonic() + timeout_s
        while self.live.waiting:
            if time.monotonic() > end_s or self.hands.asked_to_end.is_set():
                return
            self.live.drain(0.5)

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

    def decide(self, text: str, details: Mapping[str, Any] | None = None) -> None:
        """Note a decision."""
        self.journal.decide(text, details)
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
                self.rulebook.measured(row)
                self._report.refresh()
            case AnalysisFailed():
                text = f"{message.scan_id}: {message.stage}: {message.reason}"
                self.journal.add("analysis_failed", text)
            case _:
                pass

    def _scan_of(self, start: Mapping[str, Any]) -> ScanStarted:
        """Return what the worker is told of a tomogram; the row gets its context."""
        name = scan_id(start["scan_number"], start["attempt"])
        self._scans[name] = {
            "scan_number": start["scan_number"],
            "label": start["label"],
            "attempt": start["attempt"],
            "simulated": self.simulated,
            "start_time_s": start["time"],
            "gross_charge_c": start["gross_charge_c"],
            "net_charge_c": start["net_charge_c"],
            "interrupt_resistance_ohm": start.get("interrupt_resistance_ohm"),
            "interrupt_resistance_missing": start.get("interrupt_resistance_missing"),
        }
        return scan_started(start, self.layout)

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

    def _note_session(self, *, resumed: bool) -> None:
        text = "resumed" if resumed else "begun"
        self.journal.add(
            "session",
            text + (", SIMULATED" if self.simulated else ""),
            details={
                "resumed": resumed,
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


def _is_simulated(beamline: Beamline) -> bool:
    return beamline.potentiostat.simulated.get() == "Yes"
