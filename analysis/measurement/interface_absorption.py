"""Thick and wide voids in a volume of attenuation, as a lack of grey.

A void is 1.2 % of the contrast darker than lithium, a tenth of the noise of a voxel: it
takes the mean over some hundred columns to see it, and the blurred edge of the
electrolyte, eighty times as strong, hides what is nearer to it than some blurs.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analysis.errors import MeasurementError
from analysis.measurement.face_band import FaceBand
from analysis.measurement.face_voids import (
    DEEP_PX,
    EDGE_REACH_PX,
    LEVEL_SIGMA_PX,
    FaceVoids,
    solid_level,
    tiles,
)
from analysis.measurement.interface_fit import find_edges
from analysis.measurement.void_optics import VoidOptics

EDGE_SIGMA_PX = 1.0
"""Columns are averaged over so many before the electrolyte's edge is looked for."""

GUARD_SIGMAS = 3.6
"""Nearer to the edge its blur, known to a fifth, hides a tenth of a void."""

WINDOW_PX = 3
"""Voxels beyond the guard whose mean tells a void."""

NOISE_GOAL = 0.12
"""Scatter of that mean, in contrasts, for which columns are averaged."""

MAX_ACROSS_SIGMA_PX = 20.0
SHARD_FRAC = 0.25
"""Share of the step to the electrolyte above which a voxel is a shard, no lithium."""

MOST_DEPARTURE = 1.0
"""Of the mean next to the edge, in contrasts: a void lacks 1, lithium none."""

FRINGE_FRAC = 0.03
"""Where the electrolyte's edge is so much brighter than the electrolyte fringes are."""


def find_wide_voids(band: FaceBand, optics: VoidOptics) -> FaceVoids:
    """Find where the lithium next to the electrolyte lacks grey.

    Parameters
    ----------
    band : FaceBand
        The columns across the face.
    optics : VoidOptics
        What a void shows.

    Raises
    ------
    MeasurementError
        Where the data cannot tell a void: noise, fringes, no lithium in view.
    """
    within, reach_px = band.within, band.reach_px
    far = band.inside_px + reach_px + 3
    scatter = _scatter(band.grey[within][:, far:]) / optics.contrast
    # Of white noise; what is more is seen by the scatter of the maps below.
    needed = scatter / (2 * math.sqrt(math.pi * WINDOW_PX) * NOISE_GOAL)
    across_px = float(np.clip(needed, 2.0, MAX_ACROSS_SIGMA_PX))
    guard_px = GUARD_SIGMAS * band.sigma_px
    block = 4 if across_px >= 8 else 2 if across_px >= 4 else 1
    sums, sound, overshoot = _block_sums(band, far, guard_px, block)
    if not sound.any():
        raise MeasurementError("no face of the electrolyte is seen")
    if overshoot > FRINGE_FRAC:
        raise MeasurementError(
            f"fringes of {100 * overshoot:.0f} % stand at the face: absorption cannot "
            "tell a void there; set analysis.reconstruction.interface_phase"
        )
    lack = _smooth_lack(sums, across_px / block) / optics.contrast
    seen = _blocks(sound.astype(np.float64), block) > 0
    near, none, steps = lack[0], lack[1], lack[2:]
    typical, darkest = np.quantile(near[seen], (0.5, 0.995))
    if typical < -MOST_DEPARTURE or darkest > 1 + MOST_DEPARTURE:
        raise MeasurementError(
            f"the lithium at the face is {-typical:.1f} times a void's grey brighter "
            f"than away from it, and {darkest:.1f} times darker at most: that is no "
            "absorption; where the tomogram is phase retrieved, set "
            "analysis.reconstruction.interface_phase in place of phase"
        )
    # The map has few independent places: what its scatter cannot tell the noise does.
    sd = max(
        float(np.sqrt((none[seen] ** 2).mean())),
        scatter / (2 * math.sqrt(math.pi * WINDOW_PX) * across_px),
    )
    if not 4 * sd < 1:
        raise MeasurementError(
            f"a void is {1 / max(sd, 1e-9):.1f} times the noise of the mean of "
            f"{(2.355 * across_px) ** 2:.0f} columns; 4 are needed: set "
            "analysis.reconstruction.interface_phase, or take more projections"
        )
    # Outwards from the guard as long as something lacks.
    alive = np.cumprod(steps > 0.25, axis=0)
    height = guard_px + (np.clip(steps, 0, None) * alive).sum(axis=0)
    fine_near, fine_height = (_columns(m, block, sound.shape) for m in (near, height))
    found = fine_near[sound]
    voids = np.where(fine_near > 0.5, fine_height, 0).astype(np.float32)
    return FaceVoids(
        height_px=np.where(sound, voids, np.float32(np.nan)),
        floor_px=guard_px + 0.5 * WINDOW_PX,
        floor_across_px=2.355 * across_px,
        loose_frac=float((found > 0.375).mean()),
        tight_frac=float((found > 0.625).mean()),
        false_frac=0.5 * math.erfc(0.5 / max(sd, 1e-9) / math.sqrt(2)),
    )


def _scatter(values: NDArray[np.float32]) -> float:
    """Return the noise of a voxel from differences along the columns."""
    some = values[:: max(1, len(values) // 20_000)]
    return float(1.4826 * np.median(np.abs(np.diff(some, axis=1))) / math.sqrt(2))


def _block_sums(
    band: FaceBand, far: int, guard_px: float, block: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], float]:
    """Return the sums of `_sum_columns` in blocks, columns told, and overshoot.

    The sums have the shape (sum, distance, y, x).
    """
    within, reach_px = band.within, band.reach_px
    number = 2 + max(1, math.ceil(reach_px - guard_px))
    shape = tuple(-(-size // block) for size in within.shape)
    sums = np.zeros((4, number, *shape))
    sound = np.zeros(within.shape, np.bool_)
    overshoot = []
    typical = float(np.median(band.grey[within][:, far:]))
    for tile in tiles(within.shape, math.ceil(3 * LEVEL_SIGMA_PX)):
        if not within[tile.core].any():
            continue
        grey = band.grey[tile.held]
        first_px = band.shift[tile.held] - band.inside_px
        deep = np.asarray(np.median(grey[..., :DEEP_PX], axis=2), np.float32)
        solid, whole = solid_level(deep, within[tile.held])
        calm = np.empty_like(grey)
        sigmas = (EDGE_SIGMA_PX, EDGE_SIGMA_PX, 0)
        ndimage.gaussian_filter(grey, sigmas, output=calm, mode="nearest")
        edge = np.empty(whole.shape, np.float32)
        lithium = np.full(whole.shape, typical, np.float32)
        find_edges(calm, first_px, solid, lithium, EDGE_REACH_PX, edge)
        edge[~whole] = np.nan
        core = (slice(None), slice(None), *tile.inner)
        part = np.zeros((4, number, *edge.shape))
        bright = np.zeros((2, *edge.shape))
        _sum_columns(
            grey, calm, first_px, solid, edge, typical, band.sigma_px, guard_px,
            float(reach_px), far, part, bright,
        )  # fmt: skip
        sound[tile.core] = np.isfinite(edge)[tile.inner]
        starts = [cut.start // block for cut in tile.core]
        blocked = _blocks(part[core], block)
        into = tuple(
            slice(start, start + size)
            for start, size in zip(starts, blocked.shape[2:], strict=True)
        )
        sums[:, :, into[0], into[1]] = blocked
        if bright[1].any():
            overshoot.append(float(bright[0].sum() / bright[1].sum()))
    return sums, sound, float(np.median(overshoot)) if overshoot else 0.0


@numba.njit(cache=True, parallel=True)
def _sum_columns(
    grey: np.ndarray,
    calm: np.ndarray,
    first_px: np.ndarray,
    solid: np.ndarray,
    edge: np.ndarray,
    lithium: float,
    sigma_px: float,
    guard_px: float,
    reach_px: float,
    far: int,
    sums: np.ndarray,
    bright: np.ndarray,
) -> None:
    """Sum up each column at some distances from its edge.

    ``sums`` (sum, distance, y, x) is given what the electrolyte's tail adds less the
    grey, the weight of the lithium's grey, the number of voxels, and at distance 0 the
    lithium's own grey far away; distance 0 is the window next to the guard, 1 the one
    where there is no void, the others are a voxel long, outwards from the guard.
    ``bright`` (2, y, x) is given how far the edge outshines the electrolyte.
    """
    scale = 1.0 / (math.sqrt(2.0) * sigma_px)
    number = sums.shape[1]
    for y in numba.prange(grey.shape[0]):
        for x in range(grey.shape[1]):
            if not np.isfinite(edge[y, x]):
                continue
            step = solid[y, x] - lithium
            shard = lithium + SHARD_FRAC * step
            beyond = 0.0
            count = 0
            for offset in range(grey.shape[2]):
                away = first_px[y, x] + offset - edge[y, x]
                if -3.0 * sigma_px < away < -1.5 * sigma_px:
                    bright[0, y, x] += (calm[y, x, offset] - solid[y, x]) / step
                    bright[1, y, x] += 1.0
                if calm[y, x, offset] > shard:
                    continue
                if offset >= far:
                    beyond += grey[y, x, offset]
                    count += 1
                if away <= guard_px:
                    continue
                tail = 0.5 * math.erfc(away * scale)
                added = solid[y, x] * tail - grey[y, x, offset]
                place = 2 + int(away - guard_px)
                if away < reach_px and place < number:
                    sums[0, place, y, x] += added
                    sums[1, place, y, x] += 1.0 - tail
                    sums[2, place, y, x] += 1.0
                if away <= guard_px + WINDOW_PX:
                    sums[0, 0, y, x] += added
                    sums[1, 0, y, x] += 1.0 - tail
                    sums[2, 0, y, x] += 1.0
                elif reach_px + 3 < away <= reach_px + 3 + WINDOW_PX:
                    sums[0, 1, y, x] += added
                    sums[1, 1, y, x] += 1.0 - tail
                    sums[2, 1, y, x] += 1.0
            sums[3, 0, y, x] = beyond
            sums[3, 1, y, x] = count


def _smooth_lack(sums: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return the mean lack (distance, y, x) around each block."""
    smooth = ndimage.gaussian_filter(sums, (0, 0, sigma, sigma))
    lithium = smooth[3, 0] / np.maximum(smooth[3, 1], 1e-9)
    number = np.maximum(smooth[2], 1e-9)
    return (smooth[0] + lithium * smooth[1]) / number


def _blocks(values: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """Return sums over squares of the last two axes; the last ones may be partial."""
    ny, nx = values.shape[-2:]
    short = [(0, 0)] * (values.ndim - 2) + [(0, -ny % block), (0, -nx % block)]
    padded = np.pad(values, short)
    ny, nx = padded.shape[-2] // block, padded.shape[-1] // block
    squares = padded.reshape(*values.shape[:-2], ny, block, nx, block)
    return squares.sum(axis=(-3, -1))


def _columns(
    blocks: NDArray[np.float64], block: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return a map of blocks at every column, linear between their middles."""
    at = np.meshgrid(
        *((np.arange(size) + 0.5) / block - 0.5 for size in shape), indexing="ij"
    )
    return np.asarray(ndimage.map_coordinates(blocks, at, order=1, mode="nearest"))
