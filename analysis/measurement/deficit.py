"""Grey as what is missing: 0 in the solid, 1 in an empty crack.

Everything about cracks is measured on the deficit ``(expected - grey) / contrast``,
where ``expected`` is the grey of an uncracked body with the blur of its surfaces. A
voxel at the surface, half outside, has no deficit; so a crack can be followed to where
it opens, and its volume is complete there.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.measurement.body import Body
from analysis.measurement.grey_levels import LevelField
from analysis.measurement.overview import slab_rows
from analysis.volume import VolumeSource

INSIDE = 1
"""Region bit: below the surface."""
DEEP = 2
"""Region bit: deep enough for a deficit to be no roughness of the surface."""
CLEAR = 4
"""Region bit: so deep that a profile across a crack does not meet the surface."""
NOT_RIM = 8
"""Region bit: deeper below the rim than the rim shell."""
AT_ANODE = 16
"""Region bit: at the face towards the anode (row 0)."""
AT_CATHODE = 32
"""Region bit: at the face towards the cathode."""

CLEAR_PX = 5.0
TOUCH_PX = 2.0


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _deficit_rows(
    slab: np.ndarray,
    first_row: int,
    top: np.ndarray,
    bottom: np.ndarray,
    rim: np.ndarray,
    radius: np.ndarray,
    angle: np.ndarray,
    planes: np.ndarray,
    block_px: int,
    low: float,
    electrode: float,
    sigma: float,
    deep_px: float,
    shell_px: float,
    deficit: np.ndarray,
    region: np.ndarray,
) -> None:
    rows, ny, nx = slab.shape
    gy, gx = planes.shape[1:]
    reach = np.float32(4.0 * sigma)
    scale = np.float32(1.0 / (math.sqrt(2.0) * max(sigma, 1e-6)))
    low32 = np.float32(low)
    half = np.float32(0.5)
    # Where each column lies between the level's blocks.
    left = np.empty(nx, np.int32)
    beyond = np.empty(nx, np.float32)
    for x in range(nx):
        at_x = min(max((x + 0.5) / block_px - 0.5, 0.0), gx - 1.0)
        left[x] = min(int(at_x), max(gx - 2, 0))
        beyond[x] = at_x - left[x]
    for row in numba.prange(rows):
        z = np.float32(first_row + row)
        line = np.empty(gx + 1, np.float32)
        # Well inside the smallest radius of the row nothing depends on the angle.
        nearest = min(rim[row].min(), np.float32(1e6))
        well_inside = nearest - np.float32(max(shell_px, CLEAR_PX, 4.0 * sigma) + 1.0)
        for y in range(ny):
            at_y = min(max((y + 0.5) / block_px - 0.5, 0.0), gy - 1.0)
            y0 = min(int(at_y), max(gy - 2, 0))
            y1 = min(y0 + 1, gy - 1)
            fy = np.float32(at_y - y0)
            for k in range(gx):
                line[k] = planes[row, y0, k] * (1 - fy) + planes[row, y1, k] * fy
            line[gx] = line[gx - 1]
            for x in range(nx):
                above = z - top[y, x]
                below = bottom[y, x] - z
                if radius[y, x] < well_inside:
                    edge = nearest - radius[y, x]
                else:
                    index = int(angle[y, x])
                    share = angle[y, x] - np.float32(index)
                    following = index + 1
                    if following >= rim.shape[1]:
                        following = 0
                    if index >= rim.shape[1]:
                        index = 0
                    edge = (
                        rim[row, index] * (np.float32(1.0) - share)
                        + rim[row, following] * share
                    ) - radius[y, x]
                depth = min(above, below, edge)
                if depth < -reach or depth < -6.0:
                    deficit[row, y, x] = 0
                    region[row, y, x] = 0
                    continue
                code = 0
                if depth > 0:
                    code |= INSIDE
                    if depth >= deep_px:
                        code |= DEEP
                    if depth >= CLEAR_PX:
                        code |= CLEAR
                    if edge >= shell_px:
                        code |= NOT_RIM
                    if above <= TOUCH_PX:
                        code |= AT_ANODE
                    if below <= TOUCH_PX:
                        code |= AT_CATHODE
                region[row, y, x] = code
                between = np.float32(1.0)
                within = np.float32(1.0)
                if depth < reach:
                    between = half * (1 + math.erf(above * scale))
                    between *= half * (1 + math.erf(below * scale))
                    within = half * (1 + math.erf(edge * scale))
                fx = beyond[x]
                level = line[left[x]] * (1 - fx) + line[left[x] + 1] * fx
                contrast = level - low32
                expected = (
                    within * (between * level + (1 - between) * np.float32(electrode))
                    + (1 - within) * low32
                )
                deficit[row, y, x] = (expected - slab[row, y, x]) / contrast


@dataclass(frozen=True)
class Window:
    """A run of rows with their neighbours.

    Attributes
    ----------
    first_row : int
        Row z of the volume at index 0 of the arrays.
    core : slice
        Index range of the rows that this window is for; the others are neighbours.
    deficit : ndarray, float32, shape (row, y, x)
    region : ndarray, uint8, shape (row, y, x)
        Region bits of this module.
    """

    first_row: int
    core: slice
    deficit: NDArray[np.float32]
    region: NDArray[np.uint8]


class DeficitVolume:
    """The deficit of a volume against its body, computed a slab at a time.

    Parameters
    ----------
    volume : VolumeSource
        The grey volume.
    body : Body
        Its smooth surfaces.
    levels : LevelField
        Grey of the solid and of an empty crack.
    rim_shell_px : float
        Depth of the rim shell.
    """

    def __init__(
        self,
        volume: VolumeSource,
        body: Body,
        levels: LevelField,
        rim_shell_px: float,
    ) -> None:
        self._volume = volume
        self._body = body
        self._levels = levels
        self._rim_shell_px = rim_shell_px
        self._radius, self._angle = body.polar()
        self.rows = body.rows(6, volume.shape[0])
        self.shape = volume.shape

    @property
    def sharp(self) -> bool:
        """Whether the body has no surface of its own: it fills the volume."""
        return self._body.edge_sigma_px == 0

    @property
    def deep_px(self) -> float:
        """Depth below which a deficit starts a crack."""
        return 0.0 if self.sharp else 1.0 + 1.5 * self._body.edge_sigma_px

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return deficit and region of the rows ``start`` to ``stop`` (exclusive)."""
        slab = np.ascontiguousarray(self._volume.slab(start, stop), dtype=np.float32)
        deficit = np.empty_like(slab)
        region = np.empty(slab.shape, np.uint8)
        body = self._body
        _deficit_rows(
            slab,
            start,
            body.top,
            body.bottom,
            body.rim[start:stop],
            self._radius,
            self._angle,
            self._levels.planes(start, stop),
            self._levels.block_px,
            self._levels.low,
            self._levels.electrode,
            body.edge_sigma_px,
            self.deep_px,
            self._rim_shell_px,
            deficit,
            region,
        )
        return deficit, region

    def windows(self, halo: int, slab_bytes: int) -> Iterator[Window]:
        """Yield the body's rows once each, with ``halo`` neighbours on both sides.

        Each row of the volume is read once; rows that the next window needs are kept
        in the same arrays, so that a window holds until the next one is asked for.
        """
        begin, end = self.rows
        step = slab_rows(self.shape, slab_bytes)
        most = min(step + 2 * halo, end - begin)
        deficit = np.empty((most, *self.shape[1:]), np.float32)
        region = np.empty(deficit.shape, np.uint8)
        held_from = held_to = begin
        for start in range(begin, end, step):
            stop = min(start + step, end)
            first, last = max(start - halo, begin), min(stop + halo, end)
            # Row by row, since the rows to keep overlap their new place.
            for row in range(first, held_to if first > held_from else first):
                deficit[row - first] = deficit[row - held_from]
                region[row - first] = region[row - held_from]
            held_from = first
            for row in range(held_to, last, step):
                until = min(row + step, last)
                into = slice(row - first, until - first)
                deficit[into], region[into] = self.read(row, until)
            held_to = last
            held = slice(0, last - first)
            yield Window(
                first, slice(start - first, stop - first), deficit[held], region[held]
            )
