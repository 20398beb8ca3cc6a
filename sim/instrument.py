"""The virtual potentiostat: a driver around the virtual cell and the simulated clock.

It alone moves the cell through time. A step ends at its exact instant in simulated
time, between two polls if need be, so the charge it passes depends neither on how
often it is polled nor on how fast the clock runs.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from devices.potentiostat_driver import (
    EndReason,
    GalvanostaticStep,
    InstrumentIdentity,
    InstrumentLimits,
    InstrumentStatus,
    Sample,
    StepState,
)

LIMITS = InstrumentLimits(max_current_ma=1000.0, max_voltage_v=12.0)
SHORT_RESISTANCE_OHM = 5.0
SOFT_SHORT_VOLTAGE_FRAC = 0.4
COMPLIANCE_CURRENT_FRAC = 0.6
JUMP_V = 5e-3
BURST_S = 0.5
BURST_PERIOD_S = 5e-3
RELAXATION_S = 30.0  # sampled fast, the rest of an open circuit slowly


class Cell(Protocol):
    """The part of `sim.cell.VirtualCell` that a potentiostat touches."""

    def advance(self, duration_s: float, current_ma: float, relay_closed: bool) -> None:
        """Live through `duration_s` at a constant current."""
        ...

    def measure_voltage_v(self, current_ma: float, relay_closed: bool) -> float:
        """Return one reading of the voltage at the terminals, noise included."""
        ...


@dataclass
class InstrumentFaults:
    """What may be wrong at the instrument or its leads; set while it runs.

    Attributes
    ----------
    wrong_polarity : bool
        The sense leads are swapped: the voltage has the wrong sign.
    open_circuit : bool
        A lead is off: no current flows and the source runs to its compliance.
    compliance : bool
        The cell's resistance is so large that the source reaches its compliance.
    stale : bool
        No new samples arrive, although the step goes on.
    short : bool
        A metallic path of a few ohms lies across the cell.
    soft_short : bool
        A leaky path takes most of the current.
    """

    wrong_polarity: bool = False
    open_circuit: bool = False
    compliance: bool = False
    stale: bool = False
    short: bool = False
    soft_short: bool = False


class VirtualInstrument:
    """A potentiostat driver whose cell is computed.

    Parameters
    ----------
    cell : Cell
        Advanced by nobody else.
    now_s : callable
        Simulated seconds since the Unix epoch; may stand still, never runs backwards.
    sample_period_s, rest_period_s : float
        Time between samples with the relay closed and open.

    Attributes
    ----------
    faults : InstrumentFaults
        Set while it runs.
    on_relay_open, on_relay_close : callable, optional
        Called each time the relay goes from closed to open, and when it was closed,
        from within the instrument: they must not call it back.
    """

    def __init__(
        self,
        cell: Cell,
        now_s: Callable[[], float],
        *,
        sample_period_s: float = 0.1,
        rest_period_s: float = 1.0,
    ) -> None:
        if sample_period_s <= 0 or rest_period_s <= 0:
            raise ValueError(
                f"sample_period_s is {sample_period_s:g}, rest_period_s "
                f"{rest_period_s:g}; both must be greater than 0"
            )
        self.faults = InstrumentFaults()
        self.on_relay_open: Callable[[], None] | None = None
        self.on_relay_close: Callable[[], None] | None = None
        self._cell = cell
        self._now_s = now_s
        self._sample_period_s = sample_period_s
        self._rest_period_s = rest_period_s
        self._time_s = now_s()
        self._opened_s = self._time_s
        self._next_sample_s = self._time_s + rest_period_s
        self._samples: list[Sample] = []
        self._last_sample_s = self._time_s
        self._last_voltage_v = 0.0
        self._burst_until_s = -math.inf
        self._step: GalvanostaticStep | None = None
        self._last_id = 0
        self._step_id = 0
        self._state = StepState.IDLE
        self._end_reason = EndReason.NONE
        self._relay_closed = False
        self._elapsed_s = 0.0
        self._charge_c = 0.0
        self._gross_c = 0.0
        self._net_c = 0.0

    @property
    def identity(self) -> InstrumentIdentity:
        """Say that this is no real instrument."""
        return InstrumentIdentity("insitu-ct", "virtual cell", "0", simulated=True)

    @property
    def limits(self) -> InstrumentLimits:
        """Largest current and voltage."""
        return LIMITS

    @property
    def sample_period_s(self) -> float:
        """Time between samples while a step runs."""
        return self._sample_period_s

    @property
    def relay_closed(self) -> bool:
        """Whether the cell is connected to the source."""
        return self._relay_closed

    def arm(self, step: GalvanostaticStep) -> None:
        """Load a step; see `devices.potentiostat_driver`."""
        if self._state is StepState.RUNNING:
            raise RuntimeError(
                f"step {self._step_id} is running; open the relay before arming "
                f"step {step.id}"
            )
        if step.id <= self._last_id:
            raise ValueError(
                f"step id {step.id} has run before (the last was {self._last_id}); "
                "a step never runs twice"
            )
        if abs(step.current_ma) > LIMITS.max_current_ma:
            raise ValueError(
                f"step {step.id}: current_ma is {step.current_ma:g}; the instrument "
                f"drives at most {LIMITS.max_current_ma:g} mA"
            )
        if step.compliance_v > LIMITS.max_voltage_v:
            raise ValueError(
                f"step {step.id}: compliance_v is {step.compliance_v:g}; the "
                f"instrument applies at most {LIMITS.max_voltage_v:g} V"
            )
        self.catch_up()
        self._step = step
        self._state = StepState.ARMED

    def start(self) -> None:
        """Close the relay and drive the armed step."""
        if self._step is None or self._state is not StepState.ARMED:
            raise RuntimeError("no step is armed; arm one before starting it")
        self.catch_up()
        self._step_id = self._last_id = self._step.id
        self._state = StepState.RUNNING
        self._end_reason = EndReason.NONE
        self._elapsed_s = 0.0
        self._charge_c = 0.0
        self._relay_closed = True
        self._next_sample_s = self._time_s + self._sample_period_s
        self._record()
        if self.on_relay_close is not None:
            self.on_relay_close()

    def step_ahead(self) -> tuple[float, float]:
        """Return how long a step still runs if nothing ends it early, and its current.

        Returns
        -------
        left_s, current_ma : float
        """
        if self._step is None or not self._relay_closed:
            return 0.0, 0.0
        left_s, current_ma, _ = self._left(self._step)
        return left_s, current_ma

    def _left(self, step: GalvanostaticStep) -> tuple[float, float, EndReason]:
        """Return how long a step still runs, its current, and what will end it."""
        current_ma = self._true_current_ma()
        left_s = step.duration_s - self._elapsed_s
        if current_ma:
            charge_left_c = step.charge_limit_c - abs(self._charge_c)
            if charge_left_c / abs(current_ma * 1e-3) < left_s:
                left_s = charge_left_c / abs(current_ma * 1e-3)
                return left_s, current_ma, EndReason.CHARGE
        return left_s, current_ma, EndReason.ELAPSED

    def open_relay(self, reason: EndReason) -> None:
        """Open the relay now; a running step ends with `reason`."""
        self.catch_up()
        if self._state is StepState.ARMED:
            self._state = StepState.IDLE
            self._step = None
        self._end(reason)

    def poll(self) -> list[Sample]:
        """Return the samples that fell due since the last poll.

        Like real cyclers it also samples when the voltage jumps, and then at every
        poll for a while.
        """
        now_s = self._now_s()
        self._take_samples(now_s)
        if self._relay_closed and now_s >= self._last_sample_s + BURST_PERIOD_S:
            self._advance_to(now_s)
            self._sample_jump()
        samples, self._samples = self._samples, []
        return [] if self.faults.stale else samples

    def catch_up(self) -> None:
        """Bring the cell up to the clock, whether or not a sample is due."""
        now_s = self._now_s()
        self._take_samples(now_s)
        self._advance_to(now_s)

    def status(self) -> InstrumentStatus:
        """Return where the instrument stands."""
        return InstrumentStatus(
            time_s=self._time_s,
            relay_closed=self._relay_closed,
            state=self._state,
            end_reason=self._end_reason,
            step_id=self._step_id,
            charge_c=self._charge_c,
            elapsed_s=self._elapsed_s,
            gross_charge_c=self._gross_c,
            net_charge_c=self._net_c,
        )

    def memory(self) -> dict[str, float | int | str]:
        """Return what an instrument keeps when its computer restarts."""
        return {
            "last_id": self._last_id,
            "step_id": self._step_id,
            "state": str(self._state),
            "end_reason": str(self._end_reason),
            "charge_c": self._charge_c,
            "elapsed_s": self._elapsed_s,
            "gross_charge_c": self._gross_c,
            "net_charge_c": self._net_c,
        }

    def restore(self, memory: Mapping[str, Any]) -> None:
        """Take up a memory; a step that was running then has been stopped."""
        self._last_id = int(memory["last_id"])
        self._step_id = int(memory["step_id"])
        self._charge_c = float(memory["charge_c"])
        self._elapsed_s = float(memory["elapsed_s"])
        self._gross_c = float(memory["gross_charge_c"])
        self._net_c = float(memory["net_charge_c"])
        self._state = StepState(memory["state"])
        self._end_reason = EndReason(memory["end_reason"])
        if self._state is StepState.RUNNING:
            self._state = StepState.DONE
            self._end_reason = EndReason.STOPPED
        elif self._state is StepState.ARMED:
            self._state = StepState.IDLE

    def close(self) -> None:
        """Open the relay."""
        self.open_relay(EndReason.STOPPED)

    def _take_samples(self, now_s: float) -> None:
        while self._next_sample_s <= now_s:
            due_s = self._next_sample_s
            self._advance_to(due_s)
            self._record()
            self._check_voltage()
            fast = self._relay_closed or due_s < self._opened_s + RELAXATION_S
            self._next_sample_s = due_s + (
                self._sample_period_s if fast else self._rest_period_s
            )

    def _sample_jump(self) -> None:
        if not self._relay_closed:  # the step ended on the way
            return
        voltage_v = self._voltage_v()
        jumped = abs(voltage_v - self._last_voltage_v) > JUMP_V
        if jumped or self._time_s <= self._burst_until_s:
            self._record(voltage_v)
            self._check_voltage()

    def _advance_to(self, time_s: float) -> None:
        if self._relay_closed and self._step is not None:
            self._drive(self._step, time_s)
        if time_s > self._time_s:
            self._cell.advance(time_s - self._time_s, 0.0, False)
            self._time_s = time_s

    def _drive(self, step: GalvanostaticStep, time_s: float) -> None:
        """Pass current up to `time_s` or to the end of the step, if that is sooner."""
        duration_s = max(0.0, time_s - self._time_s)
        left_s, current_ma, reason = self._left(step)
        ends = duration_s >= left_s
        if ends:
            duration_s = max(0.0, left_s)
        if duration_s > 0:
            self._cell.advance(duration_s, current_ma, True)
            charge_c = current_ma * 1e-3 * duration_s
            self._time_s += duration_s
            self._elapsed_s += duration_s
            self._charge_c += charge_c
            self._net_c += charge_c
            self._gross_c += abs(charge_c)
        if ends:
            self._record()
            self._end(reason)

    def _end(self, reason: EndReason) -> None:
        if self._state is StepState.RUNNING:
            self._state = StepState.DONE
            self._end_reason = reason
        if not self._relay_closed:
            return
        self._relay_closed = False
        self._opened_s = self._time_s
        self._next_sample_s = self._time_s + self._sample_period_s
        if self.on_relay_open is not None:
            self.on_relay_open()

    def _record(self, voltage_v: float | None = None) -> None:
        if voltage_v is None:
            voltage_v = self._voltage_v()
        if abs(voltage_v - self._last_voltage_v) > JUMP_V:
            self._burst_until_s = self._time_s + BURST_S
        self._last_sample_s = self._time_s
        self._last_voltage_v = voltage_v
        self._samples.append(
            Sample(
                self._time_s,
                voltage_v,
                self._true_current_ma() if self._relay_closed else 0.0,
                self._charge_c,
                self._relay_closed,
            )
        )

    def _check_voltage(self) -> None:
        """End the step when its own limits are passed, as the instrument would."""
        if not self._relay_closed or self._step is None:
            return
        voltage_v = self._last_voltage_v
        if abs(voltage_v) >= self._step.compliance_v:
            self._end(EndReason.COMPLIANCE)
        elif not self._step.voltage_min_v <= voltage_v <= self._step.voltage_max_v:
            self._end(EndReason.VOLTAGE)

    def _true_current_ma(self) -> float:
        if self._step is None or self.faults.open_circuit:
            return 0.0
        sag = COMPLIANCE_CURRENT_FRAC if self.faults.compliance else 1.0
        return sag * self._step.current_ma

    def _voltage_v(self) -> float:
        current_ma = self._true_current_ma() if self._relay_closed else 0.0
        voltage_v = self._cell.measure_voltage_v(current_ma, self._relay_closed)
        step = self._step
        if self.faults.short:  # a path across the cell, at rest too
            voltage_v = current_ma * 1e-3 * SHORT_RESISTANCE_OHM
        if step is not None and self._relay_closed:
            if self.faults.open_circuit or self.faults.compliance:
                voltage_v = math.copysign(step.compliance_v, step.current_ma)
            elif self.faults.soft_short and not self.faults.short:
                voltage_v *= SOFT_SHORT_VOLTAGE_FRAC
        return -voltage_v if self.faults.wrong_polarity else voltage_v
