"""Finds the column of the axis of rotation.

First from two projections half a turn apart: one is the mirror image of the other, and
the axis is where the mirror stands. A scan seldom holds both angles exactly, so the
second projection is carried over the missing step by a straight line through its
neighbour; else a sample that is heavier on one side would pull the axis to it.

Then from slices, reconstructed with axes around that column: a wrong axis bends every
edge into a fork, which spreads grey values over more of the histogram, and the
histogram's entropy is least where the axis is right.

References
----------
T. Donath, F. Beckmann and A. Schreyer, J. Opt. Soc. Am. A 23 (2006) 1048,
doi:10.1364/JOSAA.23.001048 (metrics of slices)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from analysis.binning import binned_column, unbinned_column
from analysis.errors import DataError
from analysis.gridrec import PAIRS, Gridrec

MAX_HALF_TURN_ERROR_DEG = 5.0
MIN_OVERLAP_FRAC = 0.3
"""Share of the columns that two projections must see in common."""

EDGE_COLUMNS = 4
"""Left out of the comparison: the high-pass is one-sided there."""

COARSE_STEP_PX, FINE_STEP_PX = 0.5, 0.125
COARSE_REACH_PX, FINE_REACH_PX = 4.0, 0.5
MAX_COLUMNS, MAX_ANGLES = 1280, 1200
"""Sinograms are thinned out to these before slices are compared: it is enough."""

HISTOGRAM_BINS = 256
SHOWN_QUANTILES = (0.0005, 0.9995)
RIM_FRAC = 0.9
"""Slices are compared within this share of their radius."""


@dataclass(frozen=True)
class RotationAxis:
    """Where the axis of rotation stands.

    Attributes
    ----------
    column_px : float
        Column in a projection, pixel centres at 0 .. width - 1.
    half_turn_px : float
        From the two projections half a turn apart.
    spread_px : float
        Standard deviation over the slices that told; NaN where fewer than two did.
    num_slices : int
        Pairs of slices that told; with none the column is that of the projections.
    """

    column_px: float
    half_turn_px: float
    spread_px: float
    num_slices: int


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
    # Slow changes along x are the beam's and the background's; edges tell the place.
    a = _high_pass(first)
    b = _high_pass(second)[:, ::-1]
    length = scipy.fft.next_fast_len(2 * width, real=True) or 2 * width

    def correlated(
        one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]
    ) -> NDArray[np.float64]:
        spectrum = np.asarray(scipy.fft.rfft(one, length)) * np.conj(
            np.asarray(scipy.fft.rfft(other, length))
        )
        summed = spectrum.reshape(-1, spectrum.shape[-1]).sum(axis=0)
        return np.asarray(scipy.fft.irfft(summed, length), np.float64)[shifts]

    shifts = np.arange(-width + 1, width)
    ones = np.ones(width)
    power_a = (a.astype(np.float64) ** 2).sum(axis=0)
    power_b = (b.astype(np.float64) ** 2).sum(axis=0)
    held = correlated(power_a, ones) * correlated(ones, power_b)
    floor = 1e-9 * power_a.sum() * power_b.sum()
    # Normalised by what either shows in the columns that both see, or a sample that
    # is cut off on one side would pull the axis there; and weighted by their number,
    # or a few columns that happen to agree would win.
    overlap = np.asarray((width - np.abs(shifts)) / width, np.float64)
    score = correlated(a, b) / np.sqrt(np.maximum(held, floor or 1.0)) * overlap
    score[overlap < MIN_OVERLAP_FRAC] = -np.inf
    best = int(np.argmax(score))
    around = score[max(best - 1, 0) : best + 2]
    if len(around) < 3 or not np.all(np.isfinite(around)) or not score[best] > 0:
        raise DataError(
            "projections half a turn apart show nothing in common; check that the "
            "sample is in the beam, or set rotation_axis_px"
        )
    return float((width - 1 + shifts[best] + _parabola_top(*around)) / 2)


def _high_pass(projection: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    # Odd, or the mean would stand half a pixel beside its middle.
    smooth = max(projection.shape[1] // 8, 8) | 1
    passed = projection - ndimage.uniform_filter1d(projection, smooth, axis=1)
    edge = max(min(EDGE_COLUMNS, projection.shape[1] // 16), 1)
    passed[:, :edge] = 0
    passed[:, -edge:] = 0
    return passed.astype(np.float32)


def refine_axis(
    sinograms: Iterable[NDArray[np.float32]],
    angles_deg: NDArray[np.float64],
    half_turn_px: float,
    *,
    padding: str = "zero",
    threads: int | None = None,
) -> RotationAxis:
    """Refine the axis by the slices that it gives.

    Parameters
    ----------
    sinograms : iterable of ndarray, shape (angle, x), float32
        A few of different heights, two by two beside each other; each may be the
        mean of some rows. One at a time is held.
    angles_deg : ndarray, shape (angle,)
    half_turn_px : float
        Right to a few pixels, see `find_rotation_axis`.
    padding : {"zero", "edge"}
        As for the reconstruction, see `analysis.gridrec.Gridrec`.
    """
    every = -(-len(angles_deg) // MAX_ANGLES)
    binning, parts = 1, []
    for sinogram in sinograms:
        binning = -(-sinogram.shape[1] // MAX_COLUMNS)
        parts.append(_thinned(sinogram[::every], binning))
    thin = np.stack(parts)
    angles = np.asarray(angles_deg, np.float64)[::every]
    pairs = [
        _Pair(np.ascontiguousarray(thin[first : first + 2]), angles, padding, threads)
        for first in range(0, len(thin) - 1, 2)
    ]
    guess = binned_column(half_turn_px, binning)
    for step, reach in (
        (COARSE_STEP_PX, COARSE_REACH_PX),
        (FINE_STEP_PX, FINE_REACH_PX),
    ):
        number = round(reach / step)
        tried = np.asarray(guess + step * np.arange(-number, number + 1), np.float64)
        tried = tried[(tried >= 0) & (tried <= thin.shape[2] - 1)]
        curves = [np.array(pair.entropies(tried)) for pair in pairs]
        # A pair of slices whose entropy falls to one end shows no edges to fork.
        told = [0 < int(np.argmin(curve)) < len(tried) - 1 for curve in curves]
        if step == COARSE_STEP_PX:
            pairs = [pair for pair, tells in zip(pairs, told, strict=True) if tells]
            curves = [curve for curve, tells in zip(curves, told, strict=True) if tells]
        if not pairs:
            return RotationAxis(half_turn_px, half_turn_px, float("nan"), 0)
        guess = _lowest(tried, np.asarray(np.sum(curves, axis=0), np.float64))
    alone = [_lowest(tried, curve) * binning for curve in curves]
    return RotationAxis(
        column_px=unbinned_column(guess, binning),
        half_turn_px=half_turn_px,
        spread_px=float(np.std(alone, ddof=1)) if len(alone) > 1 else float("nan"),
        num_slices=len(pairs),
    )


class _Pair:
    """Two sinograms whose slices are compared."""

    def __init__(
        self,
        sinograms: NDArray[np.float32],
        angles_deg: NDArray[np.float64],
        padding: str,
        threads: int | None,
    ) -> None:
        self._sinograms = sinograms
        self._padding = padding
        self._angles = angles_deg
        self._threads = threads
        self._limits: tuple[float, float] | None = None

    def entropies(self, axes_px: NDArray[np.float64]) -> list[float]:
        """Return the entropy of the slices that each axis gives."""
        found: list[float] = []
        geometry = Gridrec(
            self._angles,
            self._sinograms.shape[2],
            float(np.mean(axes_px)),
            filter_window="hann",
            padding=self._padding,
            threads=self._threads,
        )
        for start in range(0, len(axes_px), PAIRS):
            some = axes_px[start : start + PAIRS]
            slices = geometry.reconstruct_axes(self._sinograms, some)
            if self._limits is None:
                low, high = np.quantile(slices[0], SHOWN_QUANTILES)
                self._limits = float(low), float(high)
            found += [_entropy(one, *self._limits) for one in slices]
        return found


def _lowest(columns: NDArray[np.float64], curve: NDArray[np.float64]) -> float:
    """Return where a curve is lowest, by a parabola through its lowest part."""
    best = int(np.argmin(curve))
    # Three points on either side: one alone would follow the histogram's noise.
    near = slice(max(best - 3, 0), best + 4)
    around = columns[near] - columns[best]
    curvature, slope, _ = np.polyfit(around, curve[near], 2)
    if curvature <= 0:
        return float(columns[best])
    shift = np.clip(-slope / (2 * curvature), around[0], around[-1])
    return float(columns[best] + shift)


def _entropy(slices: NDArray[np.float32], low: float, high: float) -> float:
    counts = _histogram(slices, low, high, RIM_FRAC)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


@njit(cache=True, nogil=True)
def _histogram(slices, low, high, rim):
    """Count grey values within the rim; what is beyond the limits is in the ends."""
    counts = np.zeros(HISTOGRAM_BINS, np.int64)
    size = slices.shape[1]
    scale = HISTOGRAM_BINS / max(high - low, 1e-30)
    for s in range(len(slices)):
        for r in range(size):
            y = r - size // 2
            room = (rim * size / 2) ** 2 - y * y
            if room <= 0:
                continue
            reach = int(np.sqrt(room))
            line = slices[s, r]
            for c in range(max(size // 2 - reach, 0), min(size // 2 + reach + 1, size)):
                place = int((line[c] - low) * scale)
                counts[min(max(place, 0), HISTOGRAM_BINS - 1)] += 1
    return counts


def _thinned(sinogram: NDArray[np.float32], binning: int) -> NDArray[np.float32]:
    width = sinogram.shape[1] // binning * binning
    parts = sinogram[:, :width].reshape(len(sinogram), -1, binning)
    return parts.mean(axis=2, dtype=np.float32)


def _parabola_top(left: float, middle: float, right: float) -> float:
    """Return where the parabola through three points at -1, 0, 1 has its top."""
    curvature = left - 2 * middle + right
    if curvature >= 0:
        return 0.0
    return float(np.clip(0.5 * (left - right) / curvature, -0.5, 0.5))
