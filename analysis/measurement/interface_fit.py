"""Fit a void between the electrolyte and the lithium, column by column."""

import math

import numba
import numpy as np
import scipy.fft
from numpy.typing import NDArray

ITERATIONS = 12
LARGEST_STEP_PX = 1.0


@numba.njit(cache=True, inline="always")
def _cover(depth_px: float, scale: float) -> float:
    """Return the blurred part of a point ``depth_px`` below a surface."""
    return 0.5 * (1.0 + math.erf(depth_px * scale))


@numba.njit(cache=True, parallel=True)
def find_edges(
    grey: np.ndarray,
    first_px: np.ndarray,
    solid: np.ndarray,
    outer: np.ndarray,
    reach_px: float,
    edge: np.ndarray,
) -> None:
    """Find where each column falls to half way between two levels.

    Parameters
    ----------
    grey : ndarray, shape (y, x, offset)
        Columns, from inside the pellet outwards.
    first_px : ndarray, shape (y, x)
        Distance outwards of the first offset from the smooth face.
    solid, outer : ndarray, shape (y, x)
        The two levels.
    reach_px : float
        An edge farther outside is none: a shard.
    edge : ndarray, shape (y, x)
        Is given the distance outwards of the edge; NaN where there is none.
    """
    number = grey.shape[2]
    for y in numba.prange(grey.shape[0]):
        for x in range(grey.shape[1]):
            half = 0.5 * (solid[y, x] + outer[y, x])
            edge[y, x] = np.nan
            last = min(number - 2, int(reach_px - first_px[y, x]))
            for offset in range(last, -1, -1):
                inner = grey[y, x, offset]
                if inner > half:
                    beyond = grey[y, x, offset + 1]
                    if beyond <= half:
                        share = (inner - half) / (inner - beyond)
                        edge[y, x] = first_px[y, x] + offset + share
                    break


@numba.njit(cache=True, parallel=True)
def suspect_voids(
    grey: np.ndarray,
    first_px: np.ndarray,
    solid: np.ndarray,
    lithium: np.ndarray,
    contrast: float,
    sigma_px: float,
    threshold: float,
    edge: np.ndarray,
    suspected: np.ndarray,
) -> None:
    """Tell columns whose grey next to the edge is not that of lithium in contact.

    Parameters
    ----------
    grey, first_px, solid, lithium, contrast, sigma_px, edge
        As in `fit_voids`.
    threshold : float
        Mean departure over three voxels, in contrasts, from which a column is.
    suspected : ndarray of bool, shape (y, x)
        Is given the answer.
    """
    scale = 1.0 / (math.sqrt(2.0) * sigma_px)
    for y in numba.prange(grey.shape[0]):
        for x in range(grey.shape[1]):
            suspected[y, x] = False
            if not np.isfinite(edge[y, x]):
                continue
            first = int(math.ceil(edge[y, x] + 0.5 * sigma_px - first_px[y, x]))
            step = solid[y, x] - lithium[y, x]
            total = 0.0
            for offset in range(first, min(first + 3, grey.shape[2])):
                near = first_px[y, x] + offset - edge[y, x]
                expected = lithium[y, x] + step * (1.0 - _cover(near, scale))
                total += expected - grey[y, x, offset]
            suspected[y, x] = abs(total) > 3.0 * threshold * contrast


@numba.njit(cache=True, parallel=True)
def fit_voids(
    grey: np.ndarray,
    first_px: np.ndarray,
    solid: np.ndarray,
    lithium: np.ndarray,
    contrast: float,
    sigma_px: float,
    reach_px: float,
    start_px: np.ndarray,
    suspected: np.ndarray,
    edge: np.ndarray,
    height: np.ndarray,
    misfit: np.ndarray,
) -> None:
    """Fit the edge of the electrolyte and the height of the void outside it.

    The grey of a column is ``solid`` up to the edge, ``lithium - contrast`` over the
    height of the void and ``lithium`` beyond, blurred by ``sigma_px``.

    Parameters
    ----------
    grey : ndarray, shape (y, x, offset)
        Columns, from inside the pellet outwards.
    first_px, solid, lithium : ndarray, shape (y, x)
        Distance outwards of the first offset; grey of the two solids.
    contrast : float
        Grey of lithium less that of a void.
    sigma_px, reach_px : float
        Blur, and the greatest height of a void.
    start_px : ndarray, shape (n,)
        Heights to start from; the best of what comes of them is kept.
    suspected : ndarray of bool, shape (y, x)
        Columns to fit.
    edge : ndarray, shape (y, x)
        Where the electrolyte ends: to start from, and then as fitted.
    height, misfit : ndarray, shape (y, x)
        Height, to start from too where it is above 0, and the root mean square of
        what the fit leaves, in contrasts: 0 where nothing was suspected, NaN where
        ``edge`` is.
    """
    ny, nx, number = grey.shape
    scale = 1.0 / (math.sqrt(2.0) * sigma_px)
    norm = 1.0 / (sigma_px * math.sqrt(2.0 * math.pi))
    margin = 3.0 * sigma_px + 1.0
    for y in numba.prange(ny):
        for x in range(nx):
            begun = edge[y, x]
            known = height[y, x]
            height[y, x] = np.nan
            misfit[y, x] = np.nan
            if not np.isfinite(begun):
                continue
            if not suspected[y, x]:
                height[y, x] = 0.0
                misfit[y, x] = 0.0
                continue
            step = (solid[y, x] - lithium[y, x]) / contrast
            best = np.inf
            first = max(0, int(math.ceil(begun - margin - first_px[y, x])))
            last = min(number, int(begun + reach_px + margin - first_px[y, x]))
            if last - first < 6:
                continue
            for start in start_px:
                at, tall = begun, start
                if known > 0:
                    tall = known
                total = np.inf
                for _ in range(ITERATIONS):
                    a11 = a12 = a22 = b1 = b2 = total = 0.0
                    for offset in range(first, last):
                        where = first_px[y, x] + offset
                        near = where - at
                        far = near - tall
                        covered = _cover(near, scale)
                        beyond = _cover(far, scale)
                        model = step * (1.0 - covered) - (covered - beyond)
                        value = (grey[y, x, offset] - lithium[y, x]) / contrast
                        left = value - model
                        at_edge = norm * math.exp(-((near * scale) ** 2))
                        at_end = norm * math.exp(-((far * scale) ** 2))
                        by_at = step * at_edge + at_edge - at_end
                        by_tall = -at_end
                        a11 += by_at * by_at
                        a12 += by_at * by_tall
                        a22 += by_tall * by_tall
                        b1 += by_at * left
                        b2 += by_tall * left
                        total += left * left
                    a11 *= 1.001
                    a22 = a22 * 1.001 + 1e-9
                    determinant = a11 * a22 - a12 * a12
                    if determinant <= 0:
                        break
                    move = (b1 * a22 - b2 * a12) / determinant
                    grow = (b2 * a11 - b1 * a12) / determinant
                    move = min(max(move, -LARGEST_STEP_PX), LARGEST_STEP_PX)
                    grow = min(max(grow, -LARGEST_STEP_PX), LARGEST_STEP_PX)
                    at += move
                    tall = min(max(tall + grow, 0.0), reach_px)
                    if abs(move) < 1e-3 and abs(grow) < 1e-3:
                        break
                if total < best:
                    best = total
                    edge[y, x] = at
                    height[y, x] = tall
                    misfit[y, x] = math.sqrt(total / (last - first))
                if known > 0:
                    break


@numba.njit(cache=True, parallel=True)
def draw_voids(
    first_px: np.ndarray,
    edge: np.ndarray,
    height: np.ndarray,
    sigma_px: float,
    void: np.ndarray,
) -> None:
    """Draw the blurred voids of fitted columns into ``void`` (y, x, offset)."""
    scale = 1.0 / (math.sqrt(2.0) * sigma_px)
    for y in numba.prange(void.shape[0]):
        for x in range(void.shape[1]):
            tall = height[y, x]
            if not tall > 0:
                void[y, x] = 0
                continue
            for offset in range(void.shape[2]):
                near = first_px[y, x] + offset - edge[y, x]
                void[y, x, offset] = _cover(near, scale) - _cover(near - tall, scale)


def low_passed(
    void: NDArray[np.float32], length_px: float, margin_px: int
) -> NDArray[np.float32]:
    """Return what a phase filter of one length keeps of voids, (y, x, offset)."""
    padded = tuple(
        scipy.fft.next_fast_len(size + margin_px, True) or size for size in void.shape
    )
    y, x, z = (
        2 * np.pi * np.asarray(frequency, np.float32)
        for frequency in (
            np.fft.fftfreq(padded[0]),
            np.fft.fftfreq(padded[1]),
            np.fft.rfftfreq(padded[2]),
        )
    )
    squared = y[:, None, None] ** 2 + x[:, None] ** 2 + z**2
    spectrum = np.asarray(scipy.fft.rfftn(void, padded))
    spectrum /= 1 + length_px**2 * squared
    kept = np.asarray(scipy.fft.irfftn(spectrum, padded))
    ny, nx, number = void.shape
    return np.ascontiguousarray(kept[:ny, :nx, :number], dtype=np.float32)
