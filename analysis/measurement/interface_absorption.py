"""Thick and wide voids in a volume of attenuation, as a lack of grey.

A void is 1.2 % of the contrast darker than lithium, a tenth of the noise of a voxel: it
takes the mean over some hundred columns to see it, and the blurred edge of the
electrolyte, eighty times as strong, hides what is nearer to it than some blurs.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from analysis.measurement.face_band import FaceBand
from analysis.measurement.face_voids import (
    DEEP_PX,
    EDGE_REACH_PX,
    FaceVoids,
    smoothed,
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
FRINGE_FRAC = 0.03
"""Where the electrolyte's edge is so much brighter than the electrolyte fringes are."""


def find_wide_voids(
    band: FaceBand,
    within: NDArray[np.bool_],
    optics: VoidOptics,
    reach_px: int,
    sigma_px: float,
) -> FaceVoids:
    """Find where the lithium next to the electrolyte lacks grey.

    Parameters
    ----------
    band, within, optics, reach_px, sigma_px
        As in `analysis.measurement.interface_phase.fit_thin_voids`.

    Raises
    ------
    ValueError
        Where the data cannot tell a void: noise, fringes, no lithium in view.
    """
    contrast = optics.contrast
    first_px = band.shift - band.inside_px
    far = band.inside_px + reach_px + 3
    scatter = _scatter(band.grey[within][:, far:]) / contrast
    # Of white noise; what is more is seen by the scatter of the maps below.
    needed = scatter / (2 * math.sqrt(math.pi * WINDOW_PX) * NOISE_GOAL)
    across_px = float(np.clip(needed, 2.0, MAX_ACROSS_SIGMA_PX))
    halo_px = math.ceil(4 * across_px)
    shape = within.shape
    near = np.full(shape, np.nan, np.float32)
    lack, none = near.copy(), near.copy()
    overshoot = []
    guard_px = GUARD_SIGMAS * sigma_px
    for tile in tiles(shape, halo_px):
        if not within[tile.core].any():
            continue
        maps, brighter = _tile_maps(
            band.grey[tile.held], first_px[tile.held], within[tile.held], contrast,
            sigma_px, guard_px, across_px, far, reach_px,
        )  # fmt: skip
        for whole, part in zip((near, lack, none), maps, strict=True):
            whole[tile.core] = part[tile.inner]
        overshoot.append(brighter)
    seen = np.isfinite(near)
    if not seen.any():
        raise ValueError("no face of the electrolyte is seen")
    if float(np.median(overshoot)) > FRINGE_FRAC:
        raise ValueError(
            f"fringes of {100 * float(np.median(overshoot)):.0f} % stand at the face: "
            "absorption cannot tell a void there; set "
            "analysis.reconstruction.interface_phase"
        )
    # The map has few independent places: what its scatter cannot tell the noise does.
    sd = max(
        float(np.sqrt(np.nanmean(none**2))),
        scatter / (2 * math.sqrt(math.pi * WINDOW_PX) * across_px),
    )
    if not 4 * sd < 1:
        raise ValueError(
            f"a void is {1 / max(sd, 1e-9):.1f} times the noise of the mean of "
            f"{(2.355 * across_px) ** 2:.0f} columns; 4 are needed: set "
            "analysis.reconstruction.interface_phase, or take more projections"
        )
    found = near[seen]
    height = np.where(near > 0.5, guard_px + np.maximum(lack, 0), near * 0)
    return FaceVoids(
        height_px=height.astype(np.float32),
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


def _tile_maps(
    grey: NDArray[np.float32],
    first_px: NDArray[np.float32],
    within: NDArray[np.bool_],
    contrast: float,
    sigma_px: float,
    guard_px: float,
    across_px: float,
    far: int,
    reach_px: int,
) -> tuple[tuple[NDArray[np.float32], ...], float]:
    """Return lack next to the guard, summed, and far away; and the edge's overshoot."""
    solid, sound = solid_level(np.median(grey[..., :DEEP_PX], axis=2), within)
    calm = np.empty_like(grey)
    sigmas = (EDGE_SIGMA_PX, EDGE_SIGMA_PX, 0)
    ndimage.gaussian_filter(grey, sigmas, output=calm, mode="nearest")
    weight = within.astype(np.float32)
    lithium = smoothed(grey[..., far:].mean(axis=2), weight, across_px)
    edge = np.empty(within.shape, np.float32)
    find_edges(calm, first_px, solid, lithium, EDGE_REACH_PX, edge)
    sound = sound & np.isfinite(edge)
    step = solid - lithium
    away = first_px[..., None] + np.arange(grey.shape[2], dtype=np.float32)
    away -= np.where(sound, edge, 0)[..., None]
    # Shards in the lithium are no lack of it.
    plain = sound[..., None] & (calm < (lithium + 0.25 * step)[..., None])
    tail = 0.5 * special.erfc(away / np.float32(sigma_px * math.sqrt(2)))
    lack = (lithium[..., None] + step[..., None] * tail - grey) / contrast

    def window(start: float, length: float) -> NDArray[np.float32]:
        """Return the mean lack between two distances, over neighbouring columns."""
        chosen = plain & (away > start) & (away <= start + length)
        number = chosen.sum(axis=2).astype(np.float32)
        mean = np.where(chosen, lack, 0).sum(axis=2) / np.maximum(number, 1)
        return smoothed(mean.astype(np.float32), number, across_px)

    near = window(guard_px, WINDOW_PX)
    total = np.zeros_like(near)
    alive = np.ones(near.shape, bool)
    start = guard_px
    while start < reach_px and alive.any():
        here = window(start, 1.0)
        alive &= here > 0.25
        total += np.where(alive, here, 0)
        start += 1.0
    none = window(reach_px + 3.0, WINDOW_PX)
    inner = sound[..., None] & (away > -3.0 * sigma_px) & (away < -1.5 * sigma_px)
    bright = (calm - solid[..., None])[inner]
    overshoot = 0.0
    if bright.size:
        overshoot = float(np.median(bright) / np.median(step[sound]))
    hidden = ~sound
    for values in (near, total, none):
        values[hidden] = np.nan
    return (near, total, none), overshoot
