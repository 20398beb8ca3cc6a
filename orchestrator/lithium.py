"""Faraday's law: the volume of lithium that a charge plates."""

FARADAY_C_MOL = 96485.33
LITHIUM_MOLAR_MASS_G_MOL = 6.94
LITHIUM_DENSITY_G_CM3 = 0.534
_UM3_PER_CM3 = 1e12


def plated_volume_um3(charge_c: float) -> float:
    """Return the volume of lithium for a charge (C), with the sign of the charge."""
    moles = charge_c / FARADAY_C_MOL
    return moles * LITHIUM_MOLAR_MASS_G_MOL / LITHIUM_DENSITY_G_CM3 * _UM3_PER_CM3
