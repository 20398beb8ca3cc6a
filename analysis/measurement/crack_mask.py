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


@numba.njit(cache=True)
def _sum_over_rows(deficit: np.ndarray, row: int, y: int, out: np.ndarray) -> None:
    """Fill ``out`` with a line's 1-2-1 sum over the rows, edges repeated."""
    above = deficit[max(row - 1, 0), y]
    middle = deficit[row, y]
    below = deficit[min(row + 1, len(deficit) - 1), y]
    two = np.float32(2.0)
    for x in range(len(out)):
        out[x] = above[x] + two * middle[x] + below[x]


@numba.njit(cache=True)
def _smooth_line(
    deficit: np.ndarray, row: int, y: int, held: np.ndarray, line: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Fill ``out`` with a smoothed line; to be called for y from 0 on.

    ``held`` (3, x) keeps the sums over the rows of the lines around, ``line`` is
    work space.
    """
    _, ny, nx = deficit.shape
    if y == 0:
        _sum_over_rows(deficit, row, 0, held[0])
    if y + 1 < ny:
        _sum_over_rows(deficit, row, y + 1, held[(y + 1) % 3])
    before, middle = held[max(y - 1, 0) % 3], held[y % 3]
    after = held[min(y + 1, ny - 1) % 3]
    two, share = np.float32(2.0), np.float32(1 / 64)
    for x in range(nx):
        line[x] = before[x] + two * middle[x] + after[x]
    left, centre, right = line[: nx - 2], line[1 : nx - 1], line[2:]
    inner = out[1 : nx - 1]
    for x in range(nx - 2):
        inner[x] = share * (left[x] + two * centre[x] + right[x])
    out[0] = share * (np.float32(3.0) * line[0] + line[1])
    out[nx - 1] = share * (np.float32(3.0) * line[nx - 1] + line[nx - 2])


@numba.njit(cache=True, parallel=True)
def smooth(deficit: np.ndarray, start: int, out: np.ndarray) -> None:
    """Smooth by 1-2-1 along each axis (sd 0.71 voxel), edges repeated.

    The kernel sums to one, so a width and a volume integrated from the smoothed
    deficit are those of the deficit; white noise falls to 23 %. ``out`` gets the rows
    from ``start`` on.
    """
    rows, ny, nx = out.shape
    for row in numba.prange(rows):
        held = np.empty((3, nx), np.float32)
        line = np.empty(nx, np.float32)
        for y in range(ny):
            _smooth_line(deficit, start + row, y, held, line, out[row, y])


@numba.njit(cache=True, parallel=True)
def _classify(
    deficit: np.ndarray, region: np.ndarray, start: int, smoothing: bool,
    threshold: float, growth: float, seed_bit: int, codes: np.ndarray,
    shell: np.ndarray,
) -> int:  # fmt: skip
    """Code each voxel of the rows from ``start`` on; return the number of strong ones.

    ``codes`` is 0, WEAK or STRONG; ``shell`` is 1 where the growth threshold is passed
    as shallow as the surface is rough.
    """
    rows, ny, nx = codes.shape
    least, most = np.float32(growth), np.float32(threshold)
    number = 0
    for row in numba.prange(rows):
        held = np.empty((3, nx), np.float32)
        line = np.empty(nx, np.float32)
        value = np.empty(nx, np.float32)
        for y in range(ny):
            if smoothing:
                _smooth_line(deficit, start + row, y, held, line, value)
            else:
                value[:] = deficit[start + row, y]
            bits, code, shallow = region[start + row, y], codes[row, y], shell[row, y]
            for x in range(nx):
                inside = (bits[x] & INSIDE) != 0 and value[x] > least
                deep = inside and (bits[x] & DEEP) != 0
                strong = deep and (bits[x] & seed_bit) != 0 and value[x] > most
                shallow[x] = inside and not deep
                code[x] = np.uint8(deep) + np.uint8(strong)
                number += strong
    return number


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

    def put(self, start: int, mask: NDArray[np.bool_] | NDArray[np.uint8]) -> None:
        """Store rows from ``start`` on; what is not 0 is true."""
        at = start - self.rows[0]
        self.bits[at : at + len(mask)] = np.packbits(mask, axis=-1)

    def get(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return rows ``start`` to ``stop`` (exclusive) as 0 and 1."""
        first, last = max(start, self.rows[0]), min(stop, self.rows[1])
        if (first, last) == (start, stop):
            part = self.bits[start - self.rows[0] : stop - self.rows[0]]
            return np.unpackbits(part, axis=-1, count=self.width)
        out = np.zeros((stop - start, self.bits.shape[1], self.width), np.uint8)
        if first < last:
            part = self.bits[first - self.rows[0] : last - self.rows[0]]
            out[first - start : last - start] = np.unpackbits(
                part, axis=-1, count=self.width
            )
        return out

    def count(self) -> int:
        """Return the number of voxels that are true."""
        return sum(int(np.unpackbits(row).sum(dtype=np.int64)) for row in self.bits)


@dataclass(frozen=True)
class CrackCodes:
    """A run of rows, told what may be crack.

    Attributes
    ----------
    first_row : int
    deficit : ndarray, float32, shape (row, y, x)
        As it was coded, not smoothed; valid until the next run is asked for.
    codes : ndarray, uint8, shape (row, y, x)
        WEAK or STRONG, 0 where solid or as shallow as the surface is rough.
    shell : ndarray, uint8, shape (row, y, x)
        1 where it is that shallow and its deficit above the growth threshold.
    strong : int
        Number of strong voxels.
    """

    first_row: int
    deficit: NDArray[np.float32]
    codes: NDArray[np.uint8]
    shell: NDArray[np.uint8]
    strong: int


def crack_codes(
    deficit: DeficitVolume, threshold: float, growth: float, seed_bit: int,
    slab_bytes: int, *, smoothing: bool = True,
) -> Iterator[CrackCodes]:  # fmt: skip
    """Yield the codes of successive runs of rows of the body."""
    for window in deficit.windows(1, slab_bytes):
        core = window.core
        codes = np.empty(window.deficit[core].shape, np.uint8)
        shell = np.empty(codes.shape, np.uint8)
        strong = _classify(
            window.deficit, window.region, core.start, smoothing, threshold, growth,
            seed_bit, codes, shell,
        )  # fmt: skip
        first_row = window.first_row + core.start
        yield CrackCodes(first_row, window.deficit[core], codes, shell, strong)
