"""The steps of a whole experiment, in order: plain arithmetic, no ophyd."""

from .settings import CyclingSettings
from .steps import HalfCycleStep, Step, TomogramStep, half_cycle_label


def schedule(cycling: CyclingSettings, area_cm2: float) -> tuple[Step, ...]:
    """Return the pristine scan, then half-cycle and tomogram in turn.

    Parameters
    ----------
    cycling : CyclingSettings
        Number, current density and duration of the half-cycles.
    area_cm2 : float
        Electrode area.
    """
    steps: list[Step] = [TomogramStep(index=0, scan_number=0, label="0")]
    for half_cycle in range(1, cycling.num_half_cycles + 1):
        label = half_cycle_label(half_cycle)
        steps.append(
            HalfCycleStep(
                index=len(steps),
                half_cycle=half_cycle,
                label=label,
                current_ma=cycling.current_ma(half_cycle, area_cm2),
                duration_s=cycling.half_cycle_duration_s,
            )
        )
        steps.append(
            TomogramStep(index=len(steps), scan_number=half_cycle, label=label)
        )
    return tuple(steps)
