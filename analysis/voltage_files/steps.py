"""A voltage record cut into steps of steady current, and the charge they passed."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.voltage_files.record import VoltageRecord

FARADAY_C_PER_MOL = 96485.33
LITHIUM_MOLAR_MASS_G_PER_MOL = 6.94
LITHIUM_DENSITY_G_PER_CM3 = 0.534

# A current smaller than this part of the record's largest one is no current.
REST_FRAC = 0.02
# A jump by more than this part of the larger current begins a step.
JUMP_FRAC = 0.05
JUMP_NOISE = 8.0  # and by this many times the usual change from row to row
# A step whose current varies less than this around its median is galvanostatic.
STEADY_FRAC = 0.05
INTERRUPT_S = 2.0


@dataclass(frozen=True)
class VoltageStep:
    """Rows ``start`` to ``stop`` (exclusive) of one current.

    Attributes
    ----------
    current_ma : float
        Median; 0 at rest.
    charge_c : float
        Signed.
    galvanostatic : bool
        Whether the current is steady and not zero.
    interrupt_resistance_ohm : float or None
        Drop of the voltage at the interruption of the current, over the current;
        None unless a rest follows within `INTERRUPT_S`. What the cell relaxes until
        the first sample of the rest is in it.
    """

    start: int
    stop: int
    start_s: float
    end_s: float
    current_ma: float
    charge_c: float
    voltage_start_v: float
    voltage_end_v: float
    galvanostatic: bool
    interrupt_resistance_ohm: float | None = None


def find_steps(record: VoltageRecord) -> tuple[VoltageStep, ...]:
    """Cut a record where its current jumps, reverses, starts or stops.

    Parameters
    ----------
    record : VoltageRecord
        With a current.
    """
    current_ma = np.nan_to_num(record.current_ma)
    if record.asked_ma is not None:
        # an instrument told to hold 0 shows an offset, which is no current
        current_ma = np.where(record.asked_ma == 0.0, 0.0, current_ma)
    largest_ma = float(np.abs(current_ma).max(initial=0.0))
    if largest_ma == 0.0:
        edges = np.array([0, len(record)])
    else:
        magnitude_ma = np.abs(current_ma)
        driven = magnitude_ma > REST_FRAC * largest_ma
        sign = np.where(driven, np.sign(current_ma), 0.0)
        larger_ma = np.maximum(magnitude_ma[1:], magnitude_ma[:-1])
        change_ma = np.abs(np.diff(current_ma))
        usual_ma = float(np.median(change_ma)) if len(change_ma) else 0.0
        jump = change_ma > np.maximum(JUMP_FRAC * larger_ma, JUMP_NOISE * usual_ma)
        begins = (np.diff(sign) != 0) | (jump & driven[1:] & driven[:-1])
        if record.step_id is not None:
            begins |= np.diff(record.step_id) != 0
        if record.asked_ma is not None:
            begins |= np.diff(record.asked_ma) != 0
        edges = np.concatenate(([0], np.flatnonzero(begins) + 1, [len(record)]))
    charge_c = cumulative_charge_c(record)
    steps = [
        _step(record, charge_c, current_ma, largest_ma, int(start), int(stop))
        for start, stop in zip(edges[:-1], edges[1:], strict=True)
    ]
    for number, (step, after) in enumerate(itertools.pairwise(steps)):
        steps[number] = replace(
            step, interrupt_resistance_ohm=_interrupt_ohm(step, after)
        )
    return tuple(steps)


def cumulative_charge_c(record: VoltageRecord) -> NDArray[np.float64]:
    """Return the signed charge up to each row, by the trapezoidal rule.

    A time that steps back, as some cyclers write it, passes no charge.
    """
    current_a = np.nan_to_num(record.current_ma) * 1e-3
    duration_s = np.clip(np.nan_to_num(np.diff(record.time_s)), 0.0, None)
    passed_c = 0.5 * (current_a[1:] + current_a[:-1]) * duration_s
    return np.concatenate(([0.0], np.cumsum(passed_c)))


def lithium_volume_um3(charge_c: float) -> float:
    """Return the volume of lithium that a charge plates (um3)."""
    mol = abs(charge_c) / FARADAY_C_PER_MOL
    return mol * LITHIUM_MOLAR_MASS_G_PER_MOL / LITHIUM_DENSITY_G_PER_CM3 * 1e12


def gross_charge_c(record: VoltageRecord) -> float:
    """Return the charge passed in both directions together."""
    return float(np.abs(np.diff(cumulative_charge_c(record))).sum())


def _interrupt_ohm(step: VoltageStep, after: VoltageStep) -> float | None:
    interrupted = step.galvanostatic and after.current_ma == 0
    if not interrupted or after.start_s - step.end_s > INTERRUPT_S:
        return None
    ohm = (step.voltage_end_v - after.voltage_start_v) / (step.current_ma * 1e-3)
    return ohm if math.isfinite(ohm) else None


def _step(
    record: VoltageRecord,
    charge_c: NDArray[np.float64],
    current_ma: NDArray[np.float64],
    largest_ma: float,
    start: int,
    stop: int,
) -> VoltageStep:
    inside = current_ma[start:stop]
    median_ma = float(np.median(inside))
    driven = largest_ma > 0 and abs(median_ma) > REST_FRAC * largest_ma
    spread_ma = float(np.median(np.abs(inside - median_ma)))
    return VoltageStep(
        start=start,
        stop=stop,
        start_s=float(record.time_s[start]),
        end_s=float(record.time_s[stop - 1]),
        current_ma=median_ma if driven else 0.0,
        charge_c=float(charge_c[stop - 1] - charge_c[max(start - 1, 0)]),
        voltage_start_v=float(record.voltage_v[start]),
        voltage_end_v=float(record.voltage_v[stop - 1]),
        galvanostatic=bool(driven and spread_ma < STEADY_FRAC * abs(median_ma))
        and not math.isnan(median_ma),
    )
