"""Which voxels are crack: a threshold on the smoothed deficit, kept as packed bits."""

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.measurement.deficit import DEEP, INSIDE, DeficitVolume

WEAK = 1
"""Code: deficit above the growth threshold, below the roughness of the surface."""
STRONG = 2
"""Code: deficit above the threshold, well below the surface: holds a crack."""
SHELL = 4
"""Code: deficit above the growth threshold, as shallow as the surface is rough."""


@numba.njit(cache=True, parallel=True)
def smooth(deficit: np.ndarray, out: np.ndarray) -> None:
    """Smooth by 1-2-1 along each axis (sd 0.71 voxel), edges repeated.

    The kernel sums to one, so a width and a volume integrated from the smoothed
    deficit are those of the deficit; white noise falls to 23 %.
    """
    rows, ny, nx = deficit.shape
    for row in numba.prange(rows):
        line = np.empty(nx, np.float32)
        for y in range(ny):
            line[:] = 0
            for dz in range(-1, 2):
                z = min(max(row + dz, 0), rows - 1)
                for dy in range(-1, 2):
                    near = min(max(y + dy, 0), ny - 1)
                    weight = np.float32((2 - abs(dz)) * (2 - abs(dy)) / 64.0)
                    for x in range(nx):
                        line[x] += weight * deficit[z, near, x]
            out[row, y, 0] = 3 * line[0] + line[1]
            out[row, y, nx - 1] = 3 * line[nx - 1] + line[nx - 2]
            for x in range(1, nx - 1):
                out[row, y, x] = line[x - 1] + 2 * line[x] + line[x + 1]


@numba.njit(cache=True, parallel=True)
def classify(
    smoothed: np.ndarray, region: np.ndarray, threshold: float, growth: float,
    seed_bit: int, codes: np.ndarray,
) -> None:  # fmt: skip
    """Code each voxel; 0 is solid or outside."""
    rows, ny, nx = smoothed.shape
    for row in numba.prange(rows):
        for y in range(ny):
            for x in range(nx):
                code = 0
                if region[row, y, x] & INSIDE and smoothed[row, y, x] > growth:
                    code = SHELL
                    if region[row, y, x] & DEEP:
                        code = WEAK
                        if (
                            region[row, y, x] & seed_bit
                            and smoothed[row, y, x] > threshold
                        ):
                            code = STRONG
                codes[row, y, x] = code


@dataclass
class PackedMask:
    """A mask of the body's rows at one bit a voxel.

    Attributes
    ----------
    rows : tuple[int, int]
        Rows z (start, stop) of the volume that it covers; false elsewhere.
    width : int
        Number of voxels along x.
    bits : ndarray, uint8, shape (row, y, byte)
    """

    rows: tuple[int, int]
    width: int
    bits: NDArray[np.uint8]

    @classmethod
    def empty(cls, rows: tuple[int, int], ny: int, nx: int) -> "PackedMask":
        """Return a mask that is false everywhere."""
        bits = np.zeros((rows[1] - rows[0], ny, -(-nx // 8)), np.uint8)
        return cls(rows, nx, bits)

    def put(self, start: int, mask: NDArray[np.bool_]) -> None:
        """Store rows from ``start`` on."""
        at = start - self.rows[0]
        self.bits[at : at + len(mask)] = np.packbits(mask, axis=-1)

    def get(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows ``start`` to ``stop`` (exclusive) as 0 and 1."""
        out = np.zeros((stop - start, self.bits.shape[1], self.width), np.uint8)
        first, last = max(start, self.rows[0]), min(stop, self.rows[1])
        if first < last:
            part = self.bits[first - self.rows[0] : last - self.rows[0]]
            out[first - start : last - start] = np.unpackbits(
                part, axis=-1, count=self.width
            )
        return out

    def count(self) -> int:
        """Return the number of voxels that are true."""
        return sum(int(np.unpackbits(row).sum(dtype=np.int64)) for row in self.bits)


def crack_codes(
    deficit: DeficitVolume, threshold: float, growth: float, seed_bit: int,
    slab_bytes: int, *, smoothing: bool = True,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:  # fmt: skip
    """Yield (first row, codes) of successive runs of rows of the body."""
    for window in deficit.windows(1, slab_bytes):
        smoothed = window.deficit
        if smoothing:
            smoothed = np.empty_like(window.deficit)
            smooth(window.deficit, smoothed)
        core = window.core
        codes = np.empty(smoothed[core].shape, np.uint8)
        classify(
            smoothed[core], window.region[core], threshold, growth, seed_bit, codes
        )
        yield window.first_row + core.start, codes
