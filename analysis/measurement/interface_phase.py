"""Thin voids in a phase-retrieved volume, fitted column by column.

Phase retrieval keeps of a void in lithium what is sharp and takes away what is smooth:
``contrast * (V - kept * H V)``, with ``V`` the void and ``H`` the filter. What it takes
is worked out from the voids found so far and given back, until nothing changes.
"""

import math

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
    smoothed,
    solid_level,
    tiles,
)
from analysis.measurement.interface_fit import (
    draw_voids,
    find_edges,
    fit_voids,
    low_passed,
    suspect_voids,
)
from analysis.measurement.void_optics import VoidOptics

ACROSS_SIGMA_PX = 0.7
"""Columns are averaged over their nearest neighbours before they are fitted."""

FLOOR_SIGMAS = 1.9
"""A thinner void looks like a shift or a roughness of the electrolyte's edge."""

FEEDBACK_SIGMAS = 0.8
"""From this thickness on the filter's share is given back; it makes voids thicker."""

FLOOR_NOISES = 5.0

STARTS_PX = (0.0, 2.0, 6.0)
ROUNDS = 8
CONVERGED_FRAC = 0.003

MISFIT_FRAC = 0.25
"""A column that the fit leaves farther off is none of electrolyte, void and lithium."""

SIGMAS_PX = np.arange(0.5, 1.85, 0.1)
SIGMA_COLUMNS = 600

SUSPECT_FRAC = 0.12
"""Lack of grey next to the edge, in contrasts, from which a column is fitted: a void at
the floor lacks four times as much."""


def fit_thin_voids(band: FaceBand, optics: VoidOptics) -> FaceVoids:
    """Fit the void in each column of a phase-retrieved volume.

    Parameters
    ----------
    band : FaceBand
        The columns across the face; the fit starts from its blur.
    optics : VoidOptics
        What a void shows.

    Raises
    ------
    MeasurementError
        Where no face is seen.
    """
    halo_px = math.ceil(max(3 * LEVEL_SIGMA_PX, 4 * optics.length_px))
    within, sigma_px = band.within, band.sigma_px
    height = np.full(within.shape, np.nan, np.float32)
    noise = np.full(within.shape, np.nan, np.float32)
    sigmas_px = []
    for tile in tiles(within.shape, halo_px):
        if not within[tile.core].any():
            continue
        fitted = _fit_tile(
            band.grey[tile.held], band.shift[tile.held] - band.inside_px,
            within[tile.held], optics, band.reach_px, sigma_px,
        )  # fmt: skip
        sigma_px = fitted[2]  # the next tile's is much the same
        sigmas_px.append(sigma_px)
        height[tile.core] = fitted[0][tile.inner]
        noise[tile.core] = fitted[1][tile.inner]
    seen = np.isfinite(height)
    if not seen.any():
        raise MeasurementError("no face of the electrolyte is seen in the companion")
    # An integral over the blur of a void adds the noise of some three voxels.
    sigma_px = float(np.median(sigmas_px))
    sd_px = float(np.sqrt(np.nanmean(noise**2))) * math.sqrt(3.0)
    floor_px = max(FLOOR_SIGMAS * sigma_px, FLOOR_NOISES * sd_px, 1.0)
    found = height[seen]
    return FaceVoids(
        height_px=np.where(np.nan_to_num(height) > floor_px, height, height * 0),
        floor_px=floor_px,
        floor_across_px=2.355 * math.hypot(sigma_px, ACROSS_SIGMA_PX),
        loose_frac=float((found > 0.75 * floor_px).mean()),
        tight_frac=float((found > 1.25 * floor_px).mean()),
        false_frac=0.5 * math.erfc(floor_px / max(sd_px, 1e-9) / math.sqrt(2)),
    )


def _fit_tile(
    grey: NDArray[np.float32],
    first_px: NDArray[np.float32],
    within: NDArray[np.bool_],
    optics: VoidOptics,
    reach_px: int,
    sigma_px: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """Return height, noise (in contrasts) and blur; NaN where nothing is seen."""
    contrast = optics.contrast
    far = round(-float(first_px.min())) + reach_px + 3
    calm = np.empty_like(grey)
    ndimage.gaussian_filter(
        grey, (ACROSS_SIGMA_PX, ACROSS_SIGMA_PX, 0), output=calm, mode="nearest"
    )
    weight = within.astype(np.float32)
    edge, height, misfit = (np.empty(within.shape, np.float32) for _ in range(3))
    height[:] = 0
    suspected = np.zeros(within.shape, np.bool_)
    lithium = np.empty_like(edge)
    corrected: NDArray[np.float32] = calm
    void = np.zeros_like(calm)
    before = -1.0
    starts = np.array(STARTS_PX)
    # What is given back later is smooth: its mean is as good as another median.
    deep, beyond = _median(calm[..., :DEEP_PX]), _median(calm[..., far:])
    taken = void
    for turn in range(ROUNDS):
        lithium = smoothed(
            beyond - taken[..., far:].mean(axis=2), weight, LEVEL_SIGMA_PX
        )
        solid, sound = solid_level(deep - taken[..., :DEEP_PX].mean(axis=2), within)
        find_edges(corrected, first_px, solid, lithium, EDGE_REACH_PX, edge)
        edge[~sound] = np.nan
        if turn < 2:
            sigma_px = _best_sigma(
                corrected, first_px, solid, lithium, contrast, reach_px, edge, sigma_px
            )
        suspect_voids(
            corrected, first_px, solid, lithium, contrast, sigma_px, SUSPECT_FRAC,
            edge, suspected,
        )  # fmt: skip
        fit_voids(
            corrected, first_px, solid, lithium, contrast, sigma_px, float(reach_px),
            starts, suspected, edge, height, misfit,
        )  # fmt: skip
        height[misfit > MISFIT_FRAC] = np.nan
        kept = np.where(height > FEEDBACK_SIGMAS * sigma_px, height, 0)
        kept = kept.astype(np.float32)
        total = float(kept.sum(dtype=np.float64))
        if abs(total - before) <= CONVERGED_FRAC * max(total, 1.0):
            break
        before = total
        draw_voids(first_px, edge, kept, sigma_px, void)
        margin = math.ceil(4 * optics.length_px)
        taken = low_passed(void, optics.length_px, margin)
        taken *= np.float32(contrast * optics.kept)
        corrected = calm - taken
    rest = (corrected[..., far:] - lithium[..., None]) / contrast
    return height, np.asarray(rest.std(axis=2), np.float32), sigma_px


def _median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of each column."""
    return np.asarray(np.median(values, axis=2), np.float32)


def _best_sigma(
    grey: NDArray[np.float32],
    first_px: NDArray[np.float32],
    solid: NDArray[np.float32],
    lithium: NDArray[np.float32],
    contrast: float,
    reach_px: int,
    edge: NDArray[np.float32],
    sigma_px: float,
) -> float:
    """Return the blur with which some of the columns are fitted best."""
    y, x = np.nonzero(np.isfinite(edge))
    if len(y) < 100:
        return sigma_px
    chosen = np.linspace(0, len(y) - 1, min(SIGMA_COLUMNS, len(y))).astype(int)
    at = y[chosen][:, None], x[chosen][:, None]
    some = [
        np.ascontiguousarray(values[at])
        for values in (grey, first_px, solid, lithium, edge)
    ]
    all_of_them = np.ones(some[4].shape, np.bool_)
    left = []
    for sigma in SIGMAS_PX:
        begun = some[4].copy()
        height, misfit = np.zeros_like(begun), np.empty_like(begun)
        fit_voids(
            some[0], some[1], some[2], some[3], contrast, float(sigma),
            float(reach_px), np.array(STARTS_PX), all_of_them, begun, height, misfit,
        )  # fmt: skip
        left.append(float(np.nanmedian(misfit)))
    best = int(np.argmin(left))
    if not 0 < best < len(left) - 1:
        return float(SIGMAS_PX[best])
    low, middle, high = left[best - 1 : best + 2]
    bend = low - 2 * middle + high
    shift = 0.5 * (low - high) / bend if bend > 0 else 0.0
    return float(SIGMAS_PX[best] + shift * (SIGMAS_PX[1] - SIGMAS_PX[0]))
