"""Rules that decide after each tomogram: go on, or stop after one.

Plain data and one pure function; the YAML section ``rules:`` is a list of them, tried
in order, the first that holds decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Decide = Literal["go on", "stop after a tomogram"]
Quantity = Literal[
    "filling_fraction",
    "crack_volume_um3",
    "crack_fraction",
    "penetrating_voxel_frac",
    "gross_charge_c",
    "net_charge_c",
    "voltage_end_v",
    "polarisation_growth_frac",
    "elapsed_h",
    "free_disk_gb",
    "half_cycle",
]
Comparison = Literal["above", "below"]


class StopRule(BaseModel):
    """One rule over one measured quantity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantity: Quantity = Field(description="what is looked at after each tomogram")
    is_: Comparison = Field(alias="is", description="above or below the threshold")
    threshold: float = Field(description="in the unit that the quantity's name says")
    decide: Decide = Field(
        default="stop after a tomogram", description="what follows when it holds"
    )
    times: int = Field(
        default=1, ge=1, le=100, description="tomograms in a row for which it must hold"
    )

    def __str__(self) -> str:
        """Return the rule as one reads it."""
        often = f" {self.times} times in a row" if self.times > 1 else ""
        return f"{self.quantity} {self.is_} {self.threshold:g}{often}: {self.decide}"


@dataclass(frozen=True)
class Decision:
    """What was decided and why, for the journal."""

    decide: Decide
    reason: str


def decide(
    rules: Sequence[StopRule], history: Sequence[Mapping[str, float | None]]
) -> Decision:
    """Decide after a step.

    Parameters
    ----------
    rules : sequence of StopRule
        Tried in order.
    history : sequence of mapping
        What was measured after each step, the last one last; None or no entry where
        a quantity could not be measured, which never makes a rule hold.

    Returns
    -------
    Decision
        Of the first rule that holds; to go on if none does.
    """
    for rule in rules:
        values = [row.get(rule.quantity) for row in history[-rule.times :]]
        if len(values) == rule.times and all(_holds(rule, value) for value in values):
            shown = ", ".join(f"{value:.4g}" for value in values if value is not None)
            return Decision(rule.decide, f"{rule} ({rule.quantity} is {shown})")
    return Decision("go on", "no rule holds")


def unmeasured(
    rules: Sequence[StopRule], row: Mapping[str, float | None]
) -> tuple[str, ...]:
    """Return the quantities that rules ask for and a step did not give."""
    asked = dict.fromkeys(rule.quantity for rule in rules)
    return tuple(name for name in asked if row.get(name) is None)


def _holds(rule: StopRule, value: float | None) -> bool:
    if value is None:
        return False
    if rule.is_ == "above":
        return value > rule.threshold
    return value < rule.threshold
