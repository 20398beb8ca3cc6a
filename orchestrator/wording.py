"""What steps, charges and results are called before an operator."""

import math
from collections.abc import Mapping

from plans.steps import HalfCycleStep, Step


def describe_step(step: Step) -> str:
    """Return the operator's name of a step: kind and label."""
    if isinstance(step, HalfCycleStep):
        return f"half-cycle {step.half_cycle} ({step_direction(step)} {step.label})"
    if step.label == "0":
        return "tomogram of the pristine cell"
    return f"tomogram at label {step.label}"


def step_direction(step: HalfCycleStep) -> str:
    """Return "charge" or "discharge": positive current charges the cell."""
    return "charge" if step.current_ma > 0 else "discharge"


def charge_unit(charge_c: float) -> tuple[float, str]:
    """Return the scale and the unit that give a charge of the order of 1 or more."""
    for scale, unit in ((1e3, "mC"), (1e6, "µC")):
        if charge_c == 0 or abs(charge_c) * scale >= 1:
            return scale, unit
    return 1e9, "nC"


def summarise_row(row: Mapping[str, object]) -> str:
    """Return a row of the results in one line: its main number, or why it is not."""
    crack_volume = row.get("crack_volume_um3")
    label = row.get("label")
    head = f"tomogram {label}: " if label is not None else ""
    if not isinstance(crack_volume, int | float) or not math.isfinite(crack_volume):
        return f"{head}not measured: {row.get('reason') or 'no reason given'}"
    text = f"{head}crack volume {crack_volume:.3g} µm³"
    filling = row.get("filling_fraction")
    if isinstance(filling, int | float) and math.isfinite(filling):
        text += f", filling {100 * filling:.2f} %"
    return text
