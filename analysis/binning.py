"""Pixels averaged into larger ones."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


def binned(frame: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Average squares of pixels; odd rows and columns at the end are left out.

    Attenuation may be averaged: it is a line integral, and the mean of line integrals
    is that of a thicker line. The mean of counts is not, at a steep edge.

    Parameters
    ----------
    frame : ndarray, shape (y, x), float32
    factor : int
        Pixels along either side of a square.

    Returns
    -------
    ndarray, shape (y // factor, x // factor), float32
    """
    if factor == 1:
        return frame
    out = np.empty((frame.shape[0] // factor, frame.shape[1] // factor), np.float32)
    _average(frame, factor, out)
    return out


def binned_column(column_px: float, factor: int) -> float:
    """Return where a column stands after binning, pixel centres at whole numbers."""
    return (column_px + 0.5) / factor - 0.5


def unbinned_column(column_px: float, factor: int) -> float:
    """Return where a column of a binned frame stands before binning."""
    return (column_px + 0.5) * factor - 0.5


@njit(cache=True, nogil=True, fastmath=True)
def _average(frame, factor, out):
    share = np.float32(1.0 / (factor * factor))
    for y in range(out.shape[0]):
        row = out[y]
        row[:] = np.float32(0)
        for i in range(factor):
            line = frame[y * factor + i]
            for x in range(out.shape[1]):
                for j in range(factor):
                    row[x] += line[x * factor + j]
        for x in range(out.shape[1]):
            row[x] *= share
