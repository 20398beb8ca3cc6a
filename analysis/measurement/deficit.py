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

from analysis.measurement.body import Body, Surfaces
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
    surfaces: Surfaces,
    planes: np.ndarray,
    block_px: int,
    low: float,
    electrode: float,
    deep_px: float,
    shell_px: float,
    deficit: np.ndarray,
    region: np.ndarray,
) -> None:
    """Fill deficit and region of a slab.

    Three kinds of columns: well inside the rim, where between the faces nothing but
    the level matters; well outside; and those near the surface.
    """
    (
        top, bottom, lowest_top, highest_bottom, rim, centre, radius, angle, sigma
    ) = surfaces  # fmt: skip
    rows, ny, nx = slab.shape
    gy, gx = planes.shape[1:]
    one, half = np.float32(1.0), np.float32(0.5)
    reach = np.float32(4.0 * sigma)
    scale = np.float32(1.0 / (math.sqrt(2.0) * max(sigma, 1e-6)))
    low32, electrode32 = np.float32(low), np.float32(electrode)
    inner_px = max(shell_px, CLEAR_PX, 4.0 * sigma, deep_px) + 1.0
    outer_px = min(4.0 * sigma, 6.0) + 1.0
    for row in numba.prange(rows):
        z = np.float32(first_row + row)
        between_faces = z - lowest_top > inner_px and highest_bottom - z > inner_px
        nearest = min(float(rim[row].min()), 1e6)
        farthest = min(float(rim[row].max()), 1e6)
        # The level's blocks spread along x once a row.
        wide = np.empty((gy, nx), np.float32)
        for x in range(nx):
            at_x = min(max((x + 0.5) / block_px - 0.5, 0.0), gx - 1.0)
            left = min(int(at_x), max(gx - 2, 0))
            beyond = np.float32(at_x - left)
            right = min(left + 1, gx - 1)
            for k in range(gy):
                wide[k, x] = (
                    planes[row, k, left] * (one - beyond)
                    + planes[row, k, right] * beyond
                )
        for y in range(ny):
            at_y = min(max((y + 0.5) / block_px - 0.5, 0.0), gy - 1.0)
            y0 = min(int(at_y), max(gy - 2, 0))
            fy = np.float32(at_y - y0)
            level_before, level_after = wide[y0], wide[min(y0 + 1, gy - 1)]
            grey, missing, code = slab[row, y], deficit[row, y], region[row, y]
            from_x, to_x = chord(centre, y, farthest + outer_px, nx)
            inner_from, inner_to = chord(centre, y, nearest - inner_px, nx)
            if not between_faces or inner_to <= inner_from:
                inner_from = inner_to = to_x
            missing[:from_x] = 0
            code[:from_x] = 0
            missing[to_x:] = 0
            code[to_x:] = 0
            code[inner_from:inner_to] = INSIDE | DEEP | CLEAR | NOT_RIM
            for x in range(inner_from, inner_to):
                level = level_before[x] * (one - fy) + level_after[x] * fy
                missing[x] = (level - grey[x]) / (level - low32)
            for side in range(2):
                for x in range(
                    from_x if side == 0 else inner_to,
                    inner_from if side == 0 else to_x,
                ):
                    above = z - top[y, x]
                    below = bottom[y, x] - z
                    index = int(angle[y, x])
                    share = angle[y, x] - np.float32(index)
                    following = index + 1
                    if following >= rim.shape[1]:
                        following = 0
                    if index >= rim.shape[1]:
                        index = 0
                    edge = (
                        rim[row, index] * (one - share) + rim[row, following] * share
                    ) - radius[y, x]
                    depth = min(above, below, edge)
                    if depth < -reach or depth < -6.0:
                        missing[x] = 0
                        code[x] = 0
                        continue
                    bits = 0
                    if depth > 0:
                        bits |= INSIDE
                        if depth >= deep_px:
                            bits |= DEEP
                        if depth >= CLEAR_PX:
                            bits |= CLEAR
                        if edge >= shell_px:
                            bits |= NOT_RIM
                        if above <= TOUCH_PX:
                            bits |= AT_ANODE
                        if below <= TOUCH_PX:
                            bits |= AT_CATHODE
                    code[x] = bits
                    between, within = one, one
                    if depth < reach:
                        between = half * (one + math.erf(above * scale))
                        between *= half * (one + math.erf(below * scale))
                        within = half * (one + math.erf(edge * scale))
                    level = level_before[x] * (one - fy) + level_after[x] * fy
                    expected = (
                        within * (between * level + (one - between) * electrode32)
                        + (one - within) * low32
                    )
                    missing[x] = (expected - grey[x]) / (level - low32)


@numba.njit(cache=True)
def chord(
    centre: tuple[float, float], y: int, radius: float, nx: int
) -> tuple[int, int]:
    """Return the columns x (start, stop) of a row that a circle covers."""
    square = float(radius) * radius - (y - centre[0]) ** 2
    if radius <= 0 or square <= 0:
        return nx, nx
    half = math.sqrt(square)
    start = min(max(math.ceil(centre[1] - half), 0), nx)
    stop = min(max(math.floor(centre[1] + half) + 1, start), nx)
    return int(start), int(stop)


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
        self._surfaces = body.surfaces()
        self.voxel_um = volume.voxel_size_um
        self.rows = body.rows(6, volume.shape[0])
        self.shape = volume.shape

    @property
    def sharp(self) -> bool:
        """Whether the body has no surface of its own: it fills the volume."""
        return self._body.edge_sigma_px == 0

    @property
    def body(self) -> Body:
        """The body that the deficit is told against."""
        return self._body

    @property
    def deep_px(self) -> float:
        """Depth below which a deficit starts a crack."""
        return 0.0 if self.sharp else 1.0 + 1.5 * self._body.edge_sigma_px

    def read(
        self, start: int, deficit: NDArray[np.float32], region: NDArray[np.uint8]
    ) -> None:
        """Fill deficit and region (row, y, x) of the rows from ``start`` on."""
        stop = start + len(deficit)
        slab = np.ascontiguousarray(self._volume.slab(start, stop), dtype=np.float32)
        _deficit_rows(
            slab,
            start,
            self._surfaces.of_rows(start, stop),
            self._levels.planes(start, stop),
            self._levels.block_px,
            self._levels.low,
            self._levels.electrode,
            self.deep_px,
            self._rim_shell_px,
            deficit,
            region,
        )

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
                into = slice(row - first, min(row + step, last) - first)
                self.read(row, deficit[into], region[into])
            held_to = last
            held = slice(0, last - first)
            yield Window(
                first, slice(start - first, stop - first), deficit[held], region[held]
            )
