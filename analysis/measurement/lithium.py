"""Lithium plated, from the measured charge by Faraday's law."""

from dataclasses import dataclass

FARADAY_C_MOL = 96485.33
LITHIUM_G_MOL = 6.94
LITHIUM_G_CM3 = 0.534


def lithium_volume_um3(charge_c: float) -> float:
    """Return the volume of lithium that a charge in coulomb plates, in um3."""
    moles = charge_c / FARADAY_C_MOL
    return moles * LITHIUM_G_MOL / LITHIUM_G_CM3 * 1e12


@dataclass(frozen=True)
class Lithium:
    """Lithium plated up to a tomogram.

    Attributes
    ----------
    gross_um3 : float
        Cumulative over all half-cycles, in both directions.
    net_um3 : float
        Signed: on the anode in excess of the pristine cell.
    relative_sd : float
        Relative uncertainty of the measured charge.
    """

    gross_um3: float
    net_um3: float = 0.0
    relative_sd: float = 0.002
