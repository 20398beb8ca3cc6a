"""How much the crack volume hangs on where the pellet's surfaces are.

A crack that opens to a surface ends there: were the surface a voxel farther out, the
crack would be a voxel longer. The grey cancels in that difference, so it needs the
mask and the surfaces only.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.measurement.body import Body, Surfaces
from analysis.measurement.deficit import chord
from analysis.measurement.grey_levels import LevelField

SHIFT_PX = 1.0
SURFACE_SD_PX = 0.1
"""How far off a smooth surface is beside the mouth of a crack, on phantoms."""

REACH_SQUARED = 9
"""Squared distance from the mask, in voxels, within which its deficit is summed."""


@numba.njit(cache=True)
def _inside(distance: float, scale: float) -> float:
    return 0.5 * (1.0 + math.erf(distance * scale))


@numba.njit(cache=True)
def _grey(above: float, below: float, edge: float, scale: float, lithium: float):
    """Return the uncracked body's grey: 1 in the solid, 0 in air."""
    between = _inside(above, scale) * _inside(below, scale)
    return _inside(edge, scale) * (between + (1.0 - between) * lithium)


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _shift_rows(
    distance: np.ndarray,
    first_row: int,
    surfaces: Surfaces,
    lithium: float,
    table: np.ndarray,
) -> None:
    """Add up, a line a row, what the four shifts change within reach of the mask."""
    (
        top, bottom, lowest_top, highest_bottom, rim, centre, radius, angle, sigma
    ) = surfaces  # fmt: skip
    rows, ny, nx = distance.shape
    reach = 4.0 * sigma + SHIFT_PX
    scale = 1.0 / (math.sqrt(2.0) * sigma)
    number = rim.shape[1]
    for row in numba.prange(rows):
        z = float(first_row + row)
        sums = table[row]
        between_faces = z - lowest_top > reach and highest_bottom - z > reach
        inner, outer = rim[row].min() - reach - 1.0, rim[row].max() + reach + 1.0
        for y in range(ny):
            from_x, to_x = chord(centre, y, outer, nx)
            inner_from, inner_to = chord(centre, y, inner, nx)
            if not between_faces or inner_to <= inner_from:
                inner_from = inner_to = to_x
            for side in range(2):
                for x in range(
                    from_x if side == 0 else inner_to,
                    inner_from if side == 0 else to_x,
                ):
                    if distance[row, y, x] > REACH_SQUARED:
                        continue
                    above, below = z - top[y, x], bottom[y, x] - z
                    index = int(angle[y, x]) % number
                    share = angle[y, x] - math.floor(angle[y, x])
                    edge = (
                        rim[row, index] * (1.0 - share)
                        + rim[row, (index + 1) % number] * share
                        - radius[y, x]
                    )
                    if abs(min(above, below, edge)) > reach:
                        continue
                    here = _grey(above, below, edge, scale, lithium)
                    for k in range(2):
                        out = SHIFT_PX if k else -SHIFT_PX
                        sums[k] += (
                            _grey(above + out, below + out, edge, scale, lithium) - here
                        )
                        sums[2 + k] += (
                            _grey(above, below, edge + out, scale, lithium) - here
                        )


@dataclass(frozen=True)
class SurfaceShifts:
    """Change of the crack volume, in voxels, with surfaces one voxel elsewhere."""

    faces_in_px: float
    faces_out_px: float
    rim_in_px: float
    rim_out_px: float

    @property
    def sd_px(self) -> float:
        """What surfaces that are off where cracks open change, as one deviation."""
        faces = 0.5 * abs(self.faces_out_px - self.faces_in_px)
        rim = 0.5 * abs(self.rim_out_px - self.rim_in_px)
        return SURFACE_SD_PX * math.hypot(faces, rim)


class SurfaceShiftSums:
    """Adds up the changes while the rows of a mask go by.

    Parameters
    ----------
    body : Body
        With surfaces of its own.
    levels : LevelField
        For the grey of the lithium beside that of an empty crack.
    """

    def __init__(self, body: Body, levels: LevelField) -> None:
        self._surfaces = body.surfaces()
        self._lithium = (levels.electrode - levels.low) / (levels.mean() - levels.low)
        self._total = np.zeros(4)

    def add(self, first_row: int, distance: NDArray[np.uint8]) -> None:
        """Add rows of the squared distance to the mask, from ``first_row`` on."""
        table = np.zeros((len(distance), 4))
        _shift_rows(
            distance,
            first_row,
            self._surfaces.of_rows(first_row, first_row + len(distance)),
            self._lithium,
            table,
        )
        self._total += table.sum(axis=0)

    def finish(self) -> SurfaceShifts:
        """Return the changes over all rows."""
        return SurfaceShifts(*(float(value) for value in self._total))
