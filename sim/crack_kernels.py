"""Compiled loops that lay cracks on a lattice of columns.

A column is a line of voxels along z at one (x, y); its voxels are contiguous. What is
laid is the part of each voxel that is crack: the overlap of the crack with a voxel's
length along the crack's normal. Summed across a crack it is the crack's width,
wherever the crack lies between the voxels.
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def columns_near_trace(
    points_um: np.ndarray, band_um: float, pitch_um: float, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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
    normal : numpy.ndarray
        (m, 2) float32 unit vector to the left of the trace.
    """
    middle = width // 2
    low = np.empty(2, np.int64)
    high = np.empty(2, np.int64)
    for axis in range(2):
        low[axis] = int(np.floor((points_um[:, axis].min() - band_um) / pitch_um))
        high[axis] = int(np.ceil((points_um[:, axis].max() + band_um) / pitch_um))
        low[axis] = max(low[axis] + middle, 0)
        high[axis] = min(high[axis] + middle, width - 1)
    wide = max(high[0] - low[0] + 1, 0)
    tall = max(high[1] - low[1] + 1, 0)
    nearest = np.full((tall, wide), np.float32(np.inf))
    segment = np.zeros((tall, wide), np.int32)
    last = len(points_um) - 2
    for i in range(len(points_um) - 1):
        x0, y0 = points_um[i]
        x1, y1 = points_um[i + 1]
        run_x, run_y = x1 - x0, y1 - y0
        length2 = run_x * run_x + run_y * run_y
        first_x = int(np.floor((min(x0, x1) - band_um) / pitch_um)) + middle
        final_x = int(np.ceil((max(x0, x1) + band_um) / pitch_um)) + middle
        first_y = int(np.floor((min(y0, y1) - band_um) / pitch_um)) + middle
        final_y = int(np.ceil((max(y0, y1) + band_um) / pitch_um)) + middle
        for iy in range(max(first_y, low[1]), min(final_y, high[1]) + 1):
            y = (iy - middle) * pitch_um - y0
            for ix in range(max(first_x, low[0]), min(final_x, high[0]) + 1):
                x = (ix - middle) * pitch_um - x0
                t = (x * run_x + y * run_y) / length2
                # Beyond its ends there is no crack; bends leave no gaps.
                if (t < 0 and i == 0) or (t > 1 and i == last):
                    continue
                t = min(max(t, 0.0), 1.0)
                away_x, away_y = x - t * run_x, y - t * run_y
                away = np.sqrt(away_x * away_x + away_y * away_y)
                if away < nearest[iy - low[1], ix - low[0]] and away <= band_um:
                    nearest[iy - low[1], ix - low[0]] = away
                    segment[iy - low[1], ix - low[0]] = i
    count = 0
    for iy in range(tall):
        for ix in range(wide):
            if nearest[iy, ix] < np.inf:
                count += 1
    column = np.empty(count, np.int64)
    along = np.empty(count, np.float32)
    aside_um = np.empty(count, np.float32)
    normal = np.empty((count, 2), np.float32)
    k = 0
    for iy in range(tall):
        for ix in range(wide):
            if nearest[iy, ix] == np.inf:
                continue
            i = segment[iy, ix]
            x0, y0 = points_um[i]
            run_x, run_y = points_um[i + 1] - points_um[i]
            length = np.sqrt(run_x * run_x + run_y * run_y)
            x = (ix + low[0] - middle) * pitch_um - x0
            y = (iy + low[1] - middle) * pitch_um - y0
            t = (x * run_x + y * run_y) / (length * length)
            column[k] = (iy + low[1]) * width + ix + low[0]
            along[k] = i + min(max(t, 0.0), 1.0)
            left = run_x * y - run_y * x >= 0
            aside_um[k] = nearest[iy, ix] if left else -nearest[iy, ix]
            normal[k, 0] = -run_y / length
            normal[k, 1] = run_x / length
            k += 1
    return column, along, aside_um, normal


@njit(cache=True, nogil=True)
def strand_columns(
    along: np.ndarray,
    aside_um: np.ndarray,
    lean: np.ndarray,
    from_middle_um: np.ndarray,
    low_um: np.ndarray,
    high_um: np.ndarray,
) -> np.ndarray:
    """Find the columns of a sheet that a strand may touch on some rows.

    Parameters
    ----------
    along, aside_um, lean, from_middle_um : numpy.ndarray
        As for `draw_strand`.
    low_um, high_um : numpy.ndarray
        (points,) between what places aside of the trace the strand lies.

    Returns
    -------
    numpy.ndarray
        (m,) int64 which of the columns.
    """
    found = np.empty(len(along), np.int64)
    count = 0
    top = len(low_um) - 2
    first, last = from_middle_um[0], from_middle_um[-1]
    for k in range(len(along)):
        i = min(int(along[k]), top)
        one, other = lean[k] * first, lean[k] * last
        low = min(low_um[i], low_um[i + 1])
        high = max(high_um[i], high_um[i + 1])
        if aside_um[k] + max(one, other) < low or aside_um[k] + min(one, other) > high:
            continue
        found[count] = k
        count += 1
    return found[:count].copy()


@njit(cache=True, nogil=True, fastmath=True)
def draw_strand(
    cover: np.ndarray,
    wide_um: np.ndarray,
    rank_um: np.ndarray,
    slot: np.ndarray,
    along: np.ndarray,
    aside_um: np.ndarray,
    drop_rows: np.ndarray,
    lean: np.ndarray,
    from_middle_um: np.ndarray,
    table: np.ndarray,
    halo: int,
    width_um: np.ndarray,
    reach_um: float,
    taper_um: float,
    pitch_um: float,
) -> None:
    """Lay one strand of a sheet on the columns.

    Parameters
    ----------
    cover, wide_um, rank_um : numpy.ndarray
        (columns, rows) float32, changed in place where the strand covers more of a
        voxel than others do: part covered, local width, rank in being filled.
    slot : numpy.ndarray
        (m,) which of those columns each of the following belongs to.
    along, aside_um : numpy.ndarray
        (m,) place along the trace in steps, distance aside.
    drop_rows : numpy.ndarray
        (m,) float32 how far the material has moved down, in rows.
    lean : numpy.ndarray
        (m,) float32 how far it has moved against the normal per depth.
    from_middle_um : numpy.ndarray
        (rows,) float32 depth of each row below the middle, which does not move aside.
    table : numpy.ndarray
        The strand, as `sim.cracks.sheet_strands` makes it.
    halo : int
        Rows of the table before the first row of the columns.
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
    top = table.shape[0] - 2
    bottom = table.shape[1] - 2
    for k in range(len(slot)):
        i = min(int(along[k]), top)
        t = np.float32(along[k] - i)
        near, far = table[i], table[i + 1]
        whole = int(np.floor(-drop_rows[k]))
        part = np.float32(-drop_rows[k] - whole)
        out = cover[slot[k]]
        for z in range(rows):
            m = min(max(z + whole + halo, 0), bottom)
            a = (one - t) * (one - part)
            b = (one - t) * part
            c = t * (one - part)
            d = t * part
            behind = reach - (
                a * near[m, 3] + b * near[m + 1, 3] + c * far[m, 3] + d * far[m + 1, 3]
            )
            if behind <= 0:
                continue
            offset = (
                a * near[m, 0] + b * near[m + 1, 0] + c * far[m, 0] + d * far[m + 1, 0]
            )
            away = abs(aside_um[k] + lean[k] * from_middle_um[z] - offset)
            wide = (
                a * near[m, 2] + b * near[m + 1, 2] + c * far[m, 2] + d * far[m + 1, 2]
            )
            wide *= width_um[z] * np.sqrt(min(one, behind * per_taper))
            away *= near[m, 1]
            low = max(away - wide / 2, -half)
            high = min(away + wide / 2, half)
            covered = (high - low) * per_pitch
            if covered > out[z]:
                out[z] = covered
                wide_um[slot[k], z] = wide
                rank_um[slot[k], z] = (
                    a * near[m, 4]
                    + b * near[m + 1, 4]
                    + c * far[m, 4]
                    + d * far[m + 1, 4]
                )


@njit(cache=True, nogil=True, fastmath=True)
def draw_ring(
    cover: np.ndarray,
    wide_um: np.ndarray,
    rank_um: np.ndarray,
    slot: np.ndarray,
    across_um: np.ndarray,
    depth_um: np.ndarray,
    drop_um: np.ndarray,
    radius_um: float,
    height_um: float,
    width_um: np.ndarray,
    pitch_um: float,
) -> None:
    """Lay half an ellipsoidal shell on the columns.

    Parameters
    ----------
    cover, wide_um, rank_um, slot, width_um, pitch_um
        As for `draw_strand`.
    across_um : numpy.ndarray
        (m,) distance of each column from the shell's axis.
    depth_um : numpy.ndarray
        (rows,) depth below the face where the shell opens.
    drop_um : numpy.ndarray
        (m,) how far the material has moved in the direction of that depth.
    radius_um, height_um : float
        Half-axes across and along depth.
    """
    half = pitch_um / 2
    for k in range(len(slot)):
        lateral = across_um[k] / radius_um
        for z in range(cover.shape[1]):
            deep = (depth_um[z] - drop_um[k]) / height_um
            level = np.sqrt(lateral * lateral + deep * deep)
            if deep < -0.3 or level < 0.2:
                continue
            slope = np.sqrt((lateral / radius_um) ** 2 + (deep / height_um) ** 2)
            away = abs(level - 1) * level / slope
            wide = width_um[z]
            low = max(away - wide / 2, -half)
            high = min(away + wide / 2, half)
            covered = (high - low) / pitch_um
            if covered > cover[slot[k], z]:
                cover[slot[k], z] = covered
                wide_um[slot[k], z] = wide
                rank_um[slot[k], z] = max(deep, 0.0) * height_um
