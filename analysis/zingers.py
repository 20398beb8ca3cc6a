"""Zingers: single values that a stray photon has brightened."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

REACH_PX = 4
"""A zinger is smaller than this along x."""


def remove_zingers(sinogram: NDArray[np.float32], threshold: float) -> int:
    """Interpolate values far brighter than the same pixel just before and after.

    A value is a zinger if its attenuation is below that of the neighbours at both
    angles beside it, and below that of the pixels a little to the left and right, by
    more than `threshold`: an edge of the sample that passes in one step is bright on
    one side only.

    Parameters
    ----------
    sinogram : ndarray, shape (angle, x), float32
        Attenuation; changed in place.
    threshold : float
        In attenuation: 0.3 is a third brighter.

    Returns
    -------
    int
        Number of values replaced by the mean of the angles before and after.
    """
    if len(sinogram) < 3 or sinogram.shape[1] <= 2 * REACH_PX:
        return 0
    return int(_remove(sinogram, np.float32(threshold)))


@njit(cache=True, nogil=True)
def _remove(sinogram, threshold):
    num_angles, width = sinogram.shape
    before = sinogram[1].copy()
    here = np.empty_like(before)
    found = 0
    for a in range(num_angles):
        line = sinogram[a]
        here[:] = line
        # At the first and the last angle both neighbours are on one side.
        after = sinogram[a + 1] if a + 1 < num_angles else before
        for x in range(width):
            limit = min(before[x], after[x]) - threshold
            if here[x] < limit:
                left = here[x - REACH_PX] if x >= REACH_PX else here[x + REACH_PX]
                right = here[x + REACH_PX] if x + REACH_PX < width else left
                if here[x] < min(left, right) - threshold:
                    line[x] = np.float32(0.5) * (before[x] + after[x])
                    found += 1
        before[:] = here
    return found
