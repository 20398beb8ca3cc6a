"""Find the pellet between its electrodes and give it smooth surfaces.

Cracks open to the rim and to the faces, chips are missing there: a closing of the solid
would fill or keep them by their width. So the solid only tells where the surface is
seen, and a smooth surface through the greater part of that is the pellet's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analysis.errors import MeasurementError
from analysis.measurement.body import Body
from analysis.measurement.grey_levels import Levels
from analysis.measurement.overview import Overview
from analysis.measurement.settings import MeasurementSettings
from analysis.measurement.surface import face_surface, robust_surface

NUM_ANGLES = 720
CLOSING_UM = 6.0  # half the widest crack that parts the pellet into fragments
SHARD_GAP_PX = 2.0
SMALLEST_SHARD_PX = 64


def find_solid(
    overview: Overview, levels: Levels, voxel_um: float
) -> NDArray[np.bool_]:
    """Return the pellet's coarse voxels, its cracks closed.

    Raises
    ------
    MeasurementError
        Where nothing is disc-like, or it leaves the field of view.
    """
    high = overview.coarse > levels.threshold
    # One voxel of opening parts the pellet from streaks and from noise.
    high = np.asarray(ndimage.binary_opening(high, iterations=1), np.bool_)
    radius = max(1, round(CLOSING_UM / (overview.factor * voxel_um)))
    closed = _box_closing(high, radius)
    found = ndimage.label(closed)[0]  # pyright: ignore[reportIndexIssue]  # scipy's stub
    labels = np.asarray(found)
    if not labels.any():
        raise MeasurementError(
            "no pellet found: nothing solid in the volume; check beam and alignment"
        )
    sizes = np.bincount(labels[high])
    sizes[0] = 0
    pellet = labels == int(sizes.argmax())
    _check_in_view(pellet)
    return pellet


@dataclass(frozen=True)
class Shards:
    """Pieces of electrolyte in the lithium, apart from the pellet."""

    number: int
    volume_px: float


def find_shards(overview: Overview, levels: Levels, body: Body) -> Shards:
    """Count what is solid above and below the pellet."""
    factor = overview.factor
    nz, ny, nx = overview.coarse.shape
    z, y, x = ((np.arange(size) + 0.5) * factor - 0.5 for size in (nz, ny, nx))
    rows, columns = np.round(y).astype(int), np.round(x).astype(int)
    top, bottom = body.top[np.ix_(rows, columns)], body.bottom[np.ix_(rows, columns)]
    radius = np.hypot((y - body.centre[0])[:, None], (x - body.centre[1])[None, :])
    within = radius < float(np.median(body.rim))
    apart = SHARD_GAP_PX + factor
    solid = (overview.coarse > levels.threshold) & within
    for index, height in enumerate(z):
        solid[index] &= (height < top - apart) | (height > bottom + apart)
    found = ndimage.label(solid)[0]  # pyright: ignore[reportIndexIssue]  # scipy's stub
    labels = np.asarray(found)
    sizes = np.bincount(labels.ravel())[1:] * factor**3
    sizes = sizes[sizes >= SMALLEST_SHARD_PX]
    return Shards(len(sizes), float(sizes.sum()))


def _box_closing(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    padded = np.pad(mask, radius).view(np.uint8)
    size = 2 * radius + 1
    dilated = ndimage.maximum_filter(padded, size)
    closed = ndimage.minimum_filter(dilated, size)
    inner = slice(radius, -radius)
    return closed[inner, inner, inner].view(np.bool_)


def _check_in_view(pellet: NDArray[np.bool_]) -> None:
    per_row = pellet.sum(axis=(1, 2))
    if per_row.max() < 64:
        raise MeasurementError(
            "no pellet found: the largest solid is a few voxels across; check the "
            "grey levels and the voxel size"
        )
    sides = {
        "left": pellet[:, :, 0],
        "right": pellet[:, :, -1],
        "front": pellet[:, 0],
        "back": pellet[:, -1],
    }
    for name, side in sides.items():
        if side.sum() > 0.02 * pellet.shape[0] * pellet.shape[1]:
            raise MeasurementError(
                f"pellet is cut by the {name} side of the field of view; move the "
                "sample so that the rim is in view"
            )
    area = np.median(per_row[per_row > 0.5 * per_row.max()])
    for name, row in (("first", per_row[0]), ("last", per_row[-1])):
        if row > 0.3 * area:
            raise MeasurementError(
                f"pellet is cut by the {name} row of the volume; move the sample or "
                "reconstruct more rows so that both faces are in view"
            )


def isolate_pellet(
    overview: Overview,
    levels: Levels,
    pellet: NDArray[np.bool_],
    voxel_um: float,
    settings: MeasurementSettings,
) -> Body:
    """Return the pellet with smooth rim and faces; the edge's blur is set to 1 px."""
    factor = overview.factor
    rows = np.flatnonzero(pellet.sum(axis=(1, 2)))
    footprint = pellet.sum(axis=0) > 0.5 * len(rows)
    if footprint.sum() < 64:
        raise MeasurementError(
            "no pellet found: the largest solid has no upright rim; check the axis "
            "and the orientation of the volume"
        )
    area = float(footprint.sum())
    at_y, at_x = np.nonzero(footprint)
    centre = (float(at_y.mean()), float(at_x.mean()))
    rim_coarse = _rim(overview.coarse, levels, pellet, centre, np.sqrt(area / np.pi))
    window_px = settings.rim_window_um / voxel_um
    circumference = 2 * np.pi * np.sqrt(area / np.pi) * factor
    window = (window_px / factor, window_px * NUM_ANGLES / circumference)
    inner = _rows_with_rim(rim_coarse)
    smooth = robust_surface(rim_coarse[inner], window, periodic=True)
    rim = np.empty((overview.shape[0], NUM_ANGLES), np.float32)
    at = (np.arange(overview.shape[0]) + 0.5) / factor - 0.5
    at = np.clip(at - inner.start, 0, len(smooth) - 1)
    first = np.minimum(at.astype(int), max(len(smooth) - 2, 0))
    second = np.minimum(first + 1, len(smooth) - 1)
    share = (at - first)[:, None]
    rim[:] = (smooth[first] * (1 - share) + smooth[second] * share) * factor
    fine_centre = tuple((c + 0.5) * factor - 0.5 for c in centre)
    top, bottom = _faces(
        overview, levels, pellet, rim, fine_centre, settings.face_window_um / voxel_um
    )
    return Body(top, bottom, rim, (fine_centre[0], fine_centre[1]), 1.0)


def _rim(
    coarse: NDArray[np.float32],
    levels: Levels,
    pellet: NDArray[np.bool_],
    centre: tuple[float, ...],
    radius: float,
) -> NDArray[np.float64]:
    """Return the outermost crossing of the mid level, coarse voxels, (z, angle)."""
    reach = max(8.0, 0.2 * radius)
    step = 0.5
    radii = np.arange(radius + reach, max(radius - reach, 1.0), -step)
    angles = np.arange(NUM_ANGLES) * (2 * np.pi / NUM_ANGLES)
    at_y = centre[0] + radii[:, None] * np.sin(angles)
    at_x = centre[1] + radii[:, None] * np.cos(angles)
    out = np.full((coarse.shape[0], NUM_ANGLES), np.nan)
    near = ndimage.binary_dilation(pellet, iterations=2)
    for z in np.flatnonzero(pellet.any(axis=(1, 2))):
        # What is solid but not the pellet (a shard, a wall) is no rim.
        plane = np.where(near[z], coarse[z], levels.low)
        rays = ndimage.map_coordinates(
            plane, [at_y, at_x], order=1, mode="constant", cval=levels.low
        )
        above = rays > levels.threshold
        # Two samples in a row: a single bright one is noise.
        above[:-1] &= above[1:]
        found = above.any(axis=0)
        index = np.maximum(above.argmax(axis=0), 1)
        columns = np.arange(NUM_ANGLES)
        outer, inner = rays[index - 1, columns], rays[index, columns]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (levels.threshold - outer) / (inner - outer)
        crossing = radii[index - 1] - step * np.clip(share, 0, 1)
        out[z] = np.where(found, crossing, np.nan)
    return out


def _rows_with_rim(rim: NDArray[np.float64]) -> slice:
    """Return the coarse rows whose rim is clear of the faces' blur."""
    known = np.flatnonzero(np.isfinite(rim).mean(axis=1) > 0.5)
    if len(known) == 0:
        raise MeasurementError("no pellet found: no rim is seen around the axis")
    first, last = int(known[0]), int(known[-1])
    trim = 2 if last - first > 8 else 0
    return slice(first + trim, last + 1 - trim)


def _faces(
    overview: Overview,
    levels: Levels,
    pellet: NDArray[np.bool_],
    rim: NDArray[np.float32],
    centre: tuple[float, ...],
    window_px: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the smooth heights (y, x) of the face towards row 0 and of the other."""
    cell = overview.column_factor
    columns = overview.columns
    for axis in (1, 2) if cell <= 2 else ():
        mean = ndimage.uniform_filter1d(columns, 3, axis, mode="nearest")
        columns = np.asarray(mean, np.float32)
    _, ny, nx = columns.shape
    y, x = np.meshgrid(
        (np.arange(ny) + 0.5) * cell - 0.5 - centre[0],
        (np.arange(nx) + 0.5) * cell - 0.5 - centre[1],
        indexing="ij",
    )
    radius = float(np.median(rim))
    inside = np.hypot(y, x) < radius - 3 * cell - 3
    # The pellet's coarse voxels, seen in each column of cells.
    coarse_y = np.minimum(np.arange(ny) * cell // overview.factor, pellet.shape[1] - 1)
    coarse_x = np.minimum(np.arange(nx) * cell // overview.factor, pellet.shape[2] - 1)
    seen = pellet[:, coarse_y][:, :, coarse_x]
    inside &= seen.any(axis=0)
    first = seen.argmax(axis=0) * overview.factor
    last = (len(seen) - seen[::-1].argmax(axis=0)) * overview.factor - 1
    faces = []
    for start, direction in ((first, 1), (last, -1)):
        raw = _face_crossing(columns, levels, start, direction, inside)
        window = window_px / cell
        smooth = face_surface(raw, window, direction)
        faces.append(_to_full(smooth, cell, overview.shape[1:]))
    return faces[0], faces[1]


def _face_crossing(
    columns: NDArray[np.float32],
    levels: Levels,
    start: NDArray[np.intp],
    direction: int,
    inside: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return where each mean column crosses the mid level from outside, or NaN.

    A column that is not solid just below the crossing stands over a crack and tells
    nothing about the face.
    """
    reach = 8
    nz = columns.shape[0]
    rows, cells = np.nonzero(inside)
    offsets = np.arange(-reach, reach + 1)
    at = np.clip(start[rows, cells][None] + direction * offsets[:, None], 0, nz - 1)
    profile = columns[at, rows, cells]
    above = profile > levels.threshold
    above[:-1] &= above[1:]
    found = above.any(axis=0) & ~above[0]
    index = np.maximum(above.argmax(axis=0), 1)
    order = np.arange(len(rows))
    outer, inner = profile[index - 1, order], profile[index, order]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip((levels.threshold - outer) / (inner - outer), 0, 1)
    crossing = start[rows, cells] + direction * (offsets[index - 1] + share)
    deeper = np.clip(index + 4, 0, len(offsets) - 1)
    solid_below = profile[deeper, order] - levels.low > 0.85 * (
        levels.high - levels.low
    )
    out = np.full(inside.shape, np.nan)
    out[rows, cells] = np.where(found & solid_below, crossing, np.nan)
    return out


def _to_full(
    cells: NDArray[np.float64], cell: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return a map of cells at every column (y, x)."""
    at_y = (np.arange(shape[0]) + 0.5) / cell - 0.5
    at_x = (np.arange(shape[1]) + 0.5) / cell - 0.5
    grid = np.meshgrid(at_y, at_x, indexing="ij")
    full = ndimage.map_coordinates(cells, grid, order=1, mode="nearest")
    return np.asarray(full, np.float32)
