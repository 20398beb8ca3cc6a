"""The cracks on voxels, however far they have grown."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.cell_settings import CellSettings
from sim.crack_kernels import (
    columns_near_trace,
    draw_ring,
    draw_strand,
    strand_columns,
)
from sim.cracks import (
    ARRIVAL,
    OFFSET,
    RANK,
    SLANT,
    WIDTH,
    CrackPattern,
    Ring,
    Sheet,
    sheet_strands,
)
from sim.displacement import Motion
from sim.lattice import Lattice

# Distance from its front, relative to the thickness, over which a crack opens.
_TAPER = 0.15
# Room for the motion of the material, which is looked up in tables of the unmoved.
_HALO_UM = 4.0
# More than single precision errs by when voxels are sought that a crack touches.
_ROUNDING_UM = 0.01
# Rank of what is filled whatever the level of filling.
_ALWAYS_UM = -100.0


@dataclass(frozen=True)
class Growth:
    """How far the cracks of a state have grown.

    Attributes
    ----------
    batches : tuple[tuple[int, ...], ...]
        For each half-cycle begun, the numbers of the sheets it started.
    directions : tuple[int, ...]
        For each half-cycle, +1 if its sheets start at the anode, else -1.
    progress : tuple[float, ...]
        For each half-cycle, growth of its sheets; 1 is their full extent.
    width_um : float
        Most frequent width.
    breath : float
        Relative change of width at the cathode's face.
    """

    batches: tuple[tuple[int, ...], ...]
    directions: tuple[int, ...]
    progress: tuple[float, ...]
    width_um: float
    breath: float

    def widened(self, factor: float) -> "Growth":
        """Return the same cracks, wider by a factor."""
        return replace(self, width_um=factor * self.width_um)


@dataclass(frozen=True)
class Finger:
    """The lithium that makes its way along the first crack.

    Attributes
    ----------
    depth_um : float
        How deep it stands; beyond the thickness it connects the electrodes.
    half_width_um : float
        Half its width at the face.
    """

    depth_um: float
    half_width_um: float


@dataclass(frozen=True)
class CrackVoxels:
    """Cracks on a lattice, not yet cut by the pellet's outline.

    Attributes
    ----------
    columns : numpy.ndarray
        (n,) int64 sorted numbers of the columns that any crack touches.
    cover : numpy.ndarray
        (n, rows) float32 part of each voxel that is crack.
    wide_um : numpy.ndarray
        (n, rows) float32 local width of the crack that covers most of the voxel.
    rank_um : numpy.ndarray
        (n, rows) float32 level of filling from which the voxel holds lithium.
    """

    columns: np.ndarray
    cover: np.ndarray
    wide_um: np.ndarray
    rank_um: np.ndarray


@dataclass(frozen=True)
class _LaidSheet:
    column: np.ndarray
    along: np.ndarray
    aside_um: np.ndarray
    normal: np.ndarray


@dataclass(frozen=True)
class _View:
    """What the sheets of one drawing share."""

    lattice: Lattice
    width_um: np.ndarray
    motion: Motion | None


@dataclass(frozen=True)
class _Stroke:
    """A strand or a ring, and the columns that it may touch."""

    column: np.ndarray
    kernel: Callable[..., None]
    arguments: tuple[Any, ...]


class CrackDrawing:
    """Lays cracks on a lattice.

    What a sheet covers is worked out once; of its tables, only those of the rows on
    which the growth is searched are kept.

    Parameters
    ----------
    settings : CellSettings
        Geometry and laws.
    pattern : CrackPattern
        The sheets.
    lattice : Lattice
        Voxels of the whole pellet.
    sample : Lattice
        The rows whose tables are kept.
    """

    def __init__(
        self,
        settings: CellSettings,
        pattern: CrackPattern,
        lattice: Lattice,
        sample: Lattice,
    ) -> None:
        self._settings = settings
        self._pattern = pattern
        self._lattice = lattice
        self._sample = sample
        self._thickness_um = 1e3 * settings.pellet_thickness_mm
        self._taper_um = _TAPER * self._thickness_um
        self._laid: dict[int, _LaidSheet] = {}
        self._tables: dict[tuple[int, int], list[np.ndarray]] = {}
        self._last_motion: Motion | None = None
        self._moved: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def lay(
        self,
        growth: Growth,
        lattice: Lattice,
        motion: Motion | None = None,
        finger: Finger | None = None,
    ) -> CrackVoxels:
        """Lay the cracks on a lattice.

        Parameters
        ----------
        growth : Growth
            How far they have grown.
        lattice : Lattice
            The lattice, or some rows of it.
        motion : Motion, optional
            Displacement of the pellet.
        finger : Finger, optional
            Lithium along the first crack.
        """
        view = _View(lattice, self._row_widths_um(growth, lattice), motion)
        strokes: list[_Stroke] = []
        touched = np.zeros(lattice.width**2, dtype=bool)
        for index, direction, reach_um in self.reaches(growth):
            if reach_um > 0:
                lithium = finger if index == 0 else None
                strokes += self._strands(index, direction, reach_um, view, lithium)
                strokes += self._ring(index, direction, reach_um, view)
        for stroke in strokes:
            touched[stroke.column] = True
        columns = np.flatnonzero(touched)
        slots = np.cumsum(touched, dtype=np.int32) - np.int32(1)
        cover, wide, rank = np.zeros(
            (3, len(columns), lattice.num_rows), dtype=np.float32
        )
        for stroke in strokes:
            stroke.kernel(cover, wide, rank, slots[stroke.column], *stroke.arguments)
        return CrackVoxels(columns, cover, wide, rank)

    def reaches(self, growth: Growth) -> list[tuple[int, int, float]]:
        """Return number, direction and growth (µm) of each sheet."""
        reaches = []
        for batch, direction, progress in zip(
            growth.batches, growth.directions, growth.progress, strict=True
        ):
            for index in batch:
                delay = self._pattern.sheet(index).delay
                part = max(0.0, progress - delay) / (1 - delay)
                reaches.append((index, direction, part * self.full_reach_um(index)))
        return reaches

    def full_reach_um(self, index: int) -> float:
        """Return the growth at which a sheet has its full extent everywhere."""
        sheet = self._pattern.sheet(index)
        along = max(sheet.start_um, sheet.length_um - sheet.start_um)
        farthest = float(np.hypot(along, self._thickness_um))
        return farthest * (1 + float(sheet.ragged[:, 0].sum())) + self._taper_um

    def _row_widths_um(self, growth: Growth, lattice: Lattice) -> np.ndarray:
        """Return the most frequent width per row, changed near the cathode."""
        share = lattice.depth_um / self._thickness_um
        near = np.exp(-(((1 - share) / 0.25) ** 2))
        # The mean of `near` over the thickness: the change moves volume about and
        # leaves its sum.
        mean = 0.25 * np.sqrt(np.pi) / 2
        return (growth.width_um * (1 + growth.breath * (near - mean))).astype(
            np.float32
        )

    def _strands(
        self,
        index: int,
        direction: int,
        reach_um: float,
        view: _View,
        finger: Finger | None,
    ) -> list[_Stroke]:
        laid, lattice = self._lay(index), view.lattice
        down_um, lean = self._motion_of(index, view.motion)
        drop = down_um / np.float32(lattice.pitch_um * lattice.row_step)
        from_middle_um = lattice.depth_um - self._thickness_um / 2
        from_middle_um = from_middle_um.astype(np.float32)
        halo, tables = self._tables_of(index, direction, lattice)
        if finger is not None:
            tables = [self._with_finger(tables[0], finger, direction, lattice)]
        strokes = []
        for table in tables:
            low_um, high_um = self._bounds_um(table, reach_um, view)
            k = strand_columns(
                laid.along, laid.aside_um, lean, from_middle_um, low_um, high_um
            )
            arguments = (
                laid.along[k], laid.aside_um[k], drop[k], lean[k], from_middle_um,
                table, halo, view.width_um, reach_um, self._taper_um, lattice.pitch_um,
            )  # fmt: skip
            strokes.append(_Stroke(laid.column[k], draw_strand, arguments))
        return strokes

    def _bounds_um(
        self, table: np.ndarray, reach_um: float, view: _View
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return between what places aside of the trace a strand's voxels lie.

        Returns
        -------
        low_um, high_um : numpy.ndarray
            (points,); the lower above the upper where nothing has grown.
        """
        widest_um = float(table[..., WIDTH].max() * view.width_um.max())
        steepest = float(table[..., SLANT].min())
        room_um = (widest_um + view.lattice.pitch_um) / 2 / steepest + _ROUNDING_UM
        low_um = table[..., OFFSET].min(axis=1) - room_um
        high_um = table[..., OFFSET].max(axis=1) + room_um
        low_um[table[..., ARRIVAL].min(axis=1) >= reach_um] = np.inf
        return low_um, high_um

    def _motion_of(
        self, index: int, motion: Motion | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return how far a sheet's columns move down (µm), and aside per depth."""
        if motion is not self._last_motion:
            self._last_motion = motion
            self._moved = {}
        moved = self._moved.get(index)
        if moved is None:
            laid = self._lay(index)
            down_um = lean = np.zeros(len(laid.column), dtype=np.float32)
            if motion is not None:
                down_um = motion.down_um[laid.column]
                lean = (motion.slope[laid.column] * laid.normal).sum(axis=1)
            moved = self._moved[index] = (down_um, lean)
        return moved

    def _ring(
        self, index: int, direction: int, reach_um: float, view: _View
    ) -> list[_Stroke]:
        sheet, lattice = self._pattern.sheet(index), view.lattice
        ring = sheet.ring
        if ring is None:
            return []
        depth_um = lattice.depth_um
        if direction < 0:
            depth_um = self._thickness_um - depth_um
        # Most rows are too deep for it.
        room_um = (self._widest_um + lattice.pitch_um) / 2
        room_um *= ring.depth_um / min(ring.radius_um, ring.depth_um)
        room_um += self._settings.pellet.bending_um
        if depth_um.min() > ring.depth_um + room_um:
            return []
        column, across_um = self._ring_columns(ring, sheet.start)
        drop_um = np.zeros(len(column))
        if view.motion is not None:
            drop_um = direction * view.motion.down_um[column].astype(float)
        opening = np.clip(reach_um / (3 * ring.depth_um), 0, 1)
        arguments = (
            across_um, depth_um, drop_um, ring.radius_um, ring.depth_um,
            0.8 * opening * view.width_um, lattice.pitch_um,
        )  # fmt: skip
        return [_Stroke(column, draw_ring, arguments)]

    def _ring_columns(
        self, ring: Ring, start: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns under a ring and their distance from its axis."""
        lattice = self._lattice
        band = ring.radius_um + self._widest_um + lattice.pitch_um
        x, y = start
        across = lattice.across_um
        near_x = np.flatnonzero(np.abs(across - x) <= band)
        near_y = np.flatnonzero(np.abs(across - y) <= band)
        away = np.hypot(across[near_x] - x, (across[near_y] - y)[:, None])
        column = near_y[:, None] * lattice.width + near_x
        inside = (away <= band) & (lattice.disc[column] > 0)
        return column[inside], away[inside]

    @property
    def _widest_um(self) -> float:
        return 1.5 * self._settings.cracks.last_width_um

    def _lay(self, index: int) -> _LaidSheet:
        laid = self._laid.get(index)
        if laid is None:
            sheet = self._pattern.sheet(index)
            aside_um = float(np.abs(sheet.waves[:, 0]).sum())
            aside_um += abs(sheet.lean) * self._thickness_um / 2
            if sheet.fork is not None:
                aside_um += abs(sheet.fork.aside_um)
            moved_um = self._settings.pellet.bending_um
            band = aside_um + moved_um + self._widest_um / 2 + self._lattice.pitch_um
            column, along, away, normal = columns_near_trace(
                sheet.points_um, band, self._lattice.pitch_um, self._lattice.width
            )
            inside = self._lattice.disc[column] > 0
            laid = _LaidSheet(
                column[inside], along[inside], away[inside], normal[inside]
            )
            self._laid[index] = laid
        return laid

    def _tables_of(
        self, index: int, direction: int, lattice: Lattice
    ) -> tuple[int, list[np.ndarray]]:
        """Return a sheet's tables on some rows, and how many rows lie before them."""
        spacing_um = lattice.pitch_um * lattice.row_step
        halo = int(np.ceil(_HALO_UM / spacing_um)) + 1
        before = lattice.depth_um[0] + spacing_um * np.arange(-halo, 0)
        after = lattice.depth_um[-1] + spacing_um * np.arange(1, halo + 1)
        depth_um = np.concatenate([before, lattice.depth_um, after])
        if direction < 0:
            depth_um = self._thickness_um - depth_um
        kept = self._tables.get((index, direction)) if lattice is self._sample else None
        if kept is None:
            kept = sheet_strands(
                self._pattern.sheet(index),
                depth_um,
                self._thickness_um,
                self._settings.cracks.interface_narrowing,
            )
            if lattice is self._sample:
                self._tables[index, direction] = kept
        return halo, kept

    def _with_finger(
        self, table: np.ndarray, finger: Finger, direction: int, lattice: Lattice
    ) -> np.ndarray:
        sheet: Sheet = self._pattern.sheet(0)
        spacing_um = lattice.pitch_um * lattice.row_step
        halo = int(np.ceil(_HALO_UM / spacing_um)) + 1
        depth = lattice.depth_um[0] + spacing_um * (np.arange(table.shape[1]) - halo)
        if direction < 0:
            depth = self._thickness_um - depth
        along = sheet.step_um * np.arange(table.shape[0]) - sheet.start_um
        narrowing = 1 - 0.6 * depth.clip(0) / max(finger.depth_um, 1e-9)
        filled = np.abs(along)[:, None] < finger.half_width_um * narrowing
        filled &= depth < finger.depth_um
        table = table.copy()
        table[..., RANK][filled] = _ALWAYS_UM
        return table
