"""What the beam did between groups of flats, taken out of attenuation.

Frames are normalised as they come, with the flats that came first. Flats that come
later tell how each pixel's beam changed meanwhile; between two groups the change is
interpolated in time. It is the logarithm that is interpolated: the correction is then
a sum of maps, which every linear step of the chain has passed through like a frame,
and it can be added when all frames are in. For a beam that changes by 5 % that is
within 3e-4 of a straight line between the counts.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray


class FlatDrift:
    """Maps of the beam's change, and how much of each a projection has seen.

    Parameters
    ----------
    changes : ndarray, shape (map, y, x), float32
        Attenuation that a later group of flats shows against the first.
    weights : ndarray, shape (angle, map), float32
        Share of each map in each projection.
    num_groups : int
        Groups of flats, the first one counted.
    """

    def __init__(
        self,
        changes: NDArray[np.float32],
        weights: NDArray[np.float32],
        num_groups: int,
    ) -> None:
        if changes.ndim != 3 or weights.shape[1] != len(changes):
            raise ValueError(
                f"{changes.shape} maps (map, y, x) and {weights.shape} weights "
                "(angle, map) do not match"
            )
        self.num_groups = num_groups
        self._changes = np.ascontiguousarray(changes, np.float32)
        self._weights = np.ascontiguousarray(weights, np.float32)

    def correct_rows(
        self,
        sinograms: NDArray[np.float32],
        angles: NDArray[np.intp],
        start: int,
    ) -> None:
        """Correct sinograms in place.

        Parameters
        ----------
        sinograms : ndarray, shape (row, angle, x), float32
            Of the rows from `start` on.
        angles : ndarray, shape (angle,)
            Index of each of their projections.
        """
        rows = self._changes[:, start : start + len(sinograms)]
        _subtract(sinograms, np.ascontiguousarray(rows), self._weights[angles])

    def correct_frame(
        self, attenuation: NDArray[np.float32], index: int, start: int
    ) -> None:
        """Correct rows from `start` on of one projection, shape (y, x), in place."""
        rows = self._changes[:, start : start + len(attenuation)]
        attenuation -= np.tensordot(self._weights[index], rows, 1)


def flat_weights(
    groups_at: Sequence[float], times: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the share of each group of flats in each projection.

    A straight line in time between two groups, the nearest group before the first and
    after the last.

    Parameters
    ----------
    groups_at : sequence of float
        Middle of each group, ascending, on the clock of `times`.
    times : ndarray, shape (angle,)

    Returns
    -------
    ndarray, shape (angle, group), float32
        Each row adds up to 1.
    """
    at = np.asarray(groups_at, np.float64)
    if not np.all(np.diff(at) > 0):
        raise ValueError(f"groups of flats at {at.tolist()}; times must ascend")
    shares = [np.interp(times, at, one) for one in np.eye(len(at))]
    return np.stack(shares, axis=1).astype(np.float32)


def groups_of(
    indices: NDArray[np.intp], others: NDArray[np.intp]
) -> list[NDArray[np.intp]]:
    """Split ascending frame indices wherever one of the others stands between."""
    cuts = np.searchsorted(others, indices)
    return np.split(indices, np.flatnonzero(np.diff(cuts)) + 1)


@njit(cache=True, nogil=True, fastmath=True)
def _subtract(sinograms, changes, weights):
    for row in range(sinograms.shape[0]):
        for a in range(sinograms.shape[1]):
            line = sinograms[row, a]
            for m in range(len(changes)):
                weight = weights[a, m]
                change = changes[m, row]
                if weight != 0:
                    for x in range(len(line)):
                        line[x] -= weight * change[x]
