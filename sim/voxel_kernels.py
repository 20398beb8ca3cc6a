"""Compiled loops over the voxels of a cell.

A column is a line of voxels along z at one (x, y). What is given by column has the
axes (columns, rows), contiguous along rows.
"""

import numpy as np
from numba import njit

from sim.pellet import grains_of_column


@njit(cache=True, nogil=True)
def row_sums(parts: np.ndarray) -> np.ndarray:
    """Return (rows,) float64 sums of (columns, rows) parts of voxels."""
    total = np.zeros(parts.shape[1])
    for k in range(parts.shape[0]):
        for z in range(parts.shape[1]):
            total[z] += parts[k, z]
    return total


@njit(cache=True, nogil=True)
def weighted_sum(parts: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> float:
    """Return the sum of (columns, rows) parts, each column and each row weighted."""
    total = 0.0
    for k in range(parts.shape[0]):
        for z in range(parts.shape[1]):
            total += parts[k, z] * columns[k] * rows[z]
    return total


@njit(cache=True, nogil=True)
def crack_sums(
    cover: np.ndarray, wide_um: np.ndarray, rows_each: np.ndarray, edges_um: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum cracks by row and by width.

    Parameters
    ----------
    cover, wide_um : numpy.ndarray
        (columns, rows) float32 part of each voxel that is crack, and local width.
    rows_each : numpy.ndarray
        (rows,) how many rows each stands for.
    edges_um : numpy.ndarray
        (bins + 1,) evenly spaced edges of widths from 0; the last bin takes the wider.

    Returns
    -------
    area : numpy.ndarray
        (rows,) float64 cover over width.
    by_width : numpy.ndarray
        (bins,) float64 cover, times the rows that each stands for.
    """
    area = np.zeros(cover.shape[1])
    by_width = np.zeros(len(edges_um) - 1)
    last = len(by_width) - 1
    per_um = last / edges_um[last]
    for k in range(cover.shape[0]):
        for z in range(cover.shape[1]):
            covered = cover[k, z]
            if covered <= 0:
                continue
            wide = wide_um[k, z]
            area[z] += covered / wide
            bin_ = min(int(wide * per_um), last)
            if wide < edges_um[bin_]:
                bin_ -= 1
            elif bin_ < last and wide >= edges_um[bin_ + 1]:
                bin_ += 1
            by_width[bin_] += covered * rows_each[z]
    return area, by_width


@njit(cache=True, nogil=True)
def filled_sum(
    cover: np.ndarray, rank_um: np.ndarray, level_um: float, pitch_um: float
) -> float:
    """Return how much of the cracks is filled at a level, in voxels."""
    total = 0.0
    for k in range(cover.shape[0]):
        for z in range(cover.shape[1]):
            part = (level_um - rank_um[k, z]) / pitch_um + 0.5
            total += cover[k, z] * min(max(part, 0.0), 1.0)
    return total


@njit(cache=True, nogil=True)
def add_by_rank(
    volumes: np.ndarray,
    cover: np.ndarray,
    rank_um: np.ndarray,
    least_um: float,
    step_um: float,
) -> None:
    """Add cover to the bin of its rank; what is below the first goes to the first."""
    for k in range(cover.shape[0]):
        for z in range(cover.shape[1]):
            if cover[k, z] > 0:
                place = (rank_um[k, z] - least_um) / step_um
                volumes[int(max(place, 0.0))] += cover[k, z]


@njit(cache=True, nogil=True)
def gap_parts(
    gap_um: np.ndarray,
    top_um: np.ndarray,
    bottom_um: np.ndarray,
    depth_um: np.ndarray,
    pitch_um: float,
) -> np.ndarray:
    """Return the part of each voxel that is void at an interface."""
    parts = np.zeros((len(top_um), len(depth_um)), np.float32)
    half = pitch_um / 2
    for k in range(len(top_um)):
        for z in range(len(depth_um)):
            d = depth_um[z]
            above = min(d + half, top_um[k]) - max(d - half, top_um[k] - gap_um[0, k])
            low = max(d - half, bottom_um[k])
            below = min(d + half, bottom_um[k] + gap_um[1, k]) - low
            parts[k, z] = (max(above, 0.0) + max(below, 0.0)) / pitch_um
    return parts


@njit(cache=True, nogil=True)
def take_from_intact(
    missing: np.ndarray,
    slot: np.ndarray,
    body: np.ndarray,
    cover: np.ndarray,
    filled: np.ndarray,
    shards: np.ndarray,
    gap_um: np.ndarray,
    top_um: np.ndarray,
    bottom_um: np.ndarray,
    disc: np.ndarray,
    disc_rows: np.ndarray,
    depth_um: np.ndarray,
    pitch_um: float,
    width: int,
    first_um: float,
    last_um: float,
    lithium: float,
    move_x_um: np.ndarray,
    move_y_um: np.ndarray,
    down_um: np.ndarray,
    slope: np.ndarray,
    middle_um: float,
    grain_um: float,
    grain_scale: float,
    seed: int,
) -> None:
    """Find what an intact cell has more in each voxel.

    Parameters
    ----------
    missing : numpy.ndarray
        (rows, width * width) float32, filled in.
    slot : numpy.ndarray
        (width * width,) int32 place of each column among those with cracks, or -1.
    body, shards : numpy.ndarray
        Part of each voxel within the pellet, cracks included, and part that is shard;
        no columns of shards where there are none.
    cover, filled : numpy.ndarray
        Of the columns with cracks: part that is crack, part that is filled crack.
    gap_um, top_um, bottom_um : numpy.ndarray
        By column: voids at the two faces, and the faces.
    disc, disc_rows, depth_um, pitch_um, width
        The lattice.
    first_um, last_um : float
        Depth at which the lithium begins and ends.
    lithium : float
        What lithium counts, relative to electrolyte.
    move_x_um, move_y_um, down_um, slope, middle_um, grain_um, grain_scale, seed
        As for `sim.pellet.grains_of_column`, by column.
    """
    half = pitch_um / 2
    factors = np.ones(missing.shape[0], np.float32)
    for k in range(missing.shape[1]):
        if grain_scale > 0 and body[k].max() > 0:
            x = (k % width - width // 2) * pitch_um - move_x_um[k]
            y = (k // width - width // 2) * pitch_um - move_y_um[k]
            grains_of_column(
                factors, x, y, depth_um, down_um[k], slope[k], middle_um, grain_um,
                grain_scale, seed,
            )  # fmt: skip
        for z in range(missing.shape[0]):
            solid = body[k, z]
            in_crack = 0.0
            if slot[k] >= 0:
                solid -= cover[slot[k], z]
                in_crack = filled[slot[k], z]
            intact = disc[k] * disc_rows[z]
            present = solid * factors[z]
            if disc[k] > 0:
                d = depth_um[z]
                low, high = d - half, d + half
                above = min(high, top_um[k] - gap_um[0, k]) - max(low, first_um)
                below = min(high, last_um) - max(low, bottom_um[k] + gap_um[1, k])
                foil = (max(above, 0.0) + max(below, 0.0)) / pitch_um
                shard = 0.0
                if shards.shape[0] > 0:
                    shard = shards[k, z]
                    present += shard
                in_foil = max(disc[k] * foil - shard, 0.0)
                whole = (min(high, last_um) - max(low, first_um)) / pitch_um
                intact += lithium * disc[k] * (max(whole, 0.0) - disc_rows[z])
                present += lithium * (in_foil + in_crack)
            missing[z, k] = intact - present
