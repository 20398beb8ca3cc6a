"""The cracks on voxels, however far they have grown."""

from dataclasses import dataclass, replace

import numpy as np

from sim.cell_settings import CellSettings
from sim.crack_kernels import columns_near_trace, draw_ring, draw_strand
from sim.cracks import RANK, CrackPattern, Sheet, sheet_strands
from sim.displacement import Motion
from sim.lattice import Lattice

# Distance from its front, relative to the thickness, over which a crack opens.
_TAPER = 0.15
# Room for the motion of the material, which is looked up in tables of the unmoved.
_HALO_UM = 4.0
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
        self._last_touched: tuple[tuple[int, ...], np.ndarray] = (
            (),
            np.empty(0, np.int64),
        )

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
        rows = lattice.num_rows
        width_um = self._row_widths_um(growth, lattice)
        sheets = [entry for entry in self.reaches(growth) if entry[2] > 0]
        if not sheets:
            nothing = np.empty((0, rows), dtype=np.float32)
            return CrackVoxels(np.empty(0, np.int64), nothing, nothing, nothing)
        columns = self._touched(tuple(index for index, _, _ in sheets))
        cover, wide, rank = np.zeros((3, len(columns), rows), dtype=np.float32)
        for index, direction, reach in sheets:
            self._draw_sheet(
                (cover, wide, rank), columns, index, direction, reach,
                width_um, lattice, motion, finger if index == 0 else None,
            )  # fmt: skip
            self._draw_ring(
                (cover, wide, rank), columns, index, direction, reach,
                width_um, lattice, motion,
            )  # fmt: skip
        return CrackVoxels(columns, cover, wide, rank)

    def _touched(self, sheets: tuple[int, ...]) -> np.ndarray:
        """Return the sorted numbers of the columns under some sheets."""
        if self._last_touched[0] != sheets:
            touched = np.zeros(self._lattice.width**2, dtype=bool)
            for index in sheets:
                touched[self._lay(index).column] = True
                touched[self._ring_columns(index)[0]] = True
            self._last_touched = (sheets, np.flatnonzero(touched))
        return self._last_touched[1]

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

    def _draw_sheet(
        self,
        arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
        columns: np.ndarray,
        index: int,
        direction: int,
        reach_um: float,
        width_um: np.ndarray,
        lattice: Lattice,
        motion: Motion | None,
        finger: Finger | None,
    ) -> None:
        laid = self._lay(index)
        slot = np.searchsorted(columns, laid.column)
        spacing_um = lattice.pitch_um * lattice.row_step
        if motion is None:
            drop = lean = np.zeros(len(slot), dtype=np.float32)
        else:
            drop = motion.down_um[laid.column] / np.float32(spacing_um)
            lean = (motion.slope[laid.column] * laid.normal).sum(axis=1)
        halo, strands = self._strands(index, direction, lattice)
        if finger is not None:
            strands = [self._with_finger(strands[0], finger, direction, lattice)]
        for table in strands:
            draw_strand(
                *arrays, slot, laid.along, laid.aside_um, drop, lean,
                (lattice.depth_um - self._thickness_um / 2).astype(np.float32),
                table, halo, width_um, reach_um, self._taper_um, lattice.pitch_um,
            )  # fmt: skip

    def _draw_ring(
        self,
        arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
        columns: np.ndarray,
        index: int,
        direction: int,
        reach_um: float,
        width_um: np.ndarray,
        lattice: Lattice,
        motion: Motion | None,
    ) -> None:
        ring = self._pattern.sheet(index).ring
        if ring is None:
            return
        column, across_um = self._ring_columns(index)
        depth, drop = lattice.depth_um, np.zeros(len(column))
        if motion is not None:
            drop = direction * motion.down_um[column].astype(float)
        if direction < 0:
            depth = self._thickness_um - depth
        opening = np.clip(reach_um / (3 * ring.depth_um), 0, 1)
        draw_ring(
            *arrays, np.searchsorted(columns, column), across_um, depth, drop,
            ring.radius_um, ring.depth_um, 0.8 * opening * width_um, lattice.pitch_um,
        )  # fmt: skip

    def _ring_columns(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns under a sheet's ring and their distance from it."""
        sheet = self._pattern.sheet(index)
        if sheet.ring is None:
            return np.empty(0, np.int64), np.empty(0)
        lattice = self._lattice
        band = sheet.ring.radius_um + self._widest_um + lattice.pitch_um
        x, y = sheet.start
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

    def _strands(
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
