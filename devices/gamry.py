"""Gamry Interface 1000E through the vendor's Python toolkit (``toolkitpy``).

Written against the toolkit's documented calls and tested against a fake that checks
their order, units and ranges; it has **not met hardware yet**. ``docs/potentiostat.md``
lists what to try first on a dummy cell.

Wiring: working and working sense leads on the electrode opposite the one named anode,
counter and reference on the anode. With the anodic convention a positive current then
charges the cell, which plates lithium on the anode, and shows a positive voltage.

The current is a two-step signal that the instrument's own processor plays: the asked
current for the asked time, then 0 A. Should this computer die meanwhile, the current
stops by itself; the relay then still waits for a person.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from .potentiostat_driver import (
    EndReason,
    GalvanostaticStep,
    InstrumentIdentity,
    InstrumentLimits,
    InstrumentStatus,
    Sample,
    StepState,
)

LIMITS = InstrumentLimits(max_current_ma=1000.0, max_voltage_v=12.0)
SAMPLE_PERIOD_S = 0.1
REST_PERIOD_S = 1.0
RELAXATION_S = 30.0  # sampled fast, the rest of an open circuit slowly
# Room for every sample of a step, and some: a full curve loses what comes after.
SPARE_ROWS = 1000
MOST_ROWS = 10_000_000
OVERLOADS = 3  # samples in a row with an overload that count as compliance


class GamryInstrument:
    """One instrument; every call from the thread that made it.

    Parameters
    ----------
    toolkit : module
        ``toolkitpy``, or a stand-in with the same calls.
    section : str, optional
        Name of the instrument; the only one if not given.
    now_s : callable
        The instrument computer's clock.
    """

    def __init__(
        self,
        toolkit: Any,
        section: str | None = None,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._toolkit = toolkit
        self._now_s = now_s
        toolkit.toolkitpy_init("insitu-ct")
        sections = list(toolkit.enum_sections())
        if section is None and len(sections) != 1:
            raise ValueError(
                f"{len(sections)} Gamry instruments are connected "
                f"({', '.join(sections)}); name the one to use"
            )
        if section is not None and section not in sections:
            raise ValueError(
                f"no Gamry instrument {section}; connected are "
                f"{', '.join(sections) or 'none'}"
            )
        self._pstat = toolkit.Pstat(section or sections[0])
        self._pstat.set_cell(toolkit.CELL_OFF)
        self.identity = InstrumentIdentity(
            "Gamry",
            str(self._pstat.label()),
            str(self._pstat.serial_no()),
            simulated=False,
        )
        self._step: GalvanostaticStep | None = None
        self._curve: Any = None
        self._signal: Any = None
        self._rows = 0
        self._overloads = 0
        self._last_id = 0
        self._step_id = 0
        self._state = StepState.IDLE
        self._end_reason = EndReason.NONE
        self._relay_closed = False
        self._started_s = 0.0
        self._rested_s = -math.inf
        self._opened_s = -math.inf
        self._elapsed_s = 0.0
        self._charge_c = 0.0
        self._gross_c = 0.0
        self._net_c = 0.0
        self._last: Sample | None = None
        self._message = ""

    def arm(self, step: GalvanostaticStep) -> None:
        """Load the step's signal into the instrument; the cell stays off."""
        self.check(step)
        if self._state is StepState.FAULT:
            raise RuntimeError(f"the instrument is at fault: {self._message}")
        if self._state is StepState.RUNNING:
            raise RuntimeError(
                f"step {self._step_id} is running; open the relay before arming "
                f"step {step.id}"
            )
        toolkit, pstat = self._toolkit, self._pstat
        pstat.set_cell(toolkit.CELL_OFF)
        self._release_curve()
        pstat.set_ctrl_mode(toolkit.GSTATMODE)
        pstat.set_i_convention(toolkit.ICONVENTION.ANODIC)
        pstat.set_pos_feed_enable(False)
        pstat.set_irupt_mode(toolkit.IRUPTOFF)
        pstat.set_ie_stability(toolkit.STABILITY_NORM)
        pstat.set_ca_speed(toolkit.CASPEED_NORM)
        pstat.set_ground(toolkit.FLOAT)
        pstat.set_vch_range(LIMITS.max_voltage_v)
        pstat.set_vch_range_mode(True)
        pstat.set_vch_offset_enable(False)
        pstat.set_ich_range_mode(True)
        pstat.set_ich_offset_enable(False)
        # a range that changes mid-step would show a step of its own in the voltage
        current_a = step.current_ma * 1e-3
        pstat.set_ie_range(pstat.test_ie_range(abs(current_a)))
        pstat.set_ie_range_mode(False)
        rows = math.ceil(step.duration_s / SAMPLE_PERIOD_S) + SPARE_ROWS
        self._curve = toolkit.ChronoCurve(pstat, rows)
        self._signal = pstat.signal_d_step_new(
            current_a,
            SAMPLE_PERIOD_S,
            current_a,
            step.duration_s - SAMPLE_PERIOD_S,
            0.0,
            SAMPLE_PERIOD_S,
            SAMPLE_PERIOD_S,
            toolkit.GSTATMODE,
        )
        pstat.set_signal_d_step(self._signal)
        pstat.init_signal()
        self._step = step
        self._state = StepState.ARMED
        self._message = ""

    def check(self, step: GalvanostaticStep) -> None:
        """Refuse a step that the instrument cannot run."""
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
        longest_s = (MOST_ROWS - SPARE_ROWS) * SAMPLE_PERIOD_S
        if not 2 * SAMPLE_PERIOD_S < step.duration_s <= longest_s:
            raise ValueError(
                f"step {step.id}: duration_s is {step.duration_s:g}; the instrument "
                f"plays {2 * SAMPLE_PERIOD_S:g} to {longest_s:g} s"
            )

    def start(self) -> None:
        """Turn the cell on and play the signal."""
        if self._step is None or self._state is not StepState.ARMED:
            raise RuntimeError("no step is armed; arm one before starting it")
        self._step_id = self._last_id = self._step.id
        self._end_reason = EndReason.NONE
        self._rows = self._overloads = 0
        self._elapsed_s = self._charge_c = 0.0
        self._last = None
        self._pstat.set_cell(self._toolkit.CELL_ON)
        self._relay_closed = True
        self._started_s = self._now_s()
        self._state = StepState.RUNNING
        self._curve.run(True)

    def open_relay(self, reason: EndReason) -> None:
        """Turn the cell off, before anything else and whatever stands."""
        self._pstat.set_cell(self._toolkit.CELL_OFF)
        self._relay_closed = False
        if self._curve is not None and self._state is StepState.RUNNING:
            self._curve.stop()
        if self._state is StepState.ARMED:
            self._state = StepState.IDLE
        if self._state is StepState.RUNNING:
            self._state = StepState.DONE
            self._end_reason = reason
            self._opened_s = self._now_s()
        self._step = None

    def service(self) -> list[Sample]:
        """Fetch new samples and end the step where it must end."""
        if not self._toolkit.pstat_is_valid(self._pstat):
            self._message = "the instrument does not answer; check its USB lead"
            self._state = StepState.FAULT
            self._end_reason = EndReason.FAULT
            self._relay_closed = False
            return []
        if self._state is StepState.RUNNING and self._step is not None:
            return self._follow(self._step)
        now_s = self._now_s()
        fast = now_s - self._opened_s < RELAXATION_S
        if now_s - self._rested_s < (SAMPLE_PERIOD_S if fast else REST_PERIOD_S):
            return []
        self._rested_s = now_s
        voltage_v = float(self._pstat.measure_v())
        return [Sample(now_s, voltage_v, 0.0, self._charge_c, False)]

    def status(self) -> InstrumentStatus:
        """Return where the instrument stands."""
        return InstrumentStatus(
            time_s=self._now_s(),
            relay_closed=self._relay_closed,
            state=self._state,
            end_reason=self._end_reason,
            step_id=self._step_id,
            charge_c=self._charge_c,
            elapsed_s=self._elapsed_s,
            gross_charge_c=self._gross_c,
            net_charge_c=self._net_c,
            message=self._message,
        )

    def close(self) -> None:
        """Turn the cell off and let go of the toolkit."""
        self.open_relay(EndReason.STOPPED)
        self._release_curve()
        self._toolkit.toolkitpy_close()

    def _follow(self, step: GalvanostaticStep) -> list[Sample]:
        running = bool(self._curve.running())
        rows = self._curve.acq_data()
        samples = []
        for row in rows[self._rows :]:
            self._rows += 1
            if float(row["time"]) > step.duration_s + 0.5 * SAMPLE_PERIOD_S:
                break  # the 0 A at the end of the signal
            samples.append(self._sample(row))
            reason = self._ends(step, samples[-1], int(row["overload"]))
            if reason is not EndReason.NONE:
                self.open_relay(reason)
                return samples
        if not running or self._now_s() - self._started_s >= step.duration_s:
            self.open_relay(EndReason.ELAPSED)
        return samples

    def _sample(self, row: Any) -> Sample:
        elapsed_s, current_ma = float(row["time"]), 1e3 * float(row["im"])
        last = self._last
        # the toolkit stamps a sample at its end: its current flowed since the last
        passed_c = current_ma * 1e-3 * (elapsed_s - self._elapsed_s)
        if last is not None:
            mean_ma = (last.current_ma + current_ma) / 2
            passed_c = mean_ma * 1e-3 * (elapsed_s - self._elapsed_s)
        self._charge_c += passed_c
        self._net_c += passed_c
        self._gross_c += abs(passed_c)
        self._elapsed_s = elapsed_s
        self._last = Sample(
            self._started_s + elapsed_s,
            float(row["vf"]),
            current_ma,
            self._charge_c,
            True,
        )
        return self._last

    def _ends(
        self, step: GalvanostaticStep, sample: Sample, overload: int
    ) -> EndReason:
        self._overloads = self._overloads + 1 if overload else 0
        over = self._overloads >= OVERLOADS
        if over or abs(sample.voltage_v) >= step.compliance_v:
            return EndReason.COMPLIANCE
        if not step.voltage_min_v <= sample.voltage_v <= step.voltage_max_v:
            return EndReason.VOLTAGE
        if abs(self._charge_c) >= step.charge_limit_c:
            return EndReason.CHARGE
        if self._elapsed_s >= step.duration_s - 1e-9:
            return EndReason.ELAPSED
        return EndReason.NONE

    def _release_curve(self) -> None:
        if self._curve is not None:
            self._curve.free()
        self._curve = self._signal = None
