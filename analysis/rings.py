"""Ring artefacts: stripes along the angle of a sinogram, made by detector pixels.

A ring is a column of the sinogram whose pixel answers unlike its neighbours. Sorting
every column by grey value takes the sample out of the comparison between neighbours,
so that a median across columns corrects the pixel's response and nothing else.

References
----------
N. T. Vo, R. C. Atwood and M. Drakopoulos, Opt. Express 26 (2018) 28396,
doi:10.1364/OE.26.028396
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

LANES = 64
"""Ranks that a median works on side by side, so that it fills vector registers."""


def remove_stripes_by_sorting(
    sinogram: NDArray[np.float32], width_px: int = 21
) -> NDArray[np.float32]:
    """Remove partial and full stripes: algorithm 3 of Vo 2018.

    Parameters
    ----------
    sinogram : ndarray, shape (angle, x), float32
        Attenuation, finite.
    width_px : int
        Window of the median across columns, odd; stripes narrower than half of it go.

    Returns
    -------
    ndarray, shape (angle, x), float32
        A new array.
    """
    columns = np.ascontiguousarray(sinogram.T)
    values, order = _sort_columns(columns)
    smooth = median_across(values, width_px)
    _unsort(smooth, order, columns)
    return np.ascontiguousarray(columns.T)


def median_across(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the running median along the first axis, edges reflected.

    Parameters
    ----------
    values : ndarray, shape (x, rank), float32
        Finite.
    width : int
        Window, odd.

    Returns
    -------
    ndarray, shape (x, rank), float32
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width of the median is {width} px; it must be odd")
    out = np.empty_like(values)
    _running_median(values, width, out)
    return out


def _sort_columns(
    columns: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
    """Sort along the last axis; return values and keys that hold the old places."""
    keys = np.empty(columns.shape, np.uint64)
    _make_keys(columns, keys)
    keys.sort(axis=1)
    values = np.empty_like(columns)
    _values_of(columns, keys, values)
    return values, keys


@njit(cache=True, nogil=True)
def _make_keys(columns, keys):
    """Join value and place into one integer that sorts like the value."""
    bits = columns.view(np.uint32)
    for x in range(columns.shape[0]):
        for a in range(columns.shape[1]):
            raw = bits[x, a]
            # Turns the order of floats into that of unsigned integers.
            if raw >> np.uint32(31):
                raw = ~raw
            else:
                raw |= np.uint32(0x80000000)
            keys[x, a] = (np.uint64(raw) << np.uint64(32)) | np.uint64(a)


@njit(cache=True, nogil=True)
def _values_of(columns, keys, values):
    for x in range(columns.shape[0]):
        for rank in range(columns.shape[1]):
            values[x, rank] = columns[x, keys[x, rank] & np.uint64(0xFFFFFFFF)]


@njit(cache=True, nogil=True)
def _unsort(values, keys, columns):
    for x in range(columns.shape[0]):
        for rank in range(columns.shape[1]):
            columns[x, keys[x, rank] & np.uint64(0xFFFFFFFF)] = values[x, rank]


@njit(cache=True, nogil=True)
def _reflected(place, number):
    """Return the index that (d c b a | a b c d | d c b a) has at `place`."""
    place %= 2 * number
    return place if place < number else 2 * number - 1 - place


@njit(cache=True, nogil=True, fastmath=True)
def _running_median(values, width, out):
    """Slide a sorted window along x, for `LANES` ranks at a time."""
    number, ranks = values.shape
    half = width // 2
    sorted_window = np.empty((width, LANES), np.float32)
    carried = np.empty(LANES, np.float32)
    leaving = np.empty(LANES, np.float32)
    for first in range(0, ranks, LANES):
        lanes = min(LANES, ranks - first)
        start = np.empty(width, np.float32)
        for lane in range(lanes):
            for i in range(width):
                start[i] = values[_reflected(i - half, number), first + lane]
            start.sort()
            for i in range(width):
                sorted_window[i, lane] = start[i]
        for lane in range(lanes):
            out[0, first + lane] = sorted_window[half, lane]
        for x in range(1, number):
            enter = _reflected(x + half, number)
            leave = _reflected(x - half - 1, number)
            for lane in range(lanes):
                carried[lane] = values[enter, first + lane]
                leaving[lane] = values[leave, first + lane]
            for i in range(width - 1):
                here = sorted_window[i]
                above = sorted_window[i + 1]
                for lane in range(lanes):
                    # The one that leaves and all above it move down by one; the one
                    # that enters is carried up to its place on the way.
                    kept = here[lane] if here[lane] < leaving[lane] else above[lane]
                    here[lane] = min(kept, carried[lane])
                    carried[lane] = max(kept, carried[lane])
            top = sorted_window[width - 1]
            for lane in range(lanes):
                top[lane] = carried[lane]
                out[x, first + lane] = sorted_window[half, lane]
