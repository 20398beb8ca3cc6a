"""Rules that decide after each tomogram: go on, scan more often, or stop after one.

Plain data and one pure function; the YAML section ``rules:`` is a list of them, tried
in order, the first that holds decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MORE_OFTEN = "scan more often"
STOP = "stop after a tomogram"
Decide = Literal["go on", "scan more often", "stop after a tomogram"]
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


class Rule(BaseModel):
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
    parts: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description="to scan more often: parts of equal charge into which half-cycles"
        " are cut from then on, a tomogram after each",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.decide == MORE_OFTEN) != (self.parts is not None):
            raise ValueError(
                f"decide is '{self.decide}' and parts is {self.parts}; '{MORE_OFTEN}'"
                " needs a number of parts, from 2 to 100, and nothing else takes one"
            )
        return self

    def __str__(self) -> str:
        """Return the rule as one reads it."""
        often = f" {self.times} times in a row" if self.times > 1 else ""
        parts = f", in {self.parts} parts" if self.parts else ""
        holds = f"{self.quantity} {self.is_} {self.threshold:g}{often}"
        return f"{holds}: {self.decide}{parts}"


@dataclass(frozen=True)
class Decision:
    """What was decided and why, for the journal; by which rule, None if none held."""

    decide: Decide
    reason: str
    rule: Rule | None = None


def decide(
    rules: Sequence[Rule],
    history: Sequence[Mapping[str, float | None]],
    parts: int = 1,
) -> Decision:
    """Decide after a step.

    Parameters
    ----------
    rules : sequence of Rule
        Tried in order.
    history : sequence of mapping
        What was measured after each step, the last one last; None or no entry where
        a quantity could not be measured, which never makes a rule hold.
    parts : int
        Into which half-cycles are cut already; a rule that asks for no more of them
        is passed over, so that it does not keep those after it from deciding.

    Returns
    -------
    Decision
        Of the first rule that holds; to go on if none does.
    """
    for rule in rules:
        if rule.parts is not None and rule.parts <= parts:
            continue
        values = [row.get(rule.quantity) for row in history[-rule.times :]]
        if len(values) == rule.times and all(_holds(rule, value) for value in values):
            shown = ", ".join(f"{value:.4g}" for value in values if value is not None)
            return Decision(rule.decide, f"{rule} ({rule.quantity} is {shown})", rule)
    return Decision("go on", "no rule holds")


def unmeasured(
    rules: Sequence[Rule], row: Mapping[str, float | None]
) -> tuple[str, ...]:
    """Return the quantities that rules ask for and a step did not give."""
    asked = dict.fromkeys(rule.quantity for rule in rules)
    return tuple(name for name in asked if row.get(name) is None)


def _holds(rule: Rule, value: float | None) -> bool:
    if value is None:
        return False
    if rule.is_ == "above":
        return value > rule.threshold
    return value < rule.threshold
