"""Which cracks are new since the tomogram before.

The earlier mask is moved into place and grown by a voxel, so that neither the error of
the registration nor a crack that merely widens makes a new crack: a new one holds
voxels farther from every earlier crack than that can explain.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.measurement.body import Body
from analysis.measurement.components import Labeller
from analysis.measurement.crack_mask import PackedMask
from analysis.measurement.crack_volume import distance_squared
from analysis.measurement.overview import slab_rows

TOLERANCE_SQUARED = 1
"""Squared distance in voxels within which a voxel belongs to an earlier crack."""

SEED_SQUARED = 6
"""Squared distance beyond which neither misregistration (1.5 voxels) nor widening
explains a voxel."""

REACH_SQUARED = 9
"""Squared distance from such voxels within which the others are new too."""

HALO_PX = 4

MaskRows = Callable[[int, int], NDArray[np.uint8]]
"""Rows (start, stop) of a mask as 0 and 1; rows outside of it are 0."""


@numba.njit(cache=True, parallel=True)
def _pull_rows(
    source: np.ndarray, source_first: int, matrix: np.ndarray, offset: np.ndarray,
    first_row: int, out: np.ndarray,
) -> None:  # fmt: skip
    """Fill ``out[x]`` with the voxel of the source nearest to ``matrix x + offset``."""
    rows, ny, nx = out.shape
    nz = source.shape[0]
    for row in numba.prange(rows):
        for y in range(ny):
            base_z = matrix[0, 0] * (first_row + row) + matrix[0, 1] * y + offset[0]
            base_y = matrix[1, 0] * (first_row + row) + matrix[1, 1] * y + offset[1]
            base_x = matrix[2, 0] * (first_row + row) + matrix[2, 1] * y + offset[2]
            for x in range(nx):
                i = int(np.floor(base_z + matrix[0, 2] * x + 0.5)) - source_first
                j = int(np.floor(base_y + matrix[1, 2] * x + 0.5))
                k = int(np.floor(base_x + matrix[2, 2] * x + 0.5))
                if 0 <= i < nz and 0 <= j < ny and 0 <= k < nx:
                    out[row, y, x] = source[i, j, k]
                else:
                    out[row, y, x] = 0


def pull_mask(
    rows: MaskRows,
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    start: int,
    stop: int,
    shape: tuple[int, int],
) -> NDArray[np.uint8]:
    """Return rows ``start`` to ``stop`` of a mask seen from another frame."""
    ny, nx = shape
    corners = np.array(
        [[z, y, x] for z in (start, stop - 1) for y in (0, ny - 1) for x in (0, nx - 1)]
    )
    heights = corners @ matrix[0] + offset[0]
    first = int(np.floor(heights.min())) - 1
    last = int(np.ceil(heights.max())) + 2
    source = rows(first, last)
    out = np.empty((stop - start, ny, nx), np.uint8)
    _pull_rows(source, first, matrix, offset, start, out)
    return out


@dataclass(frozen=True)
class NewCracks:
    """Cracks that the tomogram before did not have.

    Attributes
    ----------
    mask : PackedMask
        Voxels of the new cracks.
    voxels, closed_voxels : int
        New ones, and earlier ones that are cracks no more.
    components : int
        New cracks.
    anode_share : float
        Part of the new voxels in the half of the pellet next to the anode.
    """

    mask: PackedMask
    voxels: int
    closed_voxels: int
    components: int
    anode_share: float


def find_new_cracks(
    mask: PackedMask,
    previous: MaskRows,
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    body: Body,
    smallest: int,
    slab_bytes: int,
) -> NewCracks:
    """Part the cracks of a tomogram into new and earlier ones.

    Parameters
    ----------
    mask : PackedMask
        Cracks of this tomogram.
    previous : callable
        Gives rows of the earlier mask.
    matrix, offset : ndarray
        ``matrix x + offset`` is where voxel x of this tomogram was in the earlier one.
    body : Body
        For the middle of the pellet.
    smallest : int
        Voxels of the smallest new crack, counted where it is clear of earlier ones.
    slab_bytes : int
        Size of a slab in float32.
    """
    ny, nx = body.top.shape
    candidates = PackedMask.empty(mask.rows, ny, nx)
    seeds = PackedMask.empty(mask.rows, ny, nx)
    labeller = Labeller((ny, nx))
    closed = 0
    for first, start, stop, last in _runs(mask.rows, ny, nx, slab_bytes):
        core = slice(start - first, stop - first)
        now = mask.get(first, last)
        before = pull_mask(previous, matrix, offset, first, last, (ny, nx))
        from_before = np.empty(now.shape, np.uint8)
        distance_squared(before, 3, from_before)
        from_now = np.empty(now.shape, np.uint8)
        distance_squared(now, 3, from_now)
        closed += int(np.count_nonzero(before[core] & (from_now[core] > SEED_SQUARED)))
        candidate = now[core].view(bool) & (from_before[core] > TOLERANCE_SQUARED)
        seed = candidate & (from_before[core] > SEED_SQUARED)
        candidates.put(start, candidate)
        seeds.put(start, seed)
        labeller.add(start, seed.view(np.uint8))
    found = labeller.finish()
    keep = found.voxels >= smallest
    keep_label = np.append(keep, False)[found.of_label]
    labeller = Labeller((ny, nx))
    for _, start, stop, _ in _runs(mask.rows, ny, nx, slab_bytes):
        seed = seeds.get(start, stop)
        labeller.add(start, seed, keep=keep_label)
        seeds.put(start, seed.view(bool))
    middle = 0.5 * (body.top + body.bottom)
    voxels = near_anode = 0
    for first, start, stop, last in _runs(mask.rows, ny, nx, slab_bytes):
        core = slice(start - first, stop - first)
        from_seed = np.empty((last - first, ny, nx), np.uint8)
        distance_squared(seeds.get(first, last), 3, from_seed)
        new = candidates.get(start, stop).view(bool)
        new &= from_seed[core] <= REACH_SQUARED
        candidates.put(start, new)
        voxels += int(np.count_nonzero(new))
        z = np.arange(start, stop)[:, None, None]
        near_anode += int(np.count_nonzero(new & (z < middle)))
    share = near_anode / voxels if voxels else 0.0
    return NewCracks(candidates, voxels, closed, int(keep.sum()), share)


def _runs(
    rows: tuple[int, int], ny: int, nx: int, slab_bytes: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield (first, start, stop, last): rows of a run, with its neighbours outside."""
    begin, end = rows
    step = slab_rows((end - begin, ny, nx), slab_bytes)
    for start in range(begin, end, step):
        stop = min(start + step, end)
        yield start - HALO_PX, start, stop, stop + HALO_PX
