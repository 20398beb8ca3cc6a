"""What a scan used and met, as one event of its run."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

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
        indices = np.array([frame.index for frame in taken.spoilt], np.int64)
        reasons = np.array([frame.reason for frame in taken.spoilt], np.str_)
        self._values["projections_bad_frames"] = (indices, "")
        self._values["projections_bad_reasons"] = (reasons, "")

    def group(self, what: str, group: ReferenceGroup, now_s: float) -> None:
        """Keep which darks or flats are used."""
        note = group.note(now_s)
        units = {"age_s": "s", "ring_current_ma": "mA", "level_counts": "counts"}
        for key, value in note.items():
            if isinstance(value, list):
                value = np.array(value, np.int64)
            self._values[f"{what}_{key}"] = (value, units.get(key, ""))

    def clear(self) -> None:
        """Forget all readings."""
        self._values.clear()

    def read(self) -> dict[str, Any]:
        """Return the readings."""
        now_s = time.time()
        return {
            key: {"value": _plain(value), "timestamp": now_s}
            for key, (value, _unit) in self._values.items()
        }

    def describe(self) -> dict[str, Any]:
        """Describe the readings."""
        described: dict[str, Any] = {}
        for key, (value, unit) in self._values.items():
            if isinstance(value, np.ndarray):
                kind = {
                    "dtype": "array",
                    "dtype_numpy": value.dtype.str,
                    "shape": list(value.shape),
                }
            else:
                kind = {"dtype": _dtype(value), "shape": []}
            units = {"units": unit} if unit else {}
            described[key] = {"source": "plan", **kind, **units}
        return described

    def read_configuration(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Describe nothing."""
        return {}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


def _dtype(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    return "integer" if isinstance(value, int) else "number"
