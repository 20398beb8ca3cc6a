"""How dark a void in lithium is: by absorption, and after phase retrieval."""

import math
from dataclasses import dataclass

from analysis.measurement.lithium import LITHIUM_G_CM3, LITHIUM_G_MOL

PLANCK_LIGHT_KEV_UM = 1.2398419843320026e-3
ELECTRON_RADIUS_UM = 2.8179403262e-9
AVOGADRO_PER_MOL = 6.02214076e23
ELECTRONS_PER_LITHIUM = 3
LITHIUM_ELECTRONS_PER_UM3 = (
    ELECTRONS_PER_LITHIUM * LITHIUM_G_CM3 / LITHIUM_G_MOL * AVOGADRO_PER_MOL * 1e-12
)


@dataclass(frozen=True)
class VoidOptics:
    """What a void in lithium shows in a volume.

    With ``H = 1 / (1 + (length_px * k)**2)``, ``k`` the angular frequency in radians
    per voxel, a void lowers the grey by ``contrast * (1 - kept * H)``: a phase filter
    shows thin voids fully and wide ones as absorption does.

    Attributes
    ----------
    contrast : float
        Grey, attenuation per voxel, of lithium less that of a thin void.
    length_px : float
        Length of the phase filter; 0 in a volume of attenuation.
    kept : float
        Share of the contrast that a very wide void loses.
    """

    contrast: float
    length_px: float = 0.0
    kept: float = 0.0


def lithium_delta(energy_kev: float) -> float:
    """Return lithium's refractive decrement, far above its absorption edge."""
    wavelength_um = PLANCK_LIGHT_KEV_UM / energy_kev
    density = LITHIUM_ELECTRONS_PER_UM3
    return ELECTRON_RADIUS_UM * wavelength_um**2 * density / (2 * math.pi)


def boundary_delta_beta(
    delta_beta: float, energy_kev: float, solid_per_um: float, lithium_per_um: float
) -> float:
    """Return the ratio that undoes the fringes where electrolyte and lithium meet.

    Parameters
    ----------
    delta_beta : float
        Ratio of delta to beta of the electrolyte.
    energy_kev : float
        Mean photon energy.
    solid_per_um, lithium_per_um : float
        Their linear attenuation, as the tomogram shows it.

    Raises
    ------
    ValueError
        Where the electrolyte does not refract and absorb more than lithium.
    """
    beta_um = PLANCK_LIGHT_KEV_UM / energy_kev / (4 * math.pi)
    delta = delta_beta * solid_per_um * beta_um - lithium_delta(energy_kev)
    beta = (solid_per_um - lithium_per_um) * beta_um
    if delta <= 0 or beta <= 0:
        raise ValueError(
            f"delta_beta {delta_beta:g} and attenuations of {solid_per_um:.3g} and "
            f"{lithium_per_um:.3g} per um make the electrolyte refract less than "
            "lithium; give delta_beta of the electrolyte at this energy"
        )
    return delta / beta


def phase_length_um(delta_beta: float, distance_mm: float, energy_kev: float) -> float:
    """Return the length of the phase filter with these numbers."""
    wavelength_um = PLANCK_LIGHT_KEV_UM / energy_kev
    return math.sqrt(1e3 * distance_mm * wavelength_um * delta_beta / 4 / math.pi)


def phase_optics(
    delta_beta: float,
    distance_mm: float,
    energy_kev: float,
    voxel_um: float,
    lithium_per_um: float,
) -> VoidOptics:
    """Return how a void in lithium shows after phase retrieval with these numbers."""
    wavelength_um = PLANCK_LIGHT_KEV_UM / energy_kev
    refracted = 4 * math.pi * lithium_delta(energy_kev) / (wavelength_um * delta_beta)
    length_um = phase_length_um(delta_beta, distance_mm, energy_kev)
    return VoidOptics(
        contrast=refracted * voxel_um,
        length_px=length_um / voxel_um,
        kept=1 - lithium_per_um / refracted,
    )
