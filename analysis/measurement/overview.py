"""One reading of the volume that gives everything coarse: bins and mean columns."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.errors import MeasurementError
from analysis.volume import VolumeSource

COARSE_TARGET = 640  # widest side of the coarse volume, voxels


@dataclass(frozen=True)
class Overview:
    """A volume small enough to be held whole.

    Attributes
    ----------
    shape : tuple[int, int, int]
        Shape (z, y, x) of the volume itself.
    coarse : ndarray, float32
        Means over cubes of ``factor`` voxels; coarse voxel ``i`` has its centre at
        ``(i + 0.5) * factor - 0.5``.
    columns : ndarray, float32
        Means over ``column_factor`` x ``column_factor`` voxels of each row z, at the
        full resolution of z.
    two_valued : bool
        The volume holds two values only: it is a mask.
    low_value, high_value : float
        Smallest and largest value of the volume.
    """

    shape: tuple[int, int, int]
    factor: int
    coarse: NDArray[np.float32]
    column_factor: int
    columns: NDArray[np.float32]
    front: NDArray[np.float32]
    side: NDArray[np.float32]
    two_valued: bool
    low_value: float
    high_value: float


@numba.njit(cache=True, parallel=True)
def _bin_slab(
    slab: np.ndarray,
    factor: int,
    column_factor: int,
    coarse: np.ndarray,
    columns: np.ndarray,
    low: float,
    high: float,
) -> tuple[int, int]:
    rows, ny, nx = slab.shape
    bad = 0
    between = 0
    for z in numba.prange(rows):
        for y in range(columns.shape[1]):
            for x in range(columns.shape[2]):
                total = np.float32(0.0)
                for i in range(column_factor):
                    for j in range(column_factor):
                        total += slab[z, y * column_factor + i, x * column_factor + j]
                columns[z, y, x] = total / (column_factor * column_factor)
        for y in range(ny):
            for x in range(nx):
                value = slab[z, y, x]
                if not np.isfinite(value):
                    bad += 1
                elif value != low and value != high:
                    between += 1
    for z in numba.prange(coarse.shape[0]):
        for y in range(coarse.shape[1]):
            for x in range(coarse.shape[2]):
                total = np.float32(0.0)
                for i in range(factor):
                    for j in range(factor):
                        for k in range(factor):
                            total += slab[
                                z * factor + i, y * factor + j, x * factor + k
                            ]
                coarse[z, y, x] = total / (factor * factor * factor)
    return bad, between


def slab_rows(shape: tuple[int, int, int], slab_bytes: int) -> int:
    """Return how many rows z of float32 fit into ``slab_bytes``, at least 8."""
    return max(8, min(shape[0], slab_bytes // (4 * shape[1] * shape[2])))


def read_overview(volume: VolumeSource, slab_bytes: int) -> Overview:
    """Read the volume once and bin it.

    Raises
    ------
    MeasurementError
        Where the volume is too small, holds values that are not finite, or is of one
        grey throughout.
    """
    nz, ny, nx = volume.shape
    if min(nz, ny, nx) < 16:
        raise MeasurementError(
            f"volume of {nz} x {ny} x {nx} voxels is too small to measure; "
            "give at least 16 in each direction"
        )
    factor = 2 if min(nz, ny, nx) >= 32 else 1
    while max(ny, nx) > factor * COARSE_TARGET:
        factor *= 2
    column_factor = factor
    coarse = np.empty((nz // factor, ny // factor, nx // factor), np.float32)
    columns = np.empty((nz, ny // column_factor, nx // column_factor), np.float32)
    rows = max(factor, slab_rows(volume.shape, slab_bytes) // factor * factor)
    front = np.empty((nz, nx), np.float32)
    side = np.empty((nz, ny), np.float32)
    low, high, two_valued = np.inf, -np.inf, True
    for start in range(0, nz, rows):
        stop = min(start + rows, nz)
        slab = np.ascontiguousarray(volume.slab(start, stop), dtype=np.float32)
        front[start:stop] = slab[:, ny // 2]
        side[start:stop] = slab[:, :, nx // 2]
        slab_low, slab_high = float(slab.min()), float(slab.max())
        if low < high and (slab_low < low or slab_high > high):
            two_valued = False
        low, high = min(low, slab_low), max(high, slab_high)
        bad, between = _bin_slab(
            slab,
            factor,
            column_factor,
            coarse[start // factor : stop // factor],
            columns[start:stop],
            low,
            high,
        )
        two_valued = two_valued and between == 0
        if bad or not np.isfinite(low + high):
            raise MeasurementError(
                f"volume holds values that are not finite in rows {start} to "
                f"{stop - 1}; reconstruct it again or mask them"
            )
    if low == high:
        raise MeasurementError(f"volume is of one grey, {low:g}, throughout")
    return Overview(
        (nz, ny, nx),
        factor,
        coarse,
        column_factor,
        columns,
        front,
        side,
        two_valued,
        low,
        high,
    )
