"""How a pink beam is attenuated: its soft part goes first.

The filtered beam is modelled as a spectrum that rises exponentially from 18 keV to
the palladium edge at 24.35 keV, where the filter cuts it, with the mean energy of
the experiment, 22.3 keV.
"""

import numpy as np
from scipy.optimize import root_scalar

MEAN_KEV = 22.3
_LOW_KEV, _EDGE_KEV = 18.0, 24.35
# Photoelectric absorption by sulfur and phosphorus, which dominates.
_EXPONENT = -2.9
# Largest optical depth of the fit below; the pellet's is 1.6.
_DEEPEST = 4.0


def pink_spectrum() -> tuple[np.ndarray, np.ndarray]:
    """Return energies in keV and the part of the detected beam at each."""
    energy = np.linspace(_LOW_KEV, _EDGE_KEV, 128)

    def weights(scale: float) -> np.ndarray:
        weight = np.exp((energy - _EDGE_KEV) / scale)
        return weight / weight.sum()

    def miss(scale: float) -> float:
        return float((weights(scale) * energy).sum()) - MEAN_KEV

    return energy, weights(float(root_scalar(miss, bracket=(0.5, 20.0)).root))


def hardened_depth(depth: np.ndarray) -> np.ndarray:
    """Return the optical depth that a pink beam shows.

    Parameters
    ----------
    depth : numpy.ndarray
        Optical depth of the electrolyte at the mean energy.

    Returns
    -------
    numpy.ndarray
        ``-log`` of the transmission of the whole spectrum.
    """
    energy, weight = pink_spectrum()
    relative = (energy / MEAN_KEV) ** _EXPONENT
    spread = np.multiply.outer(np.asarray(depth, dtype=float), relative)
    return -np.log(np.exp(-spread) @ weight)


def hardening_polynomial() -> tuple[float, float, float, float]:
    """Return the coefficients of depth, its square, cube and fourth power.

    They fit `hardened_depth` up to a depth of 4 to better than 1e-4.
    """
    depth = np.linspace(0, _DEEPEST, 200)
    powers = depth[:, None] ** np.arange(1, 5)
    first, second, third, fourth = np.linalg.lstsq(
        powers, hardened_depth(depth), rcond=None
    )[0]
    return float(first), float(second), float(third), float(fourth)
