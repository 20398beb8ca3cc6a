"""Voids at a face of the pellet, and what their two measurements share."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

TILE_PX = 512
"""Columns are worked on in squares of this size, with neighbours around."""

LEVEL_SIGMA_PX = 10.0
"""Scale on which the grey of electrolyte and lithium may vary along the face."""

DEEP_PX = 6
"""Innermost voxels of a column, clear of the face's blur and roughness."""

CRACK_FRAC = 0.8
"""Share of the electrolyte's grey below which a column stands over a crack."""

EDGE_REACH_PX = 4.0
"""An edge farther outside the smooth face than this is that of a shard."""


@dataclass(frozen=True)
class FaceVoids:
    """Voids at one face, column by column.

    Attributes
    ----------
    height_px : ndarray, float32, shape (y, x)
        Thickness of the void; 0 in contact, NaN where it cannot be told: beyond the
        rim, over a crack, under a shard.
    floor_px : float
        Thinner voids count as contact.
    floor_across_px : float
        Narrower ones may count as contact, or as wider than they are.
    loose_frac, tight_frac : float
        Share of the columns without contact for a floor a quarter lower and higher.
    false_frac : float
        The same in the lithium away from the face, where there is no void.
    """

    height_px: NDArray[np.float32]
    floor_px: float
    floor_across_px: float
    loose_frac: float
    tight_frac: float
    false_frac: float


@dataclass(frozen=True)
class Tile:
    """A part of the columns: ``core`` of the whole, ``held`` with its neighbours."""

    core: tuple[slice, slice]
    held: tuple[slice, slice]
    inner: tuple[slice, slice]
    """The core within what is held."""


def tiles(shape: tuple[int, int], halo_px: int) -> Iterator[Tile]:
    """Yield squares of columns that cover ``shape`` (y, x) once."""
    for y in range(0, shape[0], TILE_PX):
        for x in range(0, shape[1], TILE_PX):
            core, held, inner = [], [], []
            for start, size in ((y, shape[0]), (x, shape[1])):
                stop = min(start + TILE_PX, size)
                first, last = max(start - halo_px, 0), min(stop + halo_px, size)
                core.append(slice(start, stop))
                held.append(slice(first, last))
                inner.append(slice(start - first, stop - first))
            yield Tile((core[0], core[1]), (held[0], held[1]), (inner[0], inner[1]))


def smoothed(
    values: NDArray[np.float32], weight: NDArray[np.float32], sigma_px: float
) -> NDArray[np.float32]:
    """Return the mean of values (y, x) around each column, of those with weight."""
    values = np.where(weight > 0, values, 0) * weight
    total = ndimage.gaussian_filter(values, sigma_px)
    number = ndimage.gaussian_filter(weight, sigma_px)
    return np.asarray(total / np.maximum(number, 1e-6), np.float32)


def solid_level(
    deep: NDArray[np.float32], within: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the electrolyte's grey (y, x), and which columns are not over a crack.

    Parameters
    ----------
    deep : ndarray, shape (y, x)
        Median of the innermost voxels of each column.
    within : ndarray of bool
        Columns inside the rim.
    """
    typical = float(np.median(deep[within]))
    calm = np.asarray(ndimage.uniform_filter(deep, 3), np.float32)
    solid = within & (calm > CRACK_FRAC * typical)
    weight = solid.astype(np.float32)
    return smoothed(deep, weight, LEVEL_SIGMA_PX), solid
