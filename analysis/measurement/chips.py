"""Pieces broken out of the pellet's rim.

The outline is that of the pellet before they broke out: at each angle the median radius
over the height, followed around. Along each ray the missing grey is summed, which
gives the depth of a chip to a fraction of a voxel. A ray that is still dark at the
bottom of the shell meets a crack, and tells nothing of a chip.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from analysis.measurement.body import Body
from analysis.measurement.grey_levels import Levels
from analysis.measurement.overview import Overview

SHELL_UM = 16.0
"""Depth below the rim down to which a chip may reach."""

WINDOW_UM = 120.0
"""The outline is smooth around the pellet over this length."""

FLOOR_UM = 1.2
"""A shallower dent is the rim's roughness."""

FLOOR_NOISES = 5.0
SMALLEST_UM2 = 20.0
"""Smaller openings at the rim are noise."""

CRACK_FRAC = 0.3
"""Lack of grey at the bottom of the shell from which a ray meets a crack."""

LEAST_HELD = 0.2
"""Binned rows less between the faces than this say nothing."""

OUTLINE_SD_PX = 0.1
VOLUME_SD_FRAC = 0.08
"""Error of chips on phantoms, where a face cuts them."""


@dataclass(frozen=True)
class Chips:
    """Pieces missing at the rim.

    Attributes
    ----------
    number : int
        Chips apart from each other.
    volume_px, volume_sd_px : float
        What is missing.
    floor_px : float
        Shallower ones are not counted.
    """

    number: int
    volume_px: float
    volume_sd_px: float
    floor_px: float


def find_chips(
    overview: Overview, levels: Levels, body: Body, voxel_um: float
) -> Chips | None:
    """Find what has broken out of the rim; None where no rim is seen.

    Parameters
    ----------
    overview : Overview
        The binned tomogram.
    levels : Levels
        Grey of electrolyte and air.
    body : Body
        The pellet.
    voxel_um : float
        Edge of a voxel.
    """
    factor = overview.factor
    shell_px, edge_px = SHELL_UM / voxel_um, 3.0 * factor
    middle = float(np.median(body.rim))
    if not np.isfinite(middle) or middle < 3 * shell_px:
        return None
    number = int(np.ceil(2 * np.pi * middle / factor))
    outline = _outline(body, number, WINDOW_UM / voxel_um)
    depth = np.arange(-edge_px, shell_px + 0.5 * factor, 0.5 * factor)
    step_px = float(depth[1] - depth[0])
    rays = _rays(overview, body, outline, depth)
    held = _between_faces(overview, body, outline)
    # The level of the solid at the rim, where beam hardening makes it brightest.
    bottom = depth > 0.6 * shell_px
    whole = held > 0.99
    if not whole.any():
        return None
    solid = float(np.median(rays[..., bottom][whole]))
    contrast = solid - levels.low
    if not contrast > 0:
        return None
    lack = np.where(depth > 0, held[..., None], 0) - (rays - levels.low) / contrast
    dark = lack[..., bottom].mean(axis=2) > CRACK_FRAC * held
    over_crack = np.asarray(ndimage.binary_dilation(dark, iterations=2), np.bool_)
    missing = lack.sum(axis=2) * step_px
    # What is the same all around a row is a face's or the outline's doing.
    around = max(3, round(WINDOW_UM / voxel_um / factor))
    missing -= ndimage.median_filter(missing, (1, around), mode="wrap")
    usable = (held > LEAST_HELD) & ~over_crack
    if not usable.any():
        return None
    noise = 1.4826 * float(np.median(np.abs(missing[usable])))
    floor_px = max(FLOOR_UM / voxel_um, FLOOR_NOISES * noise)
    chip = usable & (missing > floor_px)
    found = ndimage.label(chip)[0]  # pyright: ignore[reportIndexIssue]  # scipy's stub
    labels = np.asarray(found, np.intp)
    labels = _joined_around(labels)
    areas = np.bincount(labels.ravel())[1:] * factor**2
    keep = np.flatnonzero(areas >= SMALLEST_UM2 / voxel_um**2) + 1
    chip = np.isin(labels, keep)
    # A ray stands for less area the deeper it is.
    area = factor**2 * (1 - 0.5 * missing / middle)
    # A chip's shallow edge is part of it.
    wide = np.asarray(ndimage.binary_dilation(chip, iterations=2), np.bool_) & usable
    volume = float((missing * area)[wide].sum())
    spread = float((missing * area)[usable & (missing > 0.75 * floor_px)].sum())
    spread -= float((missing * area)[usable & (missing > 1.25 * floor_px)].sum())
    columns = float(wide.sum())
    sd = math.hypot(noise * math.sqrt(columns), OUTLINE_SD_PX * columns) * factor**2
    sd = math.hypot(sd, 0.5 * spread, VOLUME_SD_FRAC * volume)
    return Chips(len(keep), volume, sd, floor_px)


def _outline(body: Body, number: int, window_px: float) -> NDArray[np.float64]:
    """Return the radius of the rim at ``number`` angles, chips bridged."""
    top, bottom = float(np.median(body.top)), float(np.median(body.bottom))
    first, last = max(0, round(top)), min(len(body.rim), round(bottom) + 1)
    typical = np.median(body.rim[first:last], axis=0)
    at = np.arange(number) * len(typical) / number
    radius = np.interp(at, np.arange(len(typical) + 1), np.append(typical, typical[0]))
    size = max(3, round(window_px * number / (2 * np.pi * float(np.median(typical)))))
    return np.asarray(ndimage.median_filter(radius, size, mode="wrap"))


def _rays(
    overview: Overview,
    body: Body,
    outline: NDArray[np.float64],
    depth: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return the grey (z, angle, depth) of the binned volume below the outline."""
    factor = overview.factor
    angle = np.arange(len(outline)) * (2 * np.pi / len(outline))
    radius = outline[:, None] - depth
    y = body.centre[0] + radius * np.sin(angle)[:, None]
    x = body.centre[1] + radius * np.cos(angle)[:, None]
    at = [(y + 0.5) / factor - 0.5, (x + 0.5) / factor - 0.5]
    rays = np.empty((len(overview.coarse), *radius.shape), np.float32)
    for z, plane in enumerate(overview.coarse):
        rays[z] = ndimage.map_coordinates(plane, at, order=1, mode="nearest")
    return rays


def _between_faces(
    overview: Overview, body: Body, outline: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the part of each binned voxel (z, angle) between the blurred faces."""
    angle = np.arange(len(outline)) * (2 * np.pi / len(outline))
    ny, nx = body.top.shape
    # The faces are told well a little inside the rim.
    y = np.rint(body.centre[0] + 0.9 * outline * np.sin(angle)).astype(int)
    x = np.rint(body.centre[1] + 0.9 * outline * np.cos(angle)).astype(int)
    at = np.clip(y, 0, ny - 1), np.clip(x, 0, nx - 1)
    factor = overview.factor
    rows = np.arange(len(overview.coarse) * factor)[:, None]
    scale = math.sqrt(2) * max(body.edge_sigma_px, 0.1)
    fine = 0.25 * (1 + special.erf((rows - body.top[at]) / scale))
    fine *= 1 + special.erf((body.bottom[at] - rows) / scale)
    return fine.reshape(-1, factor, len(outline)).mean(axis=1)


def _joined_around(labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Give one label to a chip that lies across the first angle."""
    joined = labels.copy()
    for first, last in zip(labels[:, 0], labels[:, -1], strict=True):
        if first and last:
            here, there = joined[joined == last], joined[labels == first]
            if here.size and there.size and here[0] != there[0]:
                joined[joined == here[0]] = there[0]
    return joined


def chips_row(
    chips: Chips | None, voxel_um: float
) -> dict[str, float | int | str | None]:
    """Return the columns of the chips; None where not measured."""
    if chips is None:
        names = ("chips", "chip_volume_um3", "chip_volume_sd_um3", "chip_floor_um")
        return dict.fromkeys(names)
    return {
        "chips": chips.number,
        "chip_volume_um3": chips.volume_px * voxel_um**3,
        "chip_volume_sd_um3": chips.volume_sd_px * voxel_um**3,
        "chip_floor_um": chips.floor_px * voxel_um,
    }
