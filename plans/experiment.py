"""The whole experiment: half-cycle, open circuit, tomogram, again and again."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import bluesky.plan_stubs as bps
from bluesky.utils import FailedStatus, MsgGenerator

from devices.beamline import Beamline
from devices.errors import BeamLostError, DeviceError
from devices.potentiostat_driver import EndReason
from devices.waiting import SignalStatus

from .failures import cause, describe
from .half_cycle import HalfCycleOutcome, half_cycle
from .journal import StepJournal
from .references import References
from .requests import REQUESTS
from .run import why_ended
from .safe_state import safe_state
from .scan_files import RawFileNames
from .scan_guards import ScanGuards
from .schedule import partial_label
from .settings import CyclingSettings, ScanSettings
from .steps import EXTRA_STEP_INDEX, HalfCycleStep, Step, TomogramStep
from .tidying import tidied, until
from .tomogram import tomogram
from .wishes import NoWishes, Wishes

# What a new attempt can mend; anything else is a fault of the program or the plan.
RETAKEN = (DeviceError, FailedStatus, TimeoutError, FileExistsError)
# Less than this is not worth another step (s).
SHORTEST_STEP_S = 0.1

logger = logging.getLogger(__name__)

EndKind = Literal["completed", "short_circuit", "stopped"]


@dataclass(frozen=True)
class ExperimentOutcome:
    """Why an experiment ended and how far it came.

    Attributes
    ----------
    kind : str
        ``completed``, ``short_circuit`` or ``stopped``.
    reason : str
        One line.
    half_cycles, tomograms : int
        Steps done in this call.
    gross_charge_c, net_charge_c : float
        Charge passed since the pristine cell: magnitudes added, and signed.
    """

    kind: EndKind
    reason: str
    half_cycles: int
    tomograms: int
    gross_charge_c: float
    net_charge_c: float


def experiment(
    beamline: Beamline,
    scan: ScanSettings,
    cycling: CyclingSettings,
    steps: Sequence[Step],
    journal: StepJournal,
    files: RawFileNames,
    md: Mapping[str, Any] | None = None,
    *,
    gross_charge_c: float = 0.0,
    net_charge_c: float = 0.0,
    attempts: Mapping[int, int] | None = None,
    wishes: Wishes | None = None,
) -> MsgGenerator[ExperimentOutcome]:
    """Cycle the cell and scan it after every half-cycle, until the end or a short.

    One run for each tomogram and each half-cycle (``plan_name`` says which). A
    spoilt tomogram is retaken in a new run; an interrupted half-cycle is continued
    with the time that is left; where the rules ask for more scans, a half-cycle is
    passed in parts, each in a run of its own, with a tomogram between them. After a
    short circuit one last tomogram is taken. However it ends, the cell is at open
    circuit, the shutter closed, the stage and the camera stopped.

    Parameters
    ----------
    beamline : Beamline
        Connected devices.
    scan, cycling : ScanSettings, CyclingSettings
        What to do.
    steps : sequence of Step
        What is still to be done, in order; a scan nobody planned may be among them
        (its index is above `plans.steps.EXTRA_STEP_INDEX`).
    journal : StepJournal
        Told before a step begins and when it has ended.
    files : RawFileNames
        Names the camera's files.
    md : mapping, optional
        Goes into every start document.
    gross_charge_c, net_charge_c : float
        Charge that passed before these steps.
    attempts : mapping, optional
        Number of the first attempt for a step's index, where it is not 0.
    wishes : Wishes, optional
        What the operator and the rules want; asked after every tomogram and before
        each part of a half-cycle.
    """
    _check_steps(steps)
    runner = _Runner(
        beamline,
        scan,
        cycling,
        journal,
        files,
        dict(md or {}),
        dict(attempts or {}),
        gross_charge_c,
        net_charge_c,
        wishes or NoWishes(),
    )

    def plan() -> MsgGenerator[ExperimentOutcome]:
        # A half-cycle or a scan must never be replayed: a pause ends the plan.
        yield from bps.clear_checkpoint()
        return (yield from runner.run(steps))

    return (yield from tidied(plan(), lambda: safe_state(beamline), journal.decide))


class _Runner:
    """Counts of one experiment while its plan runs."""

    def __init__(
        self,
        beamline: Beamline,
        scan: ScanSettings,
        cycling: CyclingSettings,
        journal: StepJournal,
        files: RawFileNames,
        md: dict[str, Any],
        attempts: dict[int, int],
        gross_charge_c: float,
        net_charge_c: float,
        wishes: Wishes,
    ) -> None:
        self.beamline = beamline
        self.scan = scan
        self.cycling = cycling
        self.journal = journal
        self.files = files
        self.md = md
        self.attempts = attempts
        self.gross_charge_c = gross_charge_c
        self.net_charge_c = net_charge_c
        self.wishes = wishes
        self.references = References()
        self.guards = ScanGuards(beamline, scan)
        self.half_cycles = 0
        self.tomograms = 0
        self.resistance_ohm = 0.0
        self.resistance_missing = ""
        self.beam_lost_s = 0.0
        self.next_extra_scan = 0
        self.stopped = ""

    def run(self, steps: Sequence[Step]) -> MsgGenerator[ExperimentOutcome]:
        """Take the steps in order."""
        planned = [s.scan_number for s in steps if isinstance(s, TomogramStep)]
        # Beyond every planned number, so that names never meet.
        self.next_extra_scan = max(planned, default=0) + 1
        before: Step | None = None
        for step in steps:
            if isinstance(step, TomogramStep):
                yield from self._scan(step)
            else:
                # what was begun before a crash is first brought to its tomogram
                begun = before is None and step.index in self.attempts
                if not begun:
                    self._heed_wish(before)
                short = "" if self.stopped else (yield from self._cycle(step))
                if self.stopped:
                    return self._end("stopped", self.stopped)
                if short:
                    return (yield from self._end_shorted(steps, step, short))
            before = step
        return self._end("completed", f"all {len(steps)} steps done")

    def _heed_wish(self, scanned: Step | None) -> None:
        """Note why to stop after the last scan, if anybody asks for it."""
        wish = self.wishes.stop_after_tomogram()
        if wish:
            after = f"after scan {scanned.label}" if scanned else "before the next step"
            self.stopped = f"stopped {after}: {wish}"

    def _end_shorted(
        self, steps: Sequence[Step], step: HalfCycleStep, short: str
    ) -> MsgGenerator[ExperimentOutcome]:
        reason = f"short circuit in half-cycle {step.half_cycle}: {short}"
        self.journal.decide(f"stop: {reason}")
        last = _next_tomogram(steps, step)
        if last is not None and self.cycling.tomogram_after_short:
            yield from self._scan(last)
        return self._end("short_circuit", reason)

    def _end(self, kind: EndKind, reason: str) -> ExperimentOutcome:
        self.journal.decide(f"end: {reason}")
        return ExperimentOutcome(
            kind=kind,
            reason=reason,
            half_cycles=self.half_cycles,
            tomograms=self.tomograms,
            gross_charge_c=self.gross_charge_c,
            net_charge_c=self.net_charge_c,
        )

    def _run_md(self) -> dict[str, Any]:
        return {
            **self.md,
            "gross_charge_c": self.gross_charge_c,
            "net_charge_c": self.net_charge_c,
        }

    def _resistance_md(self) -> dict[str, float | str]:
        """Return the cell's resistance as the last half-cycle ended, or why not."""
        if self.resistance_missing:
            return {"interrupt_resistance_missing": self.resistance_missing}
        if self.resistance_ohm == 0:
            return {}
        return {"interrupt_resistance_ohm": self.resistance_ohm}

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, REQUESTS):
            return why_ended(error, self.wishes)
        return describe(error)

    # --- half-cycles --------------------------------------------------------------

    def _cycle(self, step: HalfCycleStep) -> MsgGenerator[str]:
        """Drive one half-cycle to its end; return the evidence of a short, or "".

        Interrupted, or cut for more scans, it goes on with the time that is left,
        each time as a new run.
        """
        attempt = self.attempts.get(step.index, 0) - 1
        left, faults = step, 0
        while True:
            attempt += 1
            part = self._part(left)
            self.journal.begin(part, attempt)
            try:
                # The dose of the beam must not add to what the current does.
                yield from bps.mv(self.beamline.shutter, "Close")
                outcome = yield from half_cycle(
                    self.beamline,
                    part,
                    self.cycling,
                    attempt=attempt,
                    md=self._run_md(),
                    wishes=self.wishes,
                )
            except BaseException as error:
                self.journal.failed(part, attempt, self._reason(error))
                raise
            self.gross_charge_c += abs(outcome.charge_c)
            self.net_charge_c += outcome.charge_c
            self.resistance_ohm = outcome.interrupt_resistance_ohm
            self.resistance_missing = outcome.interrupt_resistance_missing
            for text in (*outcome.warnings, *map(str, outcome.alarms)):
                self.journal.decide(f"half-cycle {step.half_cycle}: {text}")
            left_s = left.duration_s - outcome.elapsed_s
            interrupted = outcome.fault or outcome.tomogram
            # a voltage limit ends the half-cycle, whatever part of it runs
            cut = part is not left and outcome.end_reason != EndReason.VOLTAGE
            goes_on = (interrupted or cut) and left_s >= SHORTEST_STEP_S
            if outcome.short_circuit or not goes_on:
                self.half_cycles += 1
                self.journal.done(part, attempt, _half_cycle_note(outcome))
                return outcome.short_circuit
            left = replace(left, duration_s=left_s)
            if interrupted:
                self.journal.failed(part, attempt, interrupted)
            else:
                note = {**_half_cycle_note(outcome), "left_s": left_s}
                self.journal.done(part, attempt, note)
            if outcome.fault:
                faults += 1
                self._check_resumable(step, outcome, faults)
            else:
                scanned = yield from self._extra_scan(left)
                self._heed_wish(scanned)
                if self.stopped:
                    return ""
            self.journal.decide(
                f"half-cycle {step.half_cycle} goes on with the {left_s:.1f} s left"
                f" after: {interrupted or 'a part of it'}"
            )

    def _part(self, left: HalfCycleStep) -> HalfCycleStep:
        """Return a half-cycle up to the next scan that is wished for in it."""
        whole_s = self.cycling.half_cycle_duration_s
        shortest_frac = SHORTEST_STEP_S / whole_s
        passed_frac = left.end_frac - left.duration_s / whole_s
        parts = self.wishes.parts()
        end_frac = (math.floor((passed_frac + shortest_frac) * parts) + 1) / parts
        if end_frac > left.end_frac - shortest_frac:
            return left
        return replace(
            left,
            label=partial_label(left.half_cycle, end_frac),
            duration_s=(end_frac - passed_frac) * whole_s,
            end_frac=end_frac,
        )

    def _check_resumable(
        self, step: HalfCycleStep, outcome: HalfCycleOutcome, faults: int
    ) -> None:
        if not outcome.resumable:
            raise DeviceError(
                f"half-cycle {step.half_cycle} cannot be continued: {outcome.fault}"
            )
        if faults >= self.cycling.attempts_max:
            raise DeviceError(
                f"half-cycle {step.half_cycle} was interrupted {faults} times, the last"
                f" time by: {outcome.fault}; look at the potentiostat"
            )

    def _extra_scan(self, left: HalfCycleStep) -> MsgGenerator[TomogramStep]:
        """Scan the cell within a half-cycle of which `left` is still to pass."""
        number = self.next_extra_scan
        while any(path.exists() for path in self.files.raw_files(number, 0).values()):
            number += 1
        self.next_extra_scan = number + 1
        left_frac = left.duration_s / self.cycling.half_cycle_duration_s
        passed_frac = min(max(left.end_frac - left_frac, 0.0), 1.0)
        label = partial_label(left.half_cycle, passed_frac)
        extra = TomogramStep(
            index=EXTRA_STEP_INDEX + number, scan_number=number, label=label
        )
        self.journal.decide(f"extra scan {number} at label {label}")
        yield from self._scan(extra)
        return extra

    # --- tomograms ----------------------------------------------------------------

    def _scan(self, step: TomogramStep) -> MsgGenerator[None]:
        """Take one tomogram, in as many runs as it needs and may have.

        Attempts that a lost beam has spoilt are not counted against the scan.
        """
        attempt = self.attempts.get(step.index, 0) - 1
        failures = 0
        while True:
            attempt += 1
            yield from self._beam(step)
            raw_files = self.files.raw_files(step.scan_number, attempt)
            self.journal.begin(step, attempt)
            try:
                uid = yield from tomogram(
                    self.beamline,
                    self.scan,
                    step,
                    raw_files,
                    attempt=attempt,
                    md=self._run_md() | self._resistance_md(),
                    wishes=self.wishes,
                    references=self.references,
                    guards=self.guards,
                )
            except RETAKEN as error:
                self.journal.failed(step, attempt, describe(error))
                if not isinstance(cause(error), BeamLostError):
                    failures += 1
                if failures >= self.scan.attempts_max:
                    raise
                self.journal.decide(
                    f"retake scan {step.scan_number} as attempt {attempt + 1}"
                )
                # Whatever failed, the cell and the beamline are safe before a retake.
                yield from safe_state(self.beamline)
            except BaseException as error:
                self.journal.failed(step, attempt, self._reason(error))
                raise
            else:
                self.tomograms += 1
                self.journal.done(
                    step,
                    attempt,
                    {
                        "run_uid": uid,
                        "num_projections": self.scan.num_projections,
                        "raw_files": {k: str(v) for k, v in raw_files.items()},
                    },
                )
                return

    def _beam(self, step: TomogramStep) -> MsgGenerator[None]:
        """Wait for the beam, the cell at open circuit, and note the time lost."""
        source: Any = self.beamline.source
        lowest_ma = self.scan.ring_current_min_ma
        current_ma = float(source.ring_current.get())
        if current_ma >= lowest_ma:
            return
        self.journal.decide(
            f"wait for the beam before scan {step.scan_number}, cell at open circuit:"
            f" the ring current is {current_ma:g} mA, below {lowest_ma:g} mA"
        )
        began_s = source.time_s()
        status = SignalStatus(
            source,
            source.ring_current,
            lambda current: current >= lowest_ma,
            timeout_s=max(self.scan.beam_wait_max_s, 1.0),
            what=f"a ring current of {lowest_ma:g} mA",
        )
        yield from until(status)
        lost_s = source.time_s() - began_s
        self.beam_lost_s += lost_s
        self.journal.decide(
            f"the beam is back after {lost_s:.0f} s;"
            f" {self.beam_lost_s:.0f} s lost so far"
        )


def _half_cycle_note(outcome: HalfCycleOutcome) -> dict[str, object]:
    return {
        "charge_c": outcome.charge_c,
        "elapsed_s": outcome.elapsed_s,
        "end_reason": outcome.end_reason,
        "interrupt_resistance_ohm": outcome.interrupt_resistance_ohm,
        "interrupt_resistance_missing": outcome.interrupt_resistance_missing,
        "short_circuit": outcome.short_circuit,
        "fault": outcome.fault,
        "alarms": [str(alarm) for alarm in outcome.alarms],
        "warnings": list(outcome.warnings),
    }


def _next_tomogram(steps: Sequence[Step], step: Step) -> TomogramStep | None:
    """Return the tomogram that follows `step`."""
    following = steps[list(steps).index(step) + 1 :]
    return next((s for s in following if isinstance(s, TomogramStep)), None)


def _check_steps(steps: Sequence[Step]) -> None:
    # a scan nobody planned comes first, with an index above all others
    indices = [step.index for step in steps if step.index < EXTRA_STEP_INDEX]
    if indices != sorted(set(indices)):
        raise ValueError(f"steps have the indices {indices}; each comes once, in order")
    for step in steps:
        if isinstance(step, HalfCycleStep) and (
            step.duration_s <= 0 or step.current_ma == 0
        ):
            raise ValueError(
                f"half-cycle {step.half_cycle} has {step.current_ma:g} mA for"
                f" {step.duration_s:g} s; it needs a current and a positive time"
            )
