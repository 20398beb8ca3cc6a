"""Compiled loops that lay cracks on a lattice of columns.

A column is a line of voxels along z at one (x, y); its voxels are contiguous.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def columns_near_trace(
    points_um: np.ndarray, band_um: float, pitch_um: float, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the columns near a trace.

    Parameters
    ----------
    points_um : numpy.ndarray
        (n, 2) points (x, y) of the trace, origin in the middle of the lattice.
    band_um : float
        Farthest distance of a column from the trace.
    pitch_um : float
        Distance between columns.
    width : int
        Columns per side of the lattice, odd; number ``y * width + x``.

    Returns
    -------
    column : numpy.ndarray
        (m,) int64 numbers of the columns.
    along : numpy.ndarray
        (m,) float32 place of the nearest point, counted in points.
    aside_um : numpy.ndarray
        (m,) float32 signed distance, positive to the left of the trace.
    """
    middle = width // 2
    nearest = np.full((width, width), np.float32(np.inf))
    along = np.zeros((width, width), np.float32)
    aside = np.zeros((width, width), np.float32)
    last = len(points_um) - 2
    for i in range(len(points_um) - 1):
        x0, y0 = points_um[i]
        x1, y1 = points_um[i + 1]
        run_x, run_y = x1 - x0, y1 - y0
        length2 = run_x * run_x + run_y * run_y
        length = np.sqrt(length2)
        low_x = int(np.floor((min(x0, x1) - band_um) / pitch_um)) + middle
        high_x = int(np.ceil((max(x0, x1) + band_um) / pitch_um)) + middle
        low_y = int(np.floor((min(y0, y1) - band_um) / pitch_um)) + middle
        high_y = int(np.ceil((max(y0, y1) + band_um) / pitch_um)) + middle
        for iy in range(max(low_y, 0), min(high_y, width - 1) + 1):
            y = (iy - middle) * pitch_um - y0
            for ix in range(max(low_x, 0), min(high_x, width - 1) + 1):
                x = (ix - middle) * pitch_um - x0
                t = (x * run_x + y * run_y) / length2
                # Beyond its ends there is no crack; bends leave no gaps.
                if (t < 0 and i == 0) or (t > 1 and i == last):
                    continue
                t = min(max(t, 0.0), 1.0)
                away_x, away_y = x - t * run_x, y - t * run_y
                away = np.sqrt(away_x * away_x + away_y * away_y)
                if away < nearest[iy, ix] and away <= band_um:
                    nearest[iy, ix] = away
                    along[iy, ix] = i + t
                    side = (run_x * y - run_y * x) / length
                    aside[iy, ix] = away if side >= 0 else -away
    count = 0
    for iy in range(width):
        for ix in range(width):
            if nearest[iy, ix] < np.inf:
                count += 1
    column = np.empty(count, np.int64)
    place = np.empty(count, np.float32)
    distance = np.empty(count, np.float32)
    k = 0
    for iy in range(width):
        for ix in range(width):
            if nearest[iy, ix] < np.inf:
                column[k] = iy * width + ix
                place[k] = along[iy, ix]
                distance[k] = aside[iy, ix]
                k += 1
    return column, place, distance


@njit(cache=True, nogil=True, fastmath=True)
def draw_sheet(
    cover: np.ndarray,
    slot: np.ndarray,
    along: np.ndarray,
    aside_um: np.ndarray,
    offset_um: np.ndarray,
    slant: np.ndarray,
    width: np.ndarray,
    arrival_um: np.ndarray,
    width_um: np.ndarray,
    reach_um: float,
    taper_um: float,
    pitch_um: float,
) -> None:
    """Lay a sheet on the columns: each voxel gets the part that is crack.

    The part is the overlap of the crack with a voxel's length along the crack's
    normal: summed across a crack it is the crack's width, whatever its place.

    Parameters
    ----------
    cover : numpy.ndarray
        (columns, rows) float32, changed in place to the larger of old and new.
    slot, along, aside_um : numpy.ndarray
        (m,) row of `cover`, place along the trace in steps, distance aside.
    offset_um, slant, width, arrival_um : numpy.ndarray
        The sheet's tables.
    width_um : numpy.ndarray
        (rows,) float32, most frequent width at each row.
    reach_um : float
        How far the sheet has grown.
    taper_um : float
        Distance from the front over which the crack opens.
    pitch_um : float
        Edge of a voxel.
    """
    rows = cover.shape[1]
    half = np.float32(pitch_um / 2)
    per_pitch = np.float32(1 / pitch_um)
    per_taper = np.float32(1 / taper_um)
    reach = np.float32(reach_um)
    one = np.float32(1)
    top = offset_um.shape[0] - 2
    for k in range(len(slot)):
        i = min(int(along[k]), top)
        t = np.float32(along[k] - i)
        u = one - t
        aside = aside_um[k]
        out = cover[slot[k]]
        for z in range(rows):
            behind = reach - (u * arrival_um[i, z] + t * arrival_um[i + 1, z])
            opening = np.sqrt(min(one, max(np.float32(0), behind * per_taper)))
            offset = u * offset_um[i, z] + t * offset_um[i + 1, z]
            tilt = u * slant[i, z] + t * slant[i + 1, z]
            wide = (u * width[i, z] + t * width[i + 1, z]) * width_um[z] * opening
            away = abs(aside - offset) * tilt
            low = max(away - wide / 2, -half)
            high = min(away + wide / 2, half)
            part = (high - low) * per_pitch
            if part > out[z]:
                out[z] = part
