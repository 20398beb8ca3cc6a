"""What a scan used and met, as one event of its run."""

from __future__ import annotations

import time
from typing import Any

from .projections import Projections
from .references import ReferenceGroup


class Conditions:
    """Readings of stream ``conditions``: ring current, darks and flats in use."""

    parent = None
    name = "conditions"

    def __init__(self) -> None:
        self._values: dict[str, tuple[Any, str]] = {}

    def projections(self, taken: Projections) -> None:
        """Keep the ring current during the projections and which are spoilt, and why.

        The frames stay in their file; whoever reads it leaves them out.
        """
        low_ma, high_ma = taken.ring_current_ma
        self._values["projections_ring_current_low_ma"] = (low_ma, "mA")
        self._values["projections_ring_current_high_ma"] = (high_ma, "mA")
        indices = [frame.index for frame in taken.spoilt]
        reasons = [frame.reason for frame in taken.spoilt]
        self._values["projections_bad_frames"] = (indices, "")
        self._values["projections_bad_reasons"] = (reasons, "")

    def group(self, what: str, group: ReferenceGroup, now_s: float) -> None:
        """Keep which darks or flats are used."""
        note = group.note(now_s)
        units = {"age_s": "s", "ring_current_ma": "mA", "level_counts": "counts"}
        for key, value in note.items():
            self._values[f"{what}_{key}"] = (value, units.get(key, ""))

    def read(self) -> dict[str, Any]:
        """Return the readings."""
        now_s = time.time()
        return {
            key: {"value": value, "timestamp": now_s}
            for key, (value, _unit) in self._values.items()
        }

    def describe(self) -> dict[str, Any]:
        """Describe the readings."""
        described: dict[str, Any] = {}
        for key, (value, unit) in self._values.items():
            is_list = isinstance(value, list)
            dtype = "array" if is_list else _dtype(value)
            described[key] = {
                "source": "plan",
                "dtype": dtype,
                "shape": [len(value)] if is_list else [],
                **({"units": unit} if unit else {}),
            }
            if is_list:
                described[key]["dtype_numpy"] = _dtype_of_list(value)
        return described

    def read_configuration(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Describe nothing."""
        return {}


def _dtype_of_list(values: list[Any]) -> str:
    if values and isinstance(values[0], str):
        return f"<U{max(map(len, values))}"
    return "<i8"


def _dtype(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    return "integer" if isinstance(value, int) else "number"
