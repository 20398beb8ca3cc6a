"""The stage that takes the sample into and out of the beam: two motor records."""

from __future__ import annotations

from typing import Any

from ophyd import Device
from ophyd import FormattedComponent as FCpt

from .axis import Axis


class SampleStage(Device):
    """Position of the sample across the beam.

    Attributes
    ----------
    x : Axis
        Takes the sample out of the beam for flats (mm).
    y : Axis
        Height of the sample (mm).
    """

    x = FCpt(Axis, "{x_record}", tolerance=0.005)
    y = FCpt(Axis, "{y_record}", tolerance=0.005)

    def __init__(
        self, prefix: str = "", *, name: str, x_record: str, y_record: str, **kw: Any
    ) -> None:
        self.x_record = x_record
        self.y_record = y_record
        super().__init__(prefix, name=name, **kw)
