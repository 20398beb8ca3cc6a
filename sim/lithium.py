"""Lithium outside the electrolyte: the two foils."""

from dataclasses import dataclass
from math import exp

from sim.cell import CellState
from sim.cell_settings import CellSettings


@dataclass(frozen=True)
class FoilThickness:
    """Thickness of the lithium foils."""

    anode_um: float
    cathode_um: float


def foil_thickness_um(settings: CellSettings, state: CellState) -> FoilThickness:
    """Return the foils' thickness: pristine less the lasting compression."""
    pristine_um = 1e3 * settings.lithium_thickness_mm
    done = 1 - exp(-state.half_cycles / 2 / settings.compression_cycles)
    return FoilThickness(
        anode_um=max(0.0, pristine_um - settings.anode_compression_um * done),
        cathode_um=max(0.0, pristine_um - settings.cathode_compression_um * done),
    )
