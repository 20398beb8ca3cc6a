"""What watches a running step: collects every sample once, guards, beats.

It works in the Channel Access callbacks and in one thread of its own, never in the
RunEngine: a blocked or paused RunEngine delays neither the guard nor the end.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from ophyd.status import Status

from .interruption import Interruption
from .potentiostat_driver import EndReason, GalvanostaticStep, StepState
from .potentiostat_outcome import StepOutcome
from .short_circuit import Alarm, CellHealth, GuardSettings, ShortCircuitRules

BLOCK_COLUMNS = 6  # number, time, voltage, current, charge, relay: as the IOC has it
# The instrument ends a step by itself; later than this, the guard does.
OVERRUN_S = 5.0
OVERRUN_CHARGE_FRAC = 0.02
REST_MARGIN_S = 30.0  # wall time: for an instrument that samples slowly at rest
CONFIRM_TIMEOUT_S = 10.0  # wall time for the instrument to say that it has ended


class CollectedSample(NamedTuple):
    """One sample with the orchestrator's time of arrival beside it."""

    arrival_s: float
    time_s: float
    voltage_v: float
    current_ma: float
    charge_c: float
    relay_closed: bool


def _sample(arrival_s: float, row: Sequence[float]) -> CollectedSample:
    _, time_s, voltage_v, current_ma, charge_c, relay = row
    return CollectedSample(
        arrival_s, time_s, voltage_v, current_ma, charge_c, relay > 0.5
    )


class StepWatch:
    """Watches one step from its start to its end.

    Parameters
    ----------
    step : GalvanostaticStep
        The armed step.
    guard : GuardSettings
        Thresholds and what follows each alarm.
    heartbeat_timeout_s : float
        Silence after which the instrument opens the relay (wall time).
    first_number : int
        Running number of the first sample that may belong to the step.
    health : CellHealth
        What is known of the cell from earlier steps and at rest.
    open_relay, beat : callable
        Opens the relay and beats the heart, neither waiting nor reading.
    ended : callable
        Called once, with the outcome.
    """

    def __init__(
        self,
        step: GalvanostaticStep,
        guard: GuardSettings,
        *,
        heartbeat_timeout_s: float,
        first_number: int,
        health: CellHealth,
        open_relay: Callable[[], None],
        beat: Callable[[], None],
        ended: Callable[[StepOutcome], None],
    ) -> None:
        self.step = step
        self.outcome: StepOutcome | None = None
        self._guard = guard
        self._period_s = min(1.0, heartbeat_timeout_s / 5)
        self._put_open = open_relay
        self._beat = beat
        self._ended = ended
        self._rules = ShortCircuitRules(guard, health=health)
        self._rules.begin(step.current_ma, compliance_v=step.compliance_v)
        self._lock = threading.RLock()
        self._pending: list[CollectedSample] = []
        self._next_number = first_number
        self._count = 0
        self._missing = 0
        self._first: CollectedSample | None = None
        self._last: CollectedSample | None = None
        self._ended_time_s = 0.0
        self._rests: list[tuple[float, Status]] = []
        self._integrated_c = 0.0
        self._interruption = Interruption()
        self._acted_on: Alarm | None = None
        self._fault = ""
        self._tripped_s: float | None = None
        self._heard_s = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name=f"potentiostat-step-{step.id}", daemon=True
        )

    def start(self) -> None:
        """Start the watchdog and the heartbeat."""
        self._heard_s = time.monotonic()
        self._thread.start()

    def samples(self, block: np.ndarray) -> None:
        """Take a block of samples; called in the Channel Access callback."""
        rows = np.asarray(block, dtype=float)
        rows = rows[: rows.size // BLOCK_COLUMNS * BLOCK_COLUMNS]
        rows = rows.reshape(-1, BLOCK_COLUMNS)
        arrival_s = time.time()
        with self._lock:
            rows = rows[rows[:, 0] >= self._next_number]
            if not len(rows):
                return
            if self.outcome is not None:
                self._next_number = int(rows[-1, 0]) + 1
                self._relax(arrival_s, rows)
                return
            self._heard_s = time.monotonic()
            self._missing += int(rows[0, 0]) - self._next_number
            self._next_number = int(rows[-1, 0]) + 1
            self._count += len(rows)
            try:
                for row in rows.tolist():
                    self._judge(_sample(arrival_s, row))
            except Exception as error:  # an unguarded cell is worse than a lost step
                self._trip(f"the guard failed: {type(error).__name__}: {error}")

    def finished(
        self,
        state: str,
        end_reason: str,
        charge_c: float,
        elapsed_s: float,
        *,
        confirmed: bool = True,
    ) -> None:
        """Take the end of the step; called in the Channel Access callback."""
        if state not in {StepState.DONE, StepState.FAULT, StepState.IDLE}:
            return
        self._open_relay()
        with self._lock:
            if self.outcome is not None:
                return
            self._rules.end()
            self._ended_time_s = self._last.time_s if self._last else 0.0
            if not self._fault:
                self._fault = self._describe(end_reason)
            first, last = self._first, self._last
            rate = 0.0
            if first and last and last.arrival_s > first.arrival_s:
                rate = (last.time_s - first.time_s) / (last.arrival_s - first.arrival_s)
            ohm, missing = self._resistance()
            self.outcome = StepOutcome(
                step_id=self.step.id,
                end_reason=end_reason,
                charge_c=charge_c,
                integrated_charge_c=self._integrated_c,
                elapsed_s=elapsed_s,
                alarms=self._rules.alarms,
                acted_on=self._acted_on,
                fault=self._fault,
                samples=self._count,
                samples_missing=self._missing,
                clock_offset_s=first.arrival_s - first.time_s if first else 0.0,
                clock_rate=rate,
                ended_s=time.time(),
                interrupt_resistance_ohm=ohm,
                interrupt_resistance_missing=missing,
                confirmed=confirmed,
            )
        self._stop.set()
        self._ended(self.outcome)

    def stopped(self) -> None:
        """Note that the orchestrator itself opened the relay."""
        with self._lock:
            if self.outcome is None and self._tripped_s is None:
                self._tripped_s = time.monotonic()
                self._fault = "stopped by the orchestrator"

    def abandon(self) -> None:
        """End the watchdog without an outcome: the step never started."""
        self._stop.set()

    @property
    def health(self) -> CellHealth:
        """What is known of the cell, for the step after this one."""
        with self._lock:
            return self._rules.health

    def take(self) -> list[CollectedSample]:
        """Return the samples that were not taken yet."""
        with self._lock:
            taken, self._pending = self._pending, []
        return taken

    def rested(self, rest_s: float) -> Status:
        """Return a status that ends `rest_s` after the end, by the instrument."""
        with self._lock:
            status = Status(timeout=rest_s + REST_MARGIN_S)
            last = self._last
            until_s = math.inf if last is None else self._ended_time_s + rest_s
            self._rests.append((until_s, status))
        return status

    def _relax(self, arrival_s: float, rows: np.ndarray) -> None:
        """Keep the samples of an open circuit; nothing is judged there."""
        for row in rows.tolist():
            self._last = _sample(arrival_s, row)
            self._pending.append(self._last)
            measured = self._interruption.take(
                *self._last[1:4], self._last.relay_closed
            )
            if measured and self.outcome is not None:
                ohm, missing = self._resistance()
                self.outcome = replace(
                    self.outcome,
                    interrupt_resistance_ohm=ohm,
                    interrupt_resistance_missing=missing,
                )
        for until_s, status in self._rests[:]:
            if self._last is not None and self._last.time_s >= until_s:
                self._rests.remove((until_s, status))
                if not status.done:
                    status.set_finished()

    def _resistance(self) -> tuple[float, str]:
        """Return the cell's resistance by the cut of the current, or 0 and why not."""
        shorted = (a for a in self._rules.alarms if a.kind == "hard_short")
        unsteady = next(shorted, self._acted_on)
        if unsteady is not None:
            # its voltage under current belongs to another cell than that at rest
            return 0.0, f"no steady voltage as the relay opened: {unsteady}"
        return self._interruption.measured()

    def _open_relay(self) -> None:
        # a lost connection must end neither a callback nor the watchdog; the
        # watchdog tries again, and the silent heartbeat opens the relay meanwhile
        with contextlib.suppress(Exception):
            self._put_open()

    def _describe(self, end_reason: str) -> str:
        planned = {EndReason.ELAPSED, EndReason.CHARGE, EndReason.VOLTAGE}
        if self._acted_on is not None or end_reason in planned:
            return ""
        return {
            EndReason.HEARTBEAT: "the instrument heard no heartbeat and opened",
            EndReason.RELAY: "the relay was opened from outside",
            EndReason.STOPPED: "the step was stopped from outside",
            EndReason.COMPLIANCE: "the source reached its compliance voltage",
        }.get(EndReason(end_reason), "the instrument reports a fault")

    def _judge(self, sample: CollectedSample) -> None:
        last, self._last = self._last, sample
        self._interruption.take(*sample[1:4], sample.relay_closed)
        if self._first is None and sample.relay_closed:
            self._first = sample
        self._pending.append(sample)
        if last is not None and last.relay_closed:
            mean_ma = (last.current_ma + sample.current_ma) / 2
            if not sample.relay_closed:
                mean_ma = 0.0
            self._integrated_c += mean_ma * 1e-3 * (sample.time_s - last.time_s)
        for alarm in self._rules.feed(
            sample.time_s, sample.voltage_v, sample.current_ma, sample.relay_closed
        ):
            self._act(alarm)
        if self._first is None or not sample.relay_closed:
            return
        elapsed_s = sample.time_s - self._first.time_s
        limit_c = abs(self.step.charge_c) * (1 + OVERRUN_CHARGE_FRAC)
        if elapsed_s > self.step.duration_s + OVERRUN_S:
            self._trip(f"the instrument drove for {elapsed_s:.6g} s instead of ending")
        elif abs(self._integrated_c) > limit_c:
            self._trip(
                f"{self._integrated_c:.6g} C passed where {self.step.charge_c:.6g} C "
                "were asked"
            )

    def _act(self, alarm: Alarm) -> None:
        if alarm.action == "warn" or self._tripped_s is not None:
            return
        self._acted_on = alarm
        self._trip("")

    def _trip(self, fault: str) -> None:
        self._open_relay()
        if self._tripped_s is None:
            self._tripped_s = time.monotonic()
            self._fault = fault

    def _watch(self) -> None:
        while not self._stop.wait(self._period_s):
            with self._lock:
                if self.outcome is not None:
                    return
                silent_s = time.monotonic() - self._heard_s
                if self._tripped_s is not None:
                    self._open_relay()
                    if time.monotonic() - self._tripped_s > CONFIRM_TIMEOUT_S:
                        self._give_up()
                    continue
                if silent_s > self._guard.stale_after_s:
                    last_s = self._last.time_s if self._last else math.nan
                    for alarm in self._rules.lost(
                        last_s, f"no sample arrived for {silent_s:.1f} s"
                    ):
                        self._act(alarm)
                    continue
            # a lost connection must not end the watchdog
            with contextlib.suppress(Exception):
                self._beat()

    def _give_up(self) -> None:
        """End without the instrument's count of the charge: it does not answer."""
        self._fault = (
            f"{self._fault or self._acted_on}; the instrument did not confirm an open "
            f"relay within {CONFIRM_TIMEOUT_S:g} s: its heartbeat timeout opens it, "
            "check it at the cell"
        )
        elapsed_s = 0.0
        if self._first and self._last:
            elapsed_s = self._last.time_s - self._first.time_s
        self.finished(
            StepState.FAULT,
            EndReason.FAULT,
            self._integrated_c,
            elapsed_s,
            confirmed=False,
        )
