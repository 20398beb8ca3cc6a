"""The steps of a whole experiment, in order: plain arithmetic, no ophyd."""

from .settings import CyclingSettings
from .steps import HalfCycleStep, Step, TomogramStep, half_cycle_label


def schedule(cycling: CyclingSettings, area_cm2: float) -> tuple[Step, ...]:
    """Return the pristine scan, then half-cycle and tomogram in turn.

    A half-cycle with sub-steps gives as many pairs; their labels lie between those of
    the whole half-cycles, in proportion to the charge.

    Parameters
    ----------
    cycling : CyclingSettings
        Number, current density, duration and sub-steps of the half-cycles.
    area_cm2 : float
        Electrode area.
    """
    steps: list[Step] = [TomogramStep(index=0, scan_number=0, label="0")]
    for half_cycle in range(1, cycling.num_half_cycles + 1):
        passed = 0.0
        fractions = cycling.fractions(half_cycle)
        for number, fraction in enumerate(fractions, start=1):
            passed += fraction
            last = number == len(fractions)
            label = (
                half_cycle_label(half_cycle)
                if last
                else partial_label(half_cycle, passed)
            )
            steps.append(
                HalfCycleStep(
                    index=len(steps),
                    half_cycle=half_cycle,
                    label=label,
                    current_ma=cycling.current_ma(half_cycle, area_cm2),
                    duration_s=cycling.half_cycle_duration_s * fraction,
                    end_frac=1.0 if last else passed,
                )
            )
            steps.append(
                TomogramStep(
                    index=len(steps), scan_number=(len(steps) + 1) // 2, label=label
                )
            )
    return tuple(steps)


def partial_label(half_cycle: int, fraction: float) -> str:
    """Return the label of a half-cycle of which a fraction has passed.

    Examples
    --------
    >>> partial_label(1, 0.5), partial_label(2, 0.5)
    ('0.75', '1.25')
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction:g}; it lies between 0 and 1")
    return f"{(half_cycle + fraction) / 2:.4g}"
