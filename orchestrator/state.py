"""What an experiment is doing now, gathered from its documents and messages.

`ExperimentState` is fed from several threads (RunEngine, Channel Access, analysis
supervisor) and read by the screen. It keeps what an operator needs and nothing that
grows with the experiment.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.messages import (
    AnalysisFailed,
    FromWorker,
    PreviewReady,
    StageProgress,
    TomogramMeasured,
    WorkerReady,
)
from orchestrator.layout import scan_id
from orchestrator.snapshot import AnalysisStatus, Entry, Level, Progress, Snapshot
from orchestrator.tiled_copy import CopyStatus
from orchestrator.wording import describe_step, summarise_row
from plans.steps import HalfCycleStep, Step, TomogramStep

VOLTAGE_SAMPLES = 240
ENTRIES = 200

_ELECTROCHEMISTRY_READINGS = {
    "potentiostat_voltage_v": "voltage_v",
    "potentiostat_current_ma": "current_ma",
    "potentiostat_charge_c": "charge_c",
}
_BASELINE_READINGS = {
    "source_ring_current": "ring_current_ma",
    "shutter_state": "shutter",
    "potentiostat_relay_readback": "relay",
}
_FRAME_STREAMS = ("darks", "flats", "projections", "flats_after")


@dataclass
class _Run:
    """What the documents of the open run have said so far."""

    start: Mapping[str, Any]
    streams: dict[str, str] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    first_time_s: float | None = None


class ExperimentState:
    """Thread-safe state of one running experiment.

    It has the four methods of a `plans.journal.StepJournal`, so the journal forwards
    each call as it is. No method raises for a document or value it does not know:
    a display never stops an experiment.

    Parameters
    ----------
    experiment_id : str
        Shown at the top of the screen.
    simulated : bool
        Whether the beamline is simulated; the screen says so in large.
    clock : callable
        Wall clock in seconds since the epoch.
    """

    def __init__(
        self,
        experiment_id: str,
        *,
        simulated: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lock = threading.Lock()
        self.changed = threading.Condition(self._lock)
        self._clock = clock
        self._experiment_id = experiment_id
        self._simulated = simulated
        self._started_s = clock()
        self._ended_s: float | None = None
        self._outcome: str | None = None
        self._reason = ""
        self._steps: tuple[Step, ...] = ()
        self._expected_s: dict[int, float] = {}
        self._step: Step | None = None
        self._attempt = 0
        self._step_begun_s: float | None = None
        self._completed: set[int] = set()
        self._failures = 0
        self._elapsed_s: dict[type, list[float]] = {TomogramStep: [], HalfCycleStep: []}
        self._planned_s: dict[type, list[float]] = {TomogramStep: [], HalfCycleStep: []}
        self._run: _Run | None = None
        self._phase = "connecting"
        self._progress: Progress | None = None
        self._readings: dict[str, float | str] = {}
        self._monitored: set[str] = set()
        self._voltages_v: deque[float] = deque(maxlen=VOLTAGE_SAMPLES)
        self._row: Mapping[str, float | int | str | None] = {}
        self._labels: dict[str, str] = {}  # of scans that are not measured yet
        self._analysis = AnalysisStatus()
        self._entries: deque[Entry] = deque(maxlen=ENTRIES)
        self._alarms: deque[Entry] = deque(maxlen=5)
        self._question = ""
        self._copy: CopyStatus | None = None
        self._number = 0

    # --- the plan of the experiment -------------------------------------------

    def planned(self, steps: Sequence[Step], expected_s: Sequence[float]) -> None:
        """Set the steps to come and how long each should take.

        Parameters
        ----------
        steps : sequence of Step
            All steps of the experiment in order, done ones included.
        expected_s : sequence of float
            Experiment time of each step. The wall time of the steps already done
            scales it, so a sped-up simulation shows a true remaining time.
        """
        with self.changed:
            self._steps = tuple(steps)
            self._expected_s = {
                step.index: expected
                for step, expected in zip(steps, expected_s, strict=True)
            }
            self.changed.notify_all()

    def begin(self, step: Step, attempt: int, *, at_s: float | None = None) -> None:
        """Note that a step begins."""
        with self.changed:
            now_s = self._clock() if at_s is None else at_s
            self._step, self._attempt, self._step_begun_s = step, attempt, now_s
            half_cycle = isinstance(step, HalfCycleStep)
            self._phase = "half-cycle" if half_cycle else "preparing the scan"
            self._progress = None
            again = f", attempt {attempt + 1}" if attempt else ""
            self._add("info", f"{describe_step(step)} begins{again}", now_s)

    def done(
        self,
        step: Step,
        attempt: int,
        outcome: Mapping[str, object],
        *,
        at_s: float | None = None,
    ) -> None:
        """Note that a step ended as it should, with what it gave."""
        with self.changed:
            now_s = self._clock() if at_s is None else at_s
            part = "left_s" in outcome
            if (
                self._step_begun_s is not None
                and not part
                and step.index in self._expected_s
                and step.index not in self._completed
            ):
                self._elapsed_s[type(step)].append(now_s - self._step_begun_s)
                self._planned_s[type(step)].append(self._expected_s[step.index])
            if not part:
                self._completed.add(step.index)
            self._end_step()
            reason = outcome.get("end_reason")
            suffix = f": {reason}" if reason else ""
            self._add("good", f"{describe_step(step)} done{suffix}", now_s)

    def failed(
        self, step: Step, attempt: int, reason: str, *, at_s: float | None = None
    ) -> None:
        """Note that an attempt at a step failed, and why."""
        with self.changed:
            self._failures += 1
            self._end_step()
            now_s = self._clock() if at_s is None else at_s
            text = f"{describe_step(step)} attempt {attempt + 1} failed: {reason}"
            self._add("warning", text, now_s)

    def decide(self, text: str, *, at_s: float | None = None) -> None:
        """Note a decision of the program."""
        with self.changed:
            self._add("decision", text, self._clock() if at_s is None else at_s)

    def notice(self, text: str, *, at_s: float | None = None) -> None:
        """Note something the operator may want to know."""
        with self.changed:
            self._add("info", text, self._clock() if at_s is None else at_s)

    def alarm(self, text: str, *, at_s: float | None = None) -> None:
        """Note something the operator must know; it stays on the screen."""
        with self.changed:
            now_s = self._clock() if at_s is None else at_s
            self._add("alarm", text, now_s)
            self._alarms.append(self._entries[-1])

    def ask(self, question: str) -> None:
        """Show a question to the operator; an empty one takes it away."""
        with self.changed:
            self._question = question
            if question:
                self._add("warning", question, self._clock())
            self.changed.notify_all()

    def finished(self, outcome: str, reason: str, *, at_s: float | None = None) -> None:
        """Note the end of the experiment.

        Parameters
        ----------
        outcome : str
            "done", "done_by_rule", "short_circuit", "stopped" or "failed".
        reason : str
            Why it ended, in one line.
        """
        with self.changed:
            now_s = self._clock() if at_s is None else at_s
            self._outcome, self._reason, self._ended_s = outcome, reason, now_s
            self._phase = "ended"
            self._end_step(phase="ended")
            level: Level = "alarm" if outcome == "failed" else "good"
            words = outcome.replace("_", " ")
            suffix = f": {reason}" if reason and reason != words else ""
            self._add(level, f"experiment ended, {words}{suffix}", now_s)

    def identify(
        self, experiment_id: str, *, simulated: bool, started_s: float
    ) -> None:
        """Set what the journal says of a session; the clock of the first one counts."""
        with self.changed:
            self._experiment_id = experiment_id
            self._simulated = self._simulated or simulated
            self._started_s = min(self._started_s, started_s)
            self._outcome, self._reason, self._ended_s = None, "", None
            self.changed.notify_all()

    # --- readings -------------------------------------------------------------

    def reading(self, name: str, value: Any) -> None:
        """Take one value between documents, from a monitor.

        Parameters
        ----------
        name : str
            ``voltage_v, current_ma, charge_c, gross_charge_c, relay, shutter,
            ring_current_ma`` or ``rotation_deg``.
        value : float or str
            In the unit of the name; ``"Open"``, ``"Closed"`` and the like for relay
            and shutter; `NOT_CONNECTED` where it is not known any more.
        """
        with self._lock:  # the screen looks by itself: no need to wake it
            self._monitored.add(name)
            if isinstance(value, str):
                self._readings[name] = value
                return
            for number in _numbers(value)[-1:]:
                self._read(name, number)

    def _read(self, name: str, value: float | str) -> None:
        self._readings[name] = value
        if name == "voltage_v" and isinstance(value, int | float):
            self._voltages_v.append(float(value))

    # --- documents of the RunEngine --------------------------------------------------

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take a document as the RunEngine emits it."""
        handler = {
            "start": self._start,
            "descriptor": self._descriptor,
            "event": self._event,
            "event_page": self._event,
            "stream_datum": self._stream_datum,
            "stop": self._stop,
        }.get(name)
        if handler is None:
            return
        with self.changed:
            handler(doc)
            self.changed.notify_all()

    def _start(self, doc: Mapping[str, Any]) -> None:
        self._run = _Run(doc)
        if doc.get("simulated"):
            self._simulated = True
        gross_c = doc.get("gross_charge_c")
        if isinstance(gross_c, int | float):
            self._from_document("gross_charge_c", gross_c)
        if doc.get("plan_name") == "half_cycle":
            self._phase = "half-cycle"
            self._progress = Progress(
                "half-cycle", 0.0, float(doc.get("duration_s") or math.nan), "s"
            )
        else:
            self._phase = "preparing the scan"
            name = scan_id(
                int(doc.get("scan_number") or 0), int(doc.get("attempt") or 0)
            )
            self._labels[name] = str(doc.get("label", ""))

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        if self._run is None:
            return
        stream = str(doc.get("name", ""))
        self._run.streams[str(doc.get("uid"))] = stream
        if stream in _FRAME_STREAMS:
            # The shutter moves after the baseline, and no document says so.
            if "shutter" not in self._monitored:
                self._readings.pop("shutter", None)
            self._show_frames(stream)

    def _event(self, doc: Mapping[str, Any]) -> None:
        if self._run is None:
            return
        data = doc.get("data") or {}
        stream = self._run.streams.get(str(doc.get("descriptor")), "")
        if stream == "electrochemistry":
            for key, name in _ELECTROCHEMISTRY_READINGS.items():
                for value in _numbers(data.get(key)):
                    self._from_document(name, value)
            closed = _numbers(data.get("potentiostat_relay_closed"))
            if closed:
                self._from_document("relay", "Closed" if closed[-1] else "Open")
            self._show_half_cycle(_numbers(data.get("potentiostat_time_s")))
        elif stream == "baseline":
            for key, value in data.items():
                name = _BASELINE_READINGS.get(key)
                if name is not None and isinstance(value, int | float | str):
                    self._from_document(name, value)

    def _from_document(self, name: str, value: float | str) -> None:
        if name not in self._monitored:
            self._read(name, value)

    def _stream_datum(self, doc: Mapping[str, Any]) -> None:
        if self._run is None:
            return
        stream = self._run.streams.get(str(doc.get("descriptor")), "")
        stop = (doc.get("indices") or {}).get("stop")
        if stream in _FRAME_STREAMS and isinstance(stop, int):
            self._run.frames[stream] = max(stop, self._run.frames.get(stream, 0))
            self._show_frames(stream)

    def _stop(self, doc: Mapping[str, Any]) -> None:
        self._run = None
        self._progress = None
        self._phase = "between steps"

    def _show_frames(self, stream: str) -> None:
        run = self._run
        if run is None:
            return
        self._phase = stream
        asked = math.nan
        if stream == "projections":
            nominal = run.start.get("nominal_angles_deg") or (0, 0, math.nan)
            asked = float(nominal[2])
        else:
            scan = run.start.get("scan") or {}
            number = scan.get(f"num_{stream.removesuffix('_after')}")
            if isinstance(number, int | float):
                asked = float(number)
        self._progress = Progress(stream, run.frames.get(stream, 0), asked, "frames")

    def _show_half_cycle(self, times_s: Sequence[float]) -> None:
        run = self._run
        if run is None or not times_s:
            return
        if run.first_time_s is None:
            run.first_time_s = times_s[0]
        duration_s = float(run.start.get("duration_s") or math.nan)
        elapsed_s = times_s[-1] - run.first_time_s
        self._progress = Progress("half-cycle", elapsed_s, duration_s, "s")

    # --- messages of the analysis worker --------------------------------------

    def message(self, message: FromWorker) -> None:
        """Take a message of the analysis worker."""
        with self.changed:
            now_s = self._clock()
            match message:
                case WorkerReady(seconds):
                    self._analysis = replace(self._analysis, ready=True)
                    self._add("info", f"analysis ready after {seconds:.1f} s", now_s)
                case StageProgress(name, stage, fraction):
                    self._analysis = replace(
                        self._analysis, scan_id=name, stage=stage, fraction=fraction
                    )
                case PreviewReady(name, _, final):
                    if final:
                        self._add("info", f"{name}: preview drawn", now_s)
                case TomogramMeasured():
                    label = self._labels.pop(message.scan_id, None)
                    row = {"label": label, **message.row}
                    self._measured(row)
                    text = f"{message.scan_id}: {summarise_row(row)}"
                    self._add("good", text, now_s)
                case AnalysisFailed(name, stage, reason):
                    self._labels.pop(name, None)
                    self._failed(f"{name}: {stage} failed: {reason}", now_s)
                case _:
                    pass
            self.changed.notify_all()

    def analysis_failed(self, text: str, *, at_s: float | None = None) -> None:
        """Count a scan that could not be measured, and say why."""
        with self.changed:
            self._failed(text, self._clock() if at_s is None else at_s)

    def _failed(self, text: str, at_s: float) -> None:
        self._analysis = replace(
            self._analysis, failed=self._analysis.failed + 1, scan_id="", stage=""
        )
        self._add("warning", text, at_s)

    def measured(self, row: Mapping[str, float | int | str | None]) -> None:
        """Take a row of the results that was measured earlier."""
        with self.changed:
            self._measured(row)
            self.changed.notify_all()

    def _measured(self, row: Mapping[str, float | int | str | None]) -> None:
        self._row = dict(row)
        self._analysis = replace(
            self._analysis,
            ready=True,
            measured=self._analysis.measured + 1,
            scan_id="",
            stage="",
        )

    def analysis(self, waiting: int, lag_s: float, restarts: int = 0) -> None:
        """Set the depth of the analysis queue and the age of its oldest scan.

        Parameters
        ----------
        waiting : int
            Scans that ended and are not measured yet.
        lag_s : float
            How long ago the oldest of them ended.
        restarts : int
            Times the worker died and was started again.
        """
        with self.changed:
            self._analysis = replace(
                self._analysis, waiting=waiting, lag_s=lag_s, restarts=restarts
            )
            self.changed.notify_all()

    def copied(self, status: CopyStatus) -> None:
        """Set how far the copy to Tiled is."""
        with self.changed:
            self._copy = status
            self.changed.notify_all()

    # --- what the screen asks -------------------------------------------------

    def entries_since(self, number: int) -> list[Entry]:
        """Return the log lines after `number`, oldest first."""
        with self._lock:
            return [entry for entry in self._entries if entry.number > number]

    def snapshot(self) -> Snapshot:
        """Return a consistent copy of everything the screen draws."""
        with self._lock:
            now_s = self._clock()
            step = self._step
            order = [planned.index for planned in self._steps]
            position = (
                order.index(step.index) + 1 if step and step.index in order else 0
            )
            return Snapshot(
                experiment_id=self._experiment_id,
                simulated=self._simulated,
                now_s=now_s,
                started_s=self._started_s,
                ended_s=self._ended_s,
                step=step,
                attempt=self._attempt,
                step_begun_s=self._step_begun_s,
                position=position,
                planned=len(self._steps),
                completed=len(self._completed),
                failures=self._failures,
                phase=self._phase,
                progress=self._progress,
                step_remaining_s=self._step_remaining_s(now_s),
                experiment_remaining_s=self._experiment_remaining_s(now_s),
                readings=dict(self._readings),
                voltages_v=tuple(self._voltages_v),
                row=dict(self._row),
                analysis=self._analysis,
                entries=tuple(self._entries),
                alarms=tuple(self._alarms),
                question=self._question,
                copy=self._copy,
                outcome=self._outcome,
                reason=self._reason,
            )

    def _wall_per_expected(self, kind: type) -> float:
        """Wall seconds per expected second, from steps of this kind, else of any."""
        for kinds in ((kind,), (TomogramStep, HalfCycleStep)):
            elapsed_s = sum(sum(self._elapsed_s[k]) for k in kinds)
            planned_s = sum(sum(self._planned_s[k]) for k in kinds)
            if planned_s > 0 and elapsed_s > 0:
                return elapsed_s / planned_s
        return 1.0

    def _expected_wall_s(self, step: Step) -> float | None:
        expected_s = self._expected_s.get(step.index)
        if expected_s is None:
            return None
        return expected_s * self._wall_per_expected(type(step))

    def _step_remaining_s(self, now_s: float) -> float | None:
        if self._step is None or self._step_begun_s is None:
            return None
        expected_s = self._expected_wall_s(self._step)
        if expected_s is None:
            return None
        return max(expected_s - (now_s - self._step_begun_s), 0.0)

    def _experiment_remaining_s(self, now_s: float) -> float | None:
        if not self._steps or self._outcome is not None:
            return None
        total_s = self._step_remaining_s(now_s) or 0.0
        running = self._step.index if self._step else None
        for step in self._steps:
            if step.index not in self._completed and step.index != running:
                total_s += self._expected_wall_s(step) or 0.0
        return total_s

    # --- inside the lock ------------------------------------------------------

    def _end_step(self, phase: str = "between steps") -> None:
        self._step, self._step_begun_s, self._progress = None, None, None
        self._phase = phase

    def _add(self, level: Level, text: str, at_s: float) -> None:
        self._number += 1
        self._entries.append(Entry(self._number, at_s, level, text))
        self.changed.notify_all()


def _numbers(value: Any) -> list[float]:
    """Return the finite numbers of a scalar or a sequence, as floats."""
    if isinstance(value, str) or value is None:
        return []
    values = value if isinstance(value, Iterable) else (value,)
    numbers: list[float] = []
    for item in values:
        try:
            number = float(item)
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            numbers.append(number)
    return numbers
