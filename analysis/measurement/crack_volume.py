"""Volume of the cracks from the grey that is missing around them.

The sum of the deficit over the mask grown by a few voxels is the volume whatever the
blur; a count of voxels is right only at exactly half the contrast. Never over the whole
pellet: there the error of the grey level outweighs a few cracks.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.measurement.deficit import CLEAR, INSIDE, NOT_RIM

# Columns of the table of sums: voxels above three thresholds, deficit and number of
# voxels within 2, 3 and 4 voxels of the mask, and the shell 4 to 6 voxels away.
MASKED = 0
COUNT = 1
INNER_SUM = 4
SUMS = 5
NUMBERS = 8
SHELL_SUM = 11
SHELL_NUMBER = 12
SHELL_SQUARE = 13
NUM_COLUMNS = 14

SUM_HALO_PX = 6
"""How far the shell reaches from the mask, and the rows of it that a sum needs."""


@numba.njit(cache=True, parallel=True)
def distance_squared(mask: np.ndarray, limit: int, out: np.ndarray) -> None:
    """Squared distance to the mask in voxels, up to ``limit`` (at most 6) voxels.

    What is farther gets ``limit**2 + 1``. ``out`` may lack as many rows of the mask at
    its beginning as at its end: those are neighbours only. Lines without a mask near
    them are skipped, so that the cost is that of the cracks.
    """
    rows, ny, nx = mask.shape
    halo = (rows - len(out)) // 2
    far = np.uint8(limit * limit + 1)
    along_x = np.empty(mask.shape, np.uint8)
    plane = np.empty(mask.shape, np.uint8)
    held = np.zeros((rows, ny), np.bool_)
    near = np.zeros((rows, ny), np.bool_)
    for row in numba.prange(rows):
        for y in range(ny):
            line = mask[row, y]
            held[row, y] = line.max() > 0
            if not held[row, y]:
                continue
            nearest = along_x[row, y]
            for x in range(nx):
                nearest[x] = 0 if line[x] else far
            for step in range(1, limit + 1):
                square = np.uint8(step * step)
                ahead, behind = line[step:], line[: nx - step]
                before, after = nearest[: nx - step], nearest[step:]
                for x in range(nx - step):
                    before[x] = min(before[x], square if ahead[x] else far)
                for x in range(nx - step):
                    after[x] = min(after[x], square if behind[x] else far)
    for row in numba.prange(rows):
        for y in range(ny):
            for step in range(-limit, limit + 1):
                if 0 <= y + step < ny and held[row, y + step]:
                    if not near[row, y]:
                        plane[row, y] = far
                        near[row, y] = True
                    _lower(plane[row, y], along_x[row, y + step], step * step)
    for row in numba.prange(len(out)):
        for y in range(ny):
            out[row, y] = far
            for step in range(-limit, limit + 1):
                other = row + halo + step
                if 0 <= other < rows and near[other, y]:
                    _lower(out[row, y], plane[other, y], step * step)


@numba.njit(cache=True)
def _lower(target: np.ndarray, source: np.ndarray, square: int) -> None:
    """Set ``target`` to ``source + square`` where that is less."""
    added = np.uint8(square)
    for x in range(len(target)):
        value = np.uint8(source[x] + added)
        target[x] = min(target[x], value)


@numba.njit(cache=True, parallel=True)
def _sum_rows(
    deficit: np.ndarray,
    smoothed: np.ndarray,
    region: np.ndarray,
    distance: np.ndarray,
    mask: np.ndarray,
    threshold: float,
    table: np.ndarray,
) -> None:
    rows, ny, nx = deficit.shape
    for row in numba.prange(rows):
        line = table[row]
        for y in range(ny):
            for x in range(nx):
                square = distance[row, y, x]
                if square > 36:
                    continue
                missing = np.float64(deficit[row, y, x])
                if square > 16:
                    # The shell beyond the crack and its blur ought to miss nothing.
                    if region[row, y, x] & CLEAR:
                        line[SHELL_SUM] += missing
                        line[SHELL_NUMBER] += 1
                        line[SHELL_SQUARE] += missing * missing
                    continue
                line[SUMS + 2] += missing
                line[NUMBERS + 2] += 1
                if square > 9:
                    continue
                line[SUMS + 1] += missing
                line[NUMBERS + 1] += 1
                if region[row, y, x] & NOT_RIM:
                    line[INNER_SUM] += missing
                if square > 4:
                    continue
                line[SUMS] += missing
                line[NUMBERS] += 1
                if region[row, y, x] & INSIDE:
                    value = smoothed[row, y, x]
                    if value > threshold - 0.05:
                        line[COUNT] += 1
                    if value > threshold:
                        line[COUNT + 1] += 1
                    if value > threshold + 0.05:
                        line[COUNT + 2] += 1
                if mask[row, y, x]:
                    line[MASKED] += 1


@dataclass(frozen=True)
class CrackSums:
    """Sums over the cracks' neighbourhood, one line a row z of the body.

    Attributes
    ----------
    first_row : int
        Row z of line 0.
    table : ndarray, float64, shape (row, column)
        Columns as named in this module.
    """

    first_row: int
    table: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """The sums over all rows."""
        return self.table.sum(axis=0)


def sum_rows(
    deficit: NDArray[np.float32],
    smoothed: NDArray[np.float32],
    region: NDArray[np.uint8],
    distance: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    threshold: float,
) -> NDArray[np.float64]:
    """Return the table of sums (row, column) of some rows.

    ``distance`` is the squared one to the mask, up to `SUM_HALO_PX` voxels.
    """
    table = np.zeros((len(deficit), NUM_COLUMNS))
    _sum_rows(deficit, smoothed, region, distance, mask, threshold, table)
    return table


@dataclass(frozen=True)
class CrackVolume:
    """Volume of the cracks, in voxels.

    Attributes
    ----------
    deficit_px : float
        Sum of the deficit within 3 voxels of the mask, less the background.
    sd_px : float
        Its uncertainty (one standard deviation): background, level, reach, noise,
        smallest crack and surfaces.
    counted_px : float
        Number of voxels above the threshold.
    counted_range_px : tuple[float, float]
        The same with the threshold 5 % higher and lower.
    rim_share : float
        Part of ``deficit_px`` that lies in the rim shell.
    background_frac : float
        Mean deficit 4 to 6 voxels from any crack, which was taken off.
    profile_px : ndarray, float64
        Crack area of each row of the body, in voxels.
    """

    deficit_px: float
    sd_px: float
    counted_px: float
    counted_range_px: tuple[float, float]
    rim_share: float
    background_frac: float
    profile_px: NDArray[np.float64]


def crack_volume(
    sums: CrackSums,
    level_residual_frac: float,
    smallest_px: float,
    surface_sd_px: float = 0.0,
) -> CrackVolume:
    """Return the crack volume and its uncertainty.

    Parameters
    ----------
    sums : CrackSums
        Of all rows of the body.
    level_residual_frac : float
        Scatter of the grey level of the solid about its field.
    smallest_px : float
        Size of the smallest crack that counts: what may have been overlooked.
    surface_sd_px : float
        What the uncertainty of the body's surfaces comes to, where cracks open.
    """
    total = sums.total
    shell = total[SHELL_NUMBER]
    background = total[SHELL_SUM] / shell if shell > 1000 else 0.0
    numbers = total[NUMBERS : NUMBERS + 3]
    volumes = total[SUMS : SUMS + 3] - background * numbers
    volume = float(volumes[1])
    noise = 0.0
    if shell > 1000:
        noise = np.sqrt(max(total[SHELL_SQUARE] / shell - background**2, 0.0))
    # The background is taken off; a third of it is left as what may differ next to
    # the crack. The level's scatter averages over the blocks that the cracks cross.
    blocks = max(1.0, numbers[1] / 32**3)
    parts = (
        0.33 * background * numbers[1],
        level_residual_frac * numbers[1] / np.sqrt(blocks),
        0.5 * (volumes[2] - volumes[0]),
        noise * np.sqrt(numbers[1]),
        smallest_px,
        surface_sd_px,
    )
    lines = sums.table
    profile = lines[:, SUMS + 1] - background * lines[:, NUMBERS + 1]
    inner = float(total[INNER_SUM])
    raw = float(total[SUMS + 1])
    return CrackVolume(
        deficit_px=volume,
        sd_px=float(np.sqrt(sum(part**2 for part in parts))),
        counted_px=float(total[COUNT + 1]),
        counted_range_px=(float(total[COUNT + 2]), float(total[COUNT])),
        rim_share=1 - inner / raw if raw > 0 else 0.0,
        background_frac=float(background),
        profile_px=profile,
    )
