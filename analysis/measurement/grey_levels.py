"""The two grey levels of a cell: electrolyte (high) and lithium, air or crack (low).

Lithium and an empty crack differ by 1.2 % of the electrolyte's level in absorption:
they are one class. The low level is taken from wide regions, never from a crack, whose
own grey depends on its width; the high level is a field, since beam hardening makes
the middle of the pellet darker than its rim.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analysis.errors import MeasurementError

MIN_CONTRAST_TO_NOISE = 4.0  # two halves of one normal class stand 2.2 sd apart


@dataclass(frozen=True)
class Levels:
    """Grey of the two classes, and their noise in the coarse volume."""

    low: float
    high: float
    noise: float

    @property
    def threshold(self) -> float:
        """Grey half way between the classes."""
        return 0.5 * (self.low + self.high)


def otsu_threshold(values: NDArray[np.float32], bins: int = 1024) -> float:
    """Return the grey that parts a histogram into the two most distinct classes.

    References
    ----------
    Otsu 1979, https://doi.org/10.1109/TSMC.1979.4310076
    """
    lowest, highest = np.percentile(
        values[:: max(1, values.size // 10**6)], [0.05, 99.95]
    )
    if not highest > lowest:
        lowest, highest = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, bins=bins, range=(lowest, highest))
    centres = 0.5 * (edges[1:] + edges[:-1])
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sum_below = np.cumsum(counts * centres)[:-1]
    total = float((counts * centres).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (sum_below / below - (total - sum_below) / above) ** 2
    between = np.where((below > 0) & (above > 0), between, -1.0)
    # Between classes that do not overlap every threshold scores alike: take the middle.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(edges[1 + round(best.mean())])


def find_levels(coarse: NDArray[np.float32]) -> Levels:
    """Find the two grey levels of a coarse volume.

    Raises
    ------
    MeasurementError
        Where the volume has no two distinct classes.
    """
    # A million voxels fix a median to a thousandth of the noise.
    values = coarse.ravel()[:: max(1, coarse.size // 1_000_000)]
    threshold = otsu_threshold(values)
    high_class, low_class = values[values > threshold], values[values <= threshold]
    low, high = float(values.min()), float(values.max())
    for _ in range(5):
        if high_class.size == 0 or low_class.size == 0:
            raise MeasurementError("volume is of one grey; nothing to measure in it")
        low, high = float(np.median(low_class)), float(np.median(high_class))
        threshold = 0.5 * (low + high)
        high_class, low_class = values[values > threshold], values[values <= threshold]
    noise = 1.4826 * max(
        float(np.median(np.abs(low_class - low))),
        float(np.median(np.abs(high_class - high))),
    )
    if high - low < MIN_CONTRAST_TO_NOISE * noise:
        raise MeasurementError(
            f"volume has no two distinct greys: {low:.4g} and {high:.4g} with a noise "
            f"of {noise:.2g}; check the reconstruction and that the pellet is in view"
        )
    return Levels(low, high, noise)


@dataclass(frozen=True)
class LevelField:
    """Grey of the solid electrolyte as a smooth field.

    Attributes
    ----------
    grid : ndarray, float32, shape (gz, gy, gx)
        Level at the centres of blocks of ``block_px`` voxels.
    low : float
        Level of an empty crack.
    electrode : float
        Level of the lithium above and below the body.
    residual_frac : float
        Scatter of the block means about the field, as a fraction of the contrast.
    """

    grid: NDArray[np.float32]
    block_px: int
    low: float
    electrode: float
    residual_frac: float

    def planes(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the grid interpolated to the rows ``start`` to ``stop``."""
        at = (np.arange(start, stop) + 0.5) / self.block_px - 0.5
        at = np.clip(at, 0, self.grid.shape[0] - 1)
        first = np.minimum(at.astype(int), max(self.grid.shape[0] - 2, 0))
        second = np.minimum(first + 1, self.grid.shape[0] - 1)
        share = (at - first).astype(np.float32)[:, None, None]
        plane = self.grid[first] * (1 - share) + self.grid[second] * share
        return plane.astype(np.float32)

    def mean(self) -> float:
        """Return the mean level of the field."""
        return float(self.grid.mean())


def constant_field(levels: Levels, block_px: int = 64) -> LevelField:
    """Return a field of one level, for a volume that is a mask."""
    grid = np.full((1, 1, 1), levels.high, np.float32)
    return LevelField(grid, block_px, levels.low, levels.low, 0.0)


def fit_level_field(
    coarse: NDArray[np.float32],
    solid: NDArray[np.bool_],
    factor: int,
    low: float,
    electrode: float,
    *,
    block_px: int = 16,
) -> LevelField:
    """Fit the level of the solid where no crack is near.

    Block means are fitted by a polynomial in the height and in the squared distance
    from the axis of rotation (beam hardening), and what is left is smoothed.

    Parameters
    ----------
    coarse : ndarray, shape (z, y, x)
        Coarse volume.
    solid : ndarray of bool
        Coarse voxels of electrolyte away from cracks and surfaces.
    factor : int
        Coarse voxel in voxels.
    low, electrode : float
        Level of an empty crack, and of the lithium.
    """
    step = max(1, block_px // factor)
    sums, counts = _block_sums(coarse, solid, step)
    if counts.sum() < 100:
        raise MeasurementError(
            "no solid electrolyte away from cracks and surfaces: its grey level cannot "
            "be found; check the voxel size and the pellet"
        )
    filled = counts > 0.05 * step**3
    if filled.sum() < 20:
        filled = counts > 0
    mean = np.where(filled, sums / np.maximum(counts, 1), 0.0)
    weight = np.where(filled, counts, 0.0)
    terms = _level_terms(mean.shape, step, coarse.shape, filled)
    fitted = _weighted_fit(terms, mean, weight)
    residual = np.where(filled, mean - fitted, 0.0)
    # The smallest scale on which the level may vary: noise of a block is far below it.
    smooth_weight = ndimage.gaussian_filter(weight, 1.0)
    smooth_residual = ndimage.gaussian_filter(residual * weight, 1.0)
    prior = 0.25 * float(weight[filled].mean())
    field = fitted + smooth_residual / (smooth_weight + prior)
    scatter = np.sqrt(np.average((mean - field)[filled] ** 2, weights=weight[filled]))
    contrast = float(np.average(mean[filled], weights=weight[filled])) - low
    return LevelField(
        field.astype(np.float32),
        step * factor,
        low,
        electrode,
        float(scatter / contrast),
    )


def _block_sums(
    coarse: NDArray[np.float32], solid: NDArray[np.bool_], step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sum and number of solid voxels in blocks of ``step`` voxels."""
    shape = [-(-size // step) for size in coarse.shape]
    sums = np.zeros(shape)
    counts = np.zeros(shape)
    rows = np.arange(0, coarse.shape[1], step)
    columns = np.arange(0, coarse.shape[2], step)
    for block in range(shape[0]):
        part = slice(block * step, (block + 1) * step)
        chosen = solid[part]
        grey = np.where(chosen, coarse[part], 0).sum(axis=0, dtype=np.float64)
        number = chosen.sum(axis=0, dtype=np.float64)
        for target, plane in ((sums, grey), (counts, number)):
            plane = np.add.reduceat(plane, rows, axis=0)
            target[block] = np.add.reduceat(plane, columns, axis=1)
    return sums, counts


def _level_terms(
    shape: tuple[int, ...],
    step: int,
    coarse_shape: tuple[int, ...],
    filled: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return polynomial terms (term, z, y, x) at the centres of the blocks.

    Heights and distances beyond the filled blocks count as the last filled ones: a
    polynomial says nothing outside its data.
    """
    y, x = (
        (np.arange(number) + 0.5) * step - size / 2
        for number, size in zip(shape[1:], coarse_shape[1:], strict=True)
    )
    square = y[:, None] ** 2 + x[None, :] ** 2
    square = np.minimum(square, square[filled.any(axis=0)].max())
    square = np.broadcast_to(square / square.max(), shape)
    rows = np.flatnonzero(filled.any(axis=(1, 2)))
    z = np.clip(np.arange(shape[0]), rows[0], rows[-1]).astype(float)
    z = (z - z.mean()) / max(z.max() - z.min(), 1.0)
    z = np.broadcast_to(z[:, None, None], shape)
    terms = [np.ones(shape), square, square**2]
    if len(rows) > 1:
        terms += [z, z * square]
    if len(rows) > 2:
        terms.append(z**2)
    return np.stack(terms)


def _weighted_fit(
    terms: NDArray[np.float64], mean: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weighted least-squares fit, evaluated at every block."""
    used = weight > 0
    root = np.sqrt(weight[used])
    design = (terms[:, used] * root).T
    solution, *_ = np.linalg.lstsq(design, mean[used] * root, rcond=1e-6)
    return np.tensordot(solution, terms, axes=1)
