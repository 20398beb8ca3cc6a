"""Ring artefacts: stripes along the angle of a sinogram, made by detector pixels.

A ring is a column of the sinogram whose pixel answers unlike its neighbours. Sorting
every column by grey value takes the sample out of the comparison between neighbours,
which was published by Vo 2018; the three functions here build on it.

`correct_response` is the default. A pixel's wrong gain adds the same to all of its
attenuation values, so one number per column is found from the middle ranks and
subtracted, and only where the neighbours can tell it: a crack through the axis keeps
its grey values. `remove_stripes_by_sorting` and `remove_stripes` are the published
algorithms. They replace every value by one of its neighbours' and take away more kinds
of stripes; from a thin sheet that stands through the axis they take a third of its
contrast and more.

References
----------
N. T. Vo, R. C. Atwood and M. Drakopoulos, Opt. Express 26 (2018) 28396,
doi:10.1364/OE.26.028396
"""

from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

NEIGHBOURS_PX = (1, 2, 3, 4, 5)
"""Distances of the pairs of columns that a column is compared with."""

MIDDLE_RANKS = (0.1, 0.9)
"""Outside lie the angles at which a crack is seen edge-on."""

RANK_GROUPS = 48
GATE = 3.0
"""Columns whose comparisons scatter more than this many times the usual hold edges."""

GATE_WINDOW_PX = 101
BASE_WINDOW_PX = 21
MIN_ANGLES = 16
UNSTEADY_RATIO = 6.0
"""A column that fluctuates so much more than those around it is of no use."""

LANES = 64
"""Ranks that a median works on side by side, so that it fills vector registers."""

FLUCTUATION_ANGLES = 10
"""A live pixel changes little over so many projections beside its noise."""

DROPPED_FRAC = 0.1
"""Darkest and brightest ranks, together, that do not tell a pixel's response."""

MAX_DEAD_FRAC = 1 / 3
MIN_SPREAD = 1e-5
"""Response that varies less than this over the detector is noise-free: no stripes."""


def remove_stripes(
    sinogram: NDArray[np.float32],
    *,
    snr: float = 3.0,
    large_width_px: int = 51,
    small_width_px: int = 21,
) -> NDArray[np.float32]:
    """Remove dead, fluctuating, large and small stripes: algorithms 6, 5, 4 and 3.

    The published algorithms sort the sinogram twice; dividing a column by a positive
    number keeps its order, so that one sort serves both here.

    Parameters
    ----------
    sinogram : ndarray, shape (angle, x), float32
        Attenuation, finite.
    snr : float
        How far a column stands out before it counts as a large stripe; greater finds
        fewer.
    large_width_px, small_width_px : int
        Windows of the medians across columns for large and for small stripes, odd.

    Returns
    -------
    ndarray, shape (angle, x), float32
        A new array.
    """
    columns = np.ascontiguousarray(sinogram.T)
    _fill_dead_columns(columns, _fluctuation(sinogram), snr, large_width_px)
    values, keys = _sort_columns(columns)
    smooth = median_across(values, large_width_px)
    num_angles = values.shape[1]
    dropped = int(0.5 * DROPPED_FRAC * num_angles)
    kept = slice(dropped, num_angles - dropped)
    response = values[:, kept].mean(axis=1, dtype=np.float64)
    expected = smooth[:, kept].mean(axis=1, dtype=np.float64)
    ratio = np.divide(
        response, expected, out=np.ones_like(response), where=expected != 0
    )
    large = _widened(find_stripes(ratio, snr))
    ratio[ratio == 0] = 1.0
    _even_out(values, keys, smooth, ratio, large)
    del smooth
    _unsort(median_across(values, small_width_px), keys, columns)
    return np.ascontiguousarray(columns.T)


def find_stripes(ratio: NDArray[np.float64], snr: float) -> NDArray[np.bool_]:
    """Tell the columns whose ratio stands out: algorithm 4.

    A straight line through the middle half of the sorted ratios says how far their
    noise goes; what lies beyond it by `snr` halves of that range is a stripe.

    Parameters
    ----------
    ratio : ndarray, shape (x,)
    snr : float

    Returns
    -------
    ndarray, shape (x,), bool
    """
    number = len(ratio)
    ascending = np.sort(ratio)
    outer = int(0.25 * number)
    middle = slice(outer, number - outer - 1)
    place = np.arange(number, dtype=np.float64)
    found = np.zeros(number, bool)
    if len(place[middle]) < 2:
        return found
    slope, low = np.polyfit(place[middle], ascending[middle], 1)
    high = low + slope * place[-1]
    spread = abs(high - low)
    if spread < MIN_SPREAD:
        return found
    if abs(ascending[-1] - high) >= snr * spread:
        found |= ratio > high + 0.5 * snr * spread
    if abs(low - ascending[0]) >= snr * spread:
        found |= ratio <= low - 0.5 * snr * spread
    return found


def _widened(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the column on either side."""
    wide = found.copy()
    wide[1:] |= found[:-1]
    wide[:-1] |= found[1:]
    return wide


def _fill_dead_columns(
    columns: NDArray[np.float32],
    fluctuation: NDArray[np.float64],
    snr: float,
    width: int,
) -> None:
    """Interpolate columns that fluctuate too much or not at all: algorithm 6."""
    number = len(columns)
    typical = ndimage.median_filter(fluctuation, width)
    typical[typical == 0] = np.abs(typical).mean() or 1.0
    dead = _widened(find_stripes(fluctuation / typical, snr))
    dead[:2] = dead[-2:] = False
    if 0 < dead.sum() < int(MAX_DEAD_FRAC * number):
        _interpolate_columns(columns, dead)


def _interpolate_columns(columns: NDArray[np.float32], bad: NDArray[np.bool_]) -> None:
    """Fill columns from the good ones on either side, which there must be."""
    places = np.flatnonzero(bad)
    good = np.flatnonzero(~bad)
    after = np.searchsorted(good, places)
    left, right = good[after - 1], good[after]
    share = ((places - left) / (right - left)).astype(np.float32)[:, None]
    columns[places] = (1 - share) * columns[left] + share * columns[right]


def correct_response(
    sinogram: NDArray[np.float32], *, rounds: int = 2
) -> NDArray[np.float32]:
    """Subtract what each detector column adds to all of its values.

    Sorted columns are compared, rank by rank, with the mean of the columns at equal
    distance on both sides, so that a slope of the sample cancels. The median over
    distances and ranks is the column's offset. It is left alone where comparisons
    scatter over ranks or distances far more than elsewhere on the detector: there an
    edge stands at nearly the same column for many angles, as the rim of a sample that
    is centred on the axis.

    Parameters
    ----------
    sinogram : ndarray, shape (angle, x), float32
        Attenuation, finite. With fewer than `MIN_ANGLES` angles nothing is told from
        the sample, and nothing is done.
    rounds : int
        Each lowers what neighbouring stripes do to one another.

    Returns
    -------
    ndarray, shape (angle, x), float32
        A new array.
    """
    num_angles, width = sinogram.shape
    if num_angles < MIN_ANGLES or width <= 4 * max(NEIGHBOURS_PX):
        return sinogram.copy()
    columns = np.ascontiguousarray(sinogram.T)
    filled = _fill_unsteady_columns(columns, _fluctuation(sinogram))
    ascending = np.sort(columns, axis=1)
    edges = np.linspace(
        MIDDLE_RANKS[0] * num_angles,
        MIDDLE_RANKS[1] * num_angles,
        min(RANK_GROUPS, num_angles // 3) + 1,
    ).astype(int)
    groups = np.stack(
        [
            ascending[:, low:high].mean(axis=1, dtype=np.float64)
            for low, high in pairwise(edges)
        ],
        axis=1,
    )
    offset = np.zeros(width)
    for _ in range(rounds):
        found = _offset(groups)
        offset += found
        groups -= found[:, None]
    base = np.ascontiguousarray(columns.T) if filled else sinogram
    return base - offset.astype(np.float32)


def _offset(groups: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the offset of each column, 0 where it cannot be told."""
    reach = max(NEIGHBOURS_PX)
    padded = np.pad(groups, ((reach, reach), (0, 0)), mode="reflect")
    width = len(groups)
    beyond = np.stack(
        [
            groups
            - 0.5
            * (
                padded[reach - distance : reach - distance + width]
                + padded[reach + distance : reach + distance + width]
            )
            for distance in NEIGHBOURS_PX
        ]
    )
    by_rank = np.median(beyond, axis=0)
    by_distance = np.median(beyond, axis=2)
    offset = np.median(by_distance, axis=0)
    # What changes slowly from column to column is the curvature of the sample.
    offset -= ndimage.median_filter(offset, BASE_WINDOW_PX, mode="nearest")
    third, first = np.quantile(by_rank, (0.75, 0.25), axis=1)
    for scatter in (third - first, np.ptp(by_distance, axis=0)):
        usual = ndimage.median_filter(scatter, GATE_WINDOW_PX, mode="nearest")
        offset[scatter > GATE * usual] = 0.0
    offset[:reach] = offset[-reach:] = 0.0
    return offset


def _fill_unsteady_columns(
    columns: NDArray[np.float32], fluctuation: NDArray[np.float64]
) -> int:
    """Interpolate columns that flicker or stand still; return how many."""
    usual = ndimage.median_filter(fluctuation, GATE_WINDOW_PX, mode="nearest")
    unsteady = fluctuation > UNSTEADY_RATIO * usual
    unsteady |= fluctuation < usual / UNSTEADY_RATIO
    unsteady[0] = unsteady[-1] = False
    number = int(unsteady.sum())
    if 0 < number < MAX_DEAD_FRAC * len(columns):
        _interpolate_columns(columns, unsteady)
        return number
    return 0


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


@njit(cache=True, nogil=True, fastmath=True)
def _fluctuation(sinogram):
    """Sum, per column, how far it is from its running mean over the angle."""
    num_angles, width = sinogram.shape
    before = FLUCTUATION_ANGLES // 2
    total = np.zeros(width, np.float64)
    running = np.zeros(width, np.float64)
    for i in range(-before, FLUCTUATION_ANGLES - before):
        line = sinogram[_reflected(i, num_angles)]
        for x in range(width):
            running[x] += line[x]
    for a in range(num_angles):
        line = sinogram[a]
        leave = sinogram[_reflected(a - before, num_angles)]
        enter = sinogram[_reflected(a - before + FLUCTUATION_ANGLES, num_angles)]
        for x in range(width):
            total[x] += abs(line[x] - running[x] / FLUCTUATION_ANGLES)
            running[x] += enter[x] - leave[x]
    return total


@njit(cache=True, nogil=True)
def _even_out(values, keys, smooth, ratio, large):
    """Divide by the response; take the smooth column where it is a large stripe."""
    last = values.shape[1] - 1
    for x in range(len(values)):
        column = values[x]
        if large[x]:
            column[:] = smooth[x]
        else:
            inverse = np.float32(1 / ratio[x])
            for rank in range(last + 1):
                column[rank] *= inverse
            if inverse < 0:
                # Air, whose mean may be below zero: the order is upside down now.
                key = keys[x]
                for rank in range((last + 1) // 2):
                    low, high = column[rank], column[last - rank]
                    column[rank] = high
                    column[last - rank] = low
                    first, second = key[rank], key[last - rank]
                    key[rank] = second
                    key[last - rank] = first


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
