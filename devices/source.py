"""What the ring and the optics send to the sample: read only."""

from __future__ import annotations

from typing import Any

from ophyd import Device, EpicsSignalRO
from ophyd import FormattedComponent as FCpt


class Source(Device):
    """Ring current, insertion device gap, photon energy, filters."""

    # beam
    ring_current = FCpt(
        EpicsSignalRO, "{ring_current_pv}", kind="hinted", auto_monitor=True
    )
    id_gap = FCpt(EpicsSignalRO, "{id_gap_record}.RBV", kind="normal")
    photon_energy = FCpt(EpicsSignalRO, "{photon_energy_pv}", kind="normal")
    id_gap_unit = FCpt(EpicsSignalRO, "{id_gap_record}.EGU", string=True, kind="config")
    # filters, In or Out
    filter_1 = FCpt(EpicsSignalRO, "{filters_prefix}1", string=True, kind="normal")
    filter_2 = FCpt(EpicsSignalRO, "{filters_prefix}2", string=True, kind="normal")
    filter_3 = FCpt(EpicsSignalRO, "{filters_prefix}3", string=True, kind="normal")
    filter_4 = FCpt(EpicsSignalRO, "{filters_prefix}4", string=True, kind="normal")

    def __init__(
        self,
        prefix: str = "",
        *,
        name: str,
        ring_current_pv: str,
        id_gap_record: str,
        photon_energy_pv: str,
        filters_prefix: str,
        **kwargs: Any,
    ) -> None:
        self.ring_current_pv = ring_current_pv
        self.id_gap_record = id_gap_record
        self.photon_energy_pv = photon_energy_pv
        self.filters_prefix = filters_prefix
        super().__init__(prefix, name=name, **kwargs)

    def time_s(self) -> float:
        """Return the beamline's clock: the last time stamp of the ring current."""
        return float(self.ring_current.timestamp)

    def describe(self) -> Any:
        """Describe the readings; the gap has its record's unit."""
        described: Any = super().describe()
        gap = described[self.id_gap.name]
        if not gap.get("units"):
            # Some servers send a motor's fields without the record's unit.
            gap["units"] = self.id_gap_unit.get()
        return described
