"""What an interrupted experiment has done, from its journal and its record.

Pure: it reads entries and documents and moves nothing. The journal says what was
begun and done; the documents say which charge passed and which scans are whole, also
where the power went between a run's last document and the journal's note of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.journal import Entry
from orchestrator.layout import scan_id
from plans.schedule import partial_label
from plans.steps import EXTRA_STEP_INDEX, HalfCycleStep, Step, TomogramStep

SHORTEST_REST_FRAC = 5e-4
"""A half-cycle is done when less than this of its charge is left."""


@dataclass(frozen=True)
class HalfCycleRun:
    """One run of a half-cycle, or of the rest of one.

    Attributes
    ----------
    step_id : int or None
        The instrument's number of the step.
    charge_c : float or None
        Signed charge that passed; None where the run was cut before it was known.
    recorded_c : float
        Charge up to the last sample that was recorded: the least that passed.
    acted_on : str
        What the guard opened the cell for, empty if it did not.
    label : str
        That of the tomogram to follow, if the run ends as planned.
    duration_s : float
        Time that was to pass.
    end_reason : str
        As the instrument gave it; empty where the run was cut.
    scanned : bool
        Whether a tomogram followed.
    """

    run_uid: str
    step_index: int
    attempt: int
    current_ma: float
    gross_before_c: float
    net_before_c: float
    step_id: int | None = None
    charge_c: float | None = None
    recorded_c: float = 0.0
    acted_on: str = ""
    label: str = ""
    duration_s: float = 0.0
    end_reason: str = ""
    scanned: bool = False

    @property
    def passed(self) -> bool:
        """Whether all of the charge passed that this run was to pass."""
        asked_c = abs(self.current_ma) * 1e-3 * self.duration_s
        return 0 < asked_c * (1 - SHORTEST_REST_FRAC) <= abs(self.charge_c or 0.0)


@dataclass(frozen=True)
class ScanRun:
    """One run of a tomogram that closed as success."""

    run_uid: str
    step_index: int
    scan_number: int
    attempt: int

    @property
    def scan_id(self) -> str:
        """Name of the scan, as in its files."""
        return scan_id(self.scan_number, self.attempt)


@dataclass(frozen=True)
class History:
    """What was done so far.

    Attributes
    ----------
    half_cycles : tuple of HalfCycleRun
        In the order they were run.
    scans : dict
        The successful run of each tomogram, by index of the step.
    noted_done : frozenset of int
        Steps that the journal calls done.
    attempts : dict
        Number of the next attempt, by index of the step; only steps ever begun.
    extra_scans : tuple of TomogramStep
        Scans that nobody planned, in the order in which they were first begun.
    measured : frozenset of str
        Scans whose measurement stands.
    ended : str or None
        Outcome noted at the end of the last session, None if it was cut.
    """

    half_cycles: tuple[HalfCycleRun, ...] = ()
    scans: Mapping[int, ScanRun] = field(default_factory=dict)
    noted_done: frozenset[int] = frozenset()
    attempts: Mapping[int, int] = field(default_factory=dict)
    extra_scans: tuple[TomogramStep, ...] = ()
    measured: frozenset[str] = frozenset()
    ended: str | None = None

    @property
    def cut_half_cycles(self) -> tuple[HalfCycleRun, ...]:
        """Runs of which only the instrument knows the charge."""
        return tuple(run for run in self.half_cycles if run.charge_c is None)

    def with_charge(self, run_uid: str, charge_c: float) -> "History":
        """Return the history in which the charge of a cut run is known."""
        runs = tuple(
            replace(run, charge_c=charge_c) if run.run_uid == run_uid else run
            for run in self.half_cycles
        )
        return replace(self, half_cycles=runs)


@dataclass(frozen=True)
class Rest:
    """What is left to do.

    Attributes
    ----------
    steps : tuple of Step
        A half-cycle that was cut has the time left as its duration; a scan that was
        to be taken in the midst of it comes before.
    completed : tuple of Step
        Steps that are done although the journal does not say so yet.
    gross_charge_c, net_charge_c : float
        Charge that has passed.
    short : str
        Evidence of the short circuit that ended the cycling, empty if none did.
    """

    steps: tuple[Step, ...]
    completed: tuple[Step, ...]
    attempts: Mapping[int, int]
    gross_charge_c: float
    net_charge_c: float
    short: str


def read_history(
    entries: Iterable[Entry], documents: Iterable[tuple[str, Mapping[str, Any]]]
) -> History:
    """Return what was done, from a journal and a record."""
    noted_done: set[int] = set()
    attempts: dict[int, int] = {}
    extra_scans: dict[int, TomogramStep] = {}
    measured: set[str] = set()
    ended: str | None = None
    reconciled: dict[str, float] = {}
    for entry in entries:
        if entry.kind == "session":
            ended = None
        elif entry.kind == "ended":
            ended = str(entry.details.get("outcome", "failed"))
        elif entry.kind == "measured":
            measured.add(entry.text)
        elif entry.kind == "reconciled":
            reconciled[entry.details["run_uid"]] = float(entry.details["charge_c"])
        elif entry.step_index is not None and entry.attempt is not None:
            following = entry.attempt + 1
            attempts[entry.step_index] = max(
                following, attempts.get(entry.step_index, 0)
            )
            if entry.kind == "done" and "left_s" not in entry.details:
                noted_done.add(entry.step_index)
            if entry.kind == "begin" and entry.step_index >= EXTRA_STEP_INDEX:
                extra_scans[entry.step_index] = TomogramStep(
                    index=entry.step_index,
                    scan_number=int(entry.details["scan_number"]),
                    label=str(entry.details["label"]),
                )
    runs, scans = _runs(documents)
    for uid, run in runs.items():
        if run.charge_c is None and uid in reconciled:
            runs[uid] = replace(run, charge_c=reconciled[uid])
    return History(
        half_cycles=tuple(runs.values()),
        scans=scans,
        noted_done=frozenset(noted_done),
        attempts=attempts,
        extra_scans=tuple(extra_scans.values()),
        measured=frozenset(measured),
        ended=ended,
    )


def _runs(
    documents: Iterable[tuple[str, Mapping[str, Any]]],
) -> tuple[dict[str, HalfCycleRun], dict[int, ScanRun]]:
    half_cycles: dict[str, HalfCycleRun] = {}
    scans: dict[int, ScanRun] = {}
    starts: dict[str, Mapping[str, Any]] = {}
    run_of: dict[str, str] = {}
    for name, document in documents:
        if name == "start":
            starts[document["uid"]] = document
            if document.get("plan_name") == "half_cycle":
                half_cycles[document["uid"]] = _half_cycle(document)
        elif name == "descriptor":
            run_of[document["uid"]] = document["run_start"]
        elif name in ("event", "event_page"):
            uid = run_of.get(document["descriptor"], "")
            if uid in half_cycles:
                half_cycles[uid] = _with_event(half_cycles[uid], document["data"])
        elif name == "stop" and document["exit_status"] == "success":
            start = starts.get(document["run_start"], {})
            if start.get("plan_name") == "tomogram":
                scans[start["step_index"]] = ScanRun(
                    run_uid=start["uid"],
                    step_index=start["step_index"],
                    scan_number=start["scan_number"],
                    attempt=start["attempt"],
                )
                for uid, run in half_cycles.items():
                    half_cycles[uid] = replace(run, scanned=True)
    return half_cycles, scans


def _half_cycle(start: Mapping[str, Any]) -> HalfCycleRun:
    return HalfCycleRun(
        run_uid=start["uid"],
        step_index=start["step_index"],
        attempt=start["attempt"],
        current_ma=start["current_ma"],
        gross_before_c=start["gross_charge_c"],
        net_before_c=start["net_charge_c"],
        step_id=start.get("potentiostat_step_id"),
        label=str(start.get("label", "")),
        duration_s=float(start.get("duration_s", 0.0)),
    )


def _with_event(run: HalfCycleRun, data: Mapping[str, Any]) -> HalfCycleRun:
    if "potentiostat_end_reason" in data:
        return replace(
            run,
            charge_c=float(_last(data["potentiostat_charge_c"])),
            acted_on=str(_last(data.get("potentiostat_acted_on", ""))),
            end_reason=str(_last(data["potentiostat_end_reason"])),
        )
    if "potentiostat_charge_c" in data:
        recorded = data["potentiostat_charge_c"]
        if not isinstance(recorded, list) or recorded:
            return replace(run, recorded_c=float(_last(recorded)))
    return run


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, list) else value


def what_is_left(
    history: History,
    steps: Sequence[Step],
    guard: Mapping[str, str],
    *,
    tomogram_after_short: bool = True,
) -> Rest:
    """Return what is still to be done.

    Parameters
    ----------
    history : History
        In which every half-cycle's charge is known.
    steps : sequence of Step
        All steps of the experiment in order.
    guard : mapping
        What the guard does at each kind of alarm: ``stop`` ends the cycling.
    tomogram_after_short : bool
        Whether a tomogram follows a short circuit.
    """
    gross_c = net_c = 0.0
    if history.half_cycles:
        last = history.half_cycles[-1]
        charge_c = last.charge_c or 0.0
        gross_c = last.gross_before_c + abs(charge_c)
        net_c = last.net_before_c + charge_c
    left: list[Step] = []
    completed: list[Step] = []
    short = ""
    for step in steps:
        if step.index in history.noted_done or step.index in history.scans:
            rest = None
        elif isinstance(step, HalfCycleStep):
            rest = _rest_of(step, history)
        else:
            rest = step
        shorted = _short(step, history, guard)
        if rest is None or shorted:
            if step.index not in history.noted_done:
                completed.append(step)
        elif not short:
            owed = _owed_scan(step, history, steps, guard)
            left.extend([rest] if owed is None else [owed, rest])
        elif isinstance(rest, TomogramStep):
            if tomogram_after_short:
                left.append(rest)
            break
        short = short or shorted
        if short and isinstance(step, TomogramStep) and rest is None:
            break
    return Rest(
        steps=tuple(left),
        completed=tuple(completed),
        attempts=dict(history.attempts),
        gross_charge_c=gross_c,
        net_charge_c=net_c,
        short=short,
    )


def _rest_of(step: HalfCycleStep, history: History) -> HalfCycleStep | None:
    """Return what is left of a half-cycle, None if nothing is."""
    asked_c = abs(step.current_ma) * 1e-3 * step.duration_s
    passed_c = sum(
        abs(run.charge_c or 0.0)
        for run in history.half_cycles
        if run.step_index == step.index
    )
    limited = any(
        run.step_index == step.index
        and run.end_reason == "Voltage"
        and not run.acted_on
        for run in history.half_cycles
    )
    left_c = asked_c - passed_c
    if limited or left_c <= SHORTEST_REST_FRAC * asked_c:
        return None
    return replace(step, duration_s=step.duration_s * left_c / asked_c)


def _owed_scan(
    step: Step, history: History, steps: Sequence[Step], guard: Mapping[str, str]
) -> TomogramStep | None:
    """Return the scan that was to come before the rest of this half-cycle, if any."""
    if not isinstance(step, HalfCycleStep) or not history.half_cycles:
        return None
    last = history.half_cycles[-1]
    if last.step_index != step.index or last.scanned:
        return None
    for extra in history.extra_scans[-1:]:
        if extra.index not in history.scans and extra.index not in history.noted_done:
            return extra
    asked_for = guard.get(last.acted_on.partition(":")[0].strip()) == "tomogram"
    if not asked_for and not last.passed:
        return None
    label = _label_after(step, history, steps) if asked_for else last.label
    planned = [s.scan_number for s in steps if isinstance(s, TomogramStep)]
    taken = [scan.scan_number for scan in history.extra_scans]
    number = max([*planned, *taken]) + 1
    return TomogramStep(EXTRA_STEP_INDEX + number, scan_number=number, label=label)


def _label_after(step: HalfCycleStep, history: History, steps: Sequence[Step]) -> str:
    """Return the label of a half-cycle as far as it has passed."""
    rest = _rest_of(step, history)
    whole_s = sum(
        other.duration_s
        for other in steps
        if isinstance(other, HalfCycleStep) and other.half_cycle == step.half_cycle
    )
    left_s = rest.duration_s if rest is not None else 0.0
    return partial_label(step.half_cycle, step.end_frac - left_s / whole_s)


def _short(step: Step, history: History, guard: Mapping[str, str]) -> str:
    """Return the evidence if this half-cycle ended in a short circuit."""
    for run in history.half_cycles:
        kind = run.acted_on.partition(":")[0].strip()
        if (
            run.step_index == step.index
            and kind in ("hard_short", "soft_short")
            and guard.get(kind) == "stop"
        ):
            return run.acted_on
    return ""
