"""Finds the column of the axis of rotation from projections half a turn apart.

A projection is the mirror image of the one half a turn later, and the axis is where
the mirror stands. A scan seldom holds both angles exactly: the second projection is
carried over the missing step by a straight line through its neighbours, else a
sample that is heavier on one side would pull the axis to it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from analysis.errors import DataError

MAX_HALF_TURN_ERROR_DEG = 5.0


def half_turn_pair(angles_deg: NDArray[np.float64]) -> tuple[int, int]:
    """Return the two projections whose angles differ most nearly by 180 degrees.

    Raises
    ------
    DataError
        The scan holds no two such projections.
    """
    angles = np.asarray(angles_deg, np.float64)
    if len(angles) < 2:
        raise DataError(f"{len(angles)} projections; the axis is found from two")
    order = np.argsort(angles, kind="stable")
    ascending = angles[order]
    after = np.clip(np.searchsorted(ascending, ascending + 180.0), 1, len(angles) - 1)
    before = after - 1
    error_after = np.abs(ascending[after] - ascending - 180.0)
    error_before = np.abs(ascending[before] - ascending - 180.0)
    partner = np.where(error_after < error_before, after, before)
    error = np.minimum(error_after, error_before)
    best = int(np.argmin(error))
    if not error[best] <= MAX_HALF_TURN_ERROR_DEG:
        raise DataError(
            f"angles run from {angles.min():g} to {angles.max():g} deg; the axis is "
            "found from two projections 180 deg apart: set rotation_axis_px"
        )
    return int(order[best]), int(order[partner[best]])


def find_rotation_axis(
    frame: Callable[[int], NDArray[np.float32]], angles_deg: NDArray[np.float64]
) -> float:
    """Return the column of the axis, pixel centres at 0 .. width - 1.

    Parameters
    ----------
    frame : callable
        Gives the attenuation (y, x) of a projection by its index.
    angles_deg : ndarray, shape (angle,)
        Angle of each projection.

    Raises
    ------
    DataError
        No two projections are half a turn apart, or nothing is seen in them.
    """
    angles = np.asarray(angles_deg, np.float64)
    first, second = half_turn_pair(angles)
    here = frame(first)
    opposite = frame(second)
    missing = angles[first] + 180.0 - angles[second]
    neighbours = np.argsort(np.abs(angles - angles[second]), kind="stable")[1:2]
    if abs(missing) > 1e-3 and len(neighbours):
        step = angles[second] - angles[neighbours[0]]
        share = missing / step if step else 0.0
        if abs(share) <= 1.5:
            slope = opposite - frame(int(neighbours[0]))
            slope *= np.float32(share)
            opposite = opposite + slope
    return axis_from_half_turn(here, opposite)


def axis_from_half_turn(
    first: NDArray[np.floating[Any]], second: NDArray[np.floating[Any]]
) -> float:
    """Return the column about which the second projection mirrors the first.

    Parameters
    ----------
    first, second : ndarray, shape (y, x), float32
        Attenuation, half a turn apart.
    """
    width = first.shape[1]
    smooth = max(width // 8, 3)
    # Slow changes along x are the beam's and the background's; edges tell the place.
    a = first - ndimage.uniform_filter1d(first, smooth, axis=1)
    b = second - ndimage.uniform_filter1d(second, smooth, axis=1)
    length = scipy.fft.next_fast_len(2 * width, real=True) or 2 * width
    spectrum = np.asarray(scipy.fft.rfft(a, length)) * np.conj(
        np.asarray(scipy.fft.rfft(b[:, ::-1], length))
    )
    score = np.asarray(scipy.fft.irfft(spectrum.sum(axis=0), length))
    shifts = np.arange(-width + 1, width)
    score = score[shifts]
    best = int(np.argmax(score))
    if not (0 < best < len(score) - 1 and score[best] > 0):
        raise DataError(
            "projections half a turn apart show nothing in common; check that the "
            "sample is in the beam, or set rotation_axis_px"
        )
    part = _parabola_top(*score[best - 1 : best + 2])
    return float((width - 1 + shifts[best] + part) / 2)


def _parabola_top(left: float, middle: float, right: float) -> float:
    """Return where the parabola through three points at -1, 0, 1 has its top."""
    curvature = left - 2 * middle + right
    if curvature >= 0:
        return 0.0
    return float(np.clip(0.5 * (left - right) / curvature, -0.5, 0.5))
