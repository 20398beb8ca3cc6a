"""How far the cracks of a state have grown, by the law of their volume."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import root_scalar

from sim.camera_settings import CameraSettings
from sim.cell import CellState, crack_volume_um3, crack_width_um
from sim.cell_settings import CellSettings
from sim.crack_kernels import columns_near_trace, draw_ring, draw_strand
from sim.cracks import RANK, CrackPattern, Sheet, sheet_strands
from sim.displacement import Motion, swing
from sim.lattice import Lattice

# Older cracks go on growing at this part of the pace of the newest.
_AFTERGROWTH = 0.3
# Distance from its front, relative to the thickness, over which a crack opens.
_TAPER = 0.15
# Room for the motion of the material, which is looked up in tables of the unmoved.
_HALO_UM = 4.0
# Voxels on which volumes are taken while the growth is searched, and at last.
_SEARCH_VOXELS = 1_500_000
_PRECISE_VOXELS = 20_000_000
# New sheets of a half-cycle could hold this many times the volume that it needs.
_SPARE = 1.6
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
class _History:
    batches: tuple[tuple[int, ...], ...] = ()
    progress: tuple[float, ...] = ()


class CrackNetwork:
    """Finds and lays the cracks that belong to a state of the cell.

    Cracks grow until their volume is that of the law. The search takes place in a
    flat, unchipped pellet; a state asked for directly is the same as one reached
    step by step.

    Parameters
    ----------
    settings : CellSettings
        Geometry and laws.
    seed : int
        Seed of the cell.
    lattice : Lattice
        Voxels of the whole pellet.
    """

    def __init__(self, settings: CellSettings, seed: int, lattice: Lattice) -> None:
        self.settings = settings
        self.lattice = lattice
        self.sample = lattice.sample(_SEARCH_VOXELS)
        self.precise = lattice.sample(_PRECISE_VOXELS)
        self._pattern = CrackPattern(settings, seed)
        self._thickness_um = 1e3 * settings.pellet_thickness_mm
        self._taper_um = _TAPER * self._thickness_um
        self._laid: dict[int, _LaidSheet] = {}
        self._tables: dict[tuple[int, int], list[np.ndarray]] = {}
        self._histories: dict[tuple[int, ...], _History] = {(): _History()}
        self._last_touched: tuple[tuple[int, ...], np.ndarray] = (
            (),
            np.empty(0, np.int64),
        )

    def growth(self, state: CellState) -> Growth:
        """Return how far the cracks of a state have grown."""
        begun = len(state.directions)
        if not self.settings.cracks.enabled or not begun:
            return Growth((), (), (), crack_width_um(self.settings, 0.0), 0.0)
        for count in range(1, begun):
            self._remember(state.directions[:count])
        return self._solve(state.directions, state.half_cycles)

    def check_law(self) -> None:
        """Refuse a law of the volume that the first crack cannot keep.

        Raises
        ------
        ValueError
            If the first crack holds more than the law allows.
        """
        if self.settings.cracks.enabled:
            self._remember((1,))

    def volume_um3(self, growth: Growth) -> float:
        """Return the cracks' volume in a flat, unchipped pellet."""
        cracks = self.lay(growth, self.sample)
        inside = self.sample.disc[cracks.columns]
        rows = self.sample.disc_rows * self.sample.rows_each.astype(np.float32)
        parts = np.einsum("cr,c,r->", cracks.cover, inside, rows)
        return float(parts) * self.sample.pitch_um**3

    def crossing_um(self) -> float:
        """Return how far the first crack has grown when it crosses the pellet."""
        sheet = self._pattern.sheet(0)
        bottom = np.array([self._thickness_um])
        table = sheet_strands(sheet, bottom, self._thickness_um, 0.0)[0]
        return float(table[..., 3].min())

    def first_reach_um(self, growth: Growth) -> float:
        """Return how far the first crack has grown."""
        return self._reaches(growth)[0][2] if growth.batches else 0.0

    def area_um2(self, growth: Growth) -> float:
        """Return the area of the cracks' middle surfaces within the pellet."""
        cracks = self.lay(growth, self.sample)
        inside = self.sample.disc[cracks.columns][:, None] * self.sample.disc_rows
        with np.errstate(divide="ignore", invalid="ignore"):
            area = np.where(cracks.cover > 0, cracks.cover / cracks.wide_um, 0.0)
        area_of_rows = (area * inside).sum(axis=0, dtype=np.float64)
        return float(area_of_rows @ self.sample.rows_each) * self.sample.pitch_um**3

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
            The lattice of the network, or some rows of it.
        motion : Motion, optional
            Displacement of the pellet.
        finger : Finger, optional
            Lithium along the first crack.
        """
        rows = lattice.num_rows
        width_um = self._row_widths_um(growth, lattice)
        sheets = [entry for entry in self._reaches(growth) if entry[2] > 0]
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
            touched = np.zeros(self.lattice.width**2, dtype=bool)
            for index in sheets:
                touched[self._lay(index).column] = True
                touched[self._ring_columns(index)[0]] = True
            self._last_touched = (sheets, np.flatnonzero(touched))
        return self._last_touched[1]

    def _remember(self, directions: tuple[int, ...]) -> None:
        if directions not in self._histories:
            growth = self._solve(directions, float(len(directions)))
            self._histories[directions] = _History(growth.batches, growth.progress)

    def _solve(self, directions: tuple[int, ...], half_cycles: float) -> Growth:
        before = self._histories[directions[:-1]]
        if len(directions) == 1:
            return self._first_charge(directions, half_cycles)
        target = crack_volume_um3(self.settings, half_cycles)
        width_um = crack_width_um(self.settings, half_cycles)
        breath = self._breath(directions, half_cycles)
        batch = self._next_batch(before, directions)

        def at(progress: float, scale: float = 1.0) -> Growth:
            older = list(before.progress)
            older[-1] += _AFTERGROWTH * progress
            return Growth(
                (*before.batches, batch),
                directions,
                (*older, progress),
                scale * width_um,
                breath,
            )

        if self.volume_um3(at(0.0)) >= target:
            # Widening alone brings more volume than the law allows.
            scale = _root(lambda k: self.volume_um3(at(0.0, k)) - target, 0.5, 1.0)
            return at(0.0, scale)
        return at(_root(lambda p: self.volume_um3(at(p)) - target, 0.0, 1.0))

    def _first_charge(self, directions: tuple[int, ...], half_cycles: float) -> Growth:
        cracks = self.settings.cracks
        batch = self._next_batch(_History(), directions)
        target = crack_volume_um3(self.settings, 1.0)
        crossing = self.crossing_um() / self._full_reach_um(0)

        def at(progress: float, breath: float) -> Growth:
            width_um = crack_width_um(self.settings, 1.0)
            return Growth((batch,), directions, (progress,), width_um, breath)

        last = self._breath(directions, 1.0)
        if self.volume_um3(at(crossing, last)) >= target:
            raise ValueError(
                f"cracks.first_volume_fraction is {cracks.first_volume_fraction}; the "
                "first crack holds more than that when it crosses the pellet: raise "
                "it, or make the cracks thinner or the pellet wider"
            )
        end = _root(lambda p: self.volume_um3(at(p, last)) - target, crossing, 1.0)
        progress = np.interp(
            half_cycles,
            [cracks.nucleation_fraction, cracks.first_crossing_fraction, 1.0],
            [0.0, crossing, end],
        )
        return at(float(progress), self._breath(directions, half_cycles))

    def _next_batch(
        self, before: _History, directions: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return enough new sheets for the volume of the next half-cycle."""
        half_cycles = float(len(directions))
        width_um = crack_width_um(self.settings, half_cycles)
        breath = self._breath(directions, half_cycles)
        first = sum(len(batch) for batch in before.batches)

        def held_um3(batch: list[int], progress: float) -> float:
            older = list(before.progress)
            if older:
                older[-1] += _AFTERGROWTH * progress
            grown = (*older, progress)
            batches = (*before.batches, tuple(batch))
            return self.volume_um3(Growth(batches, directions, grown, width_um, breath))

        target = crack_volume_um3(self.settings, half_cycles)
        start = held_um3([], 0.0)
        enough = start + _SPARE * (target - start)
        batch = [first]
        held = held_um3(batch, 1.0)
        while held < enough:
            # By area first, because laying sheets to find their volume takes time.
            room = enough - held
            while room > 0:
                index = first + len(batch)
                batch.append(index)
                length_um = self._pattern.sheet(index).length_um
                room -= length_um * self._thickness_um * width_um
            if len(batch) > 1000:
                raise ValueError(
                    f"the law asks for {target:.4g} µm³ of cracks after "
                    f"{half_cycles:g} half-cycles and the pellet has no room for them: "
                    "lower cracks.volume_growth_fraction"
                )
            held = held_um3(batch, 1.0)
        return tuple(batch)

    def _reaches(self, growth: Growth) -> list[tuple[int, int, float]]:
        reaches = []
        for batch, direction, progress in zip(
            growth.batches, growth.directions, growth.progress, strict=True
        ):
            for index in batch:
                delay = self._pattern.sheet(index).delay
                part = max(0.0, progress - delay) / (1 - delay)
                reaches.append((index, direction, part * self._full_reach_um(index)))
        return reaches

    def _full_reach_um(self, index: int) -> float:
        """Return the growth at which a sheet has its full extent everywhere."""
        sheet = self._pattern.sheet(index)
        along = max(sheet.start_um, sheet.length_um - sheet.start_um)
        farthest = float(np.hypot(along, self._thickness_um))
        return farthest * (1 + float(sheet.ragged[:, 0].sum())) + self._taper_um

    def _breath(self, directions: tuple[int, ...], half_cycles: float) -> float:
        state = CellState(seed=0, half_cycles=half_cycles, directions=directions)
        return -self.settings.cracks.breathing * swing(state)

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
        lattice = self.lattice
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
        return 1.5 * self.settings.cracks.last_width_um

    def _lay(self, index: int) -> _LaidSheet:
        laid = self._laid.get(index)
        if laid is None:
            sheet = self._pattern.sheet(index)
            aside_um = float(np.abs(sheet.waves[:, 0]).sum())
            aside_um += abs(sheet.lean) * self._thickness_um / 2
            if sheet.fork is not None:
                aside_um += abs(sheet.fork.aside_um)
            moved_um = self.settings.pellet.bending_um
            band = aside_um + moved_um + self._widest_um / 2 + self.lattice.pitch_um
            column, along, away, normal = columns_near_trace(
                sheet.points_um, band, self.lattice.pitch_um, self.lattice.width
            )
            inside = self.lattice.disc[column] > 0
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
        kept = self._tables.get((index, direction)) if lattice is self.sample else None
        if kept is None:
            kept = sheet_strands(
                self._pattern.sheet(index),
                depth_um,
                self._thickness_um,
                self.settings.cracks.interface_narrowing,
            )
            if lattice is self.sample:
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


def check_cracks(cell: CellSettings, camera: CameraSettings, seed: int) -> None:
    """Refuse a cell whose cracks cannot follow their law, before it is made.

    Parameters
    ----------
    cell : CellSettings
    camera : CameraSettings
        Its pixels are the voxels.
    seed : int

    Raises
    ------
    ValueError
        With the setting to change.
    """
    lattice = Lattice.around(cell, camera.pixel_size_um, camera.pellet_row_px)
    CrackNetwork(cell, seed, lattice).check_law()


def with_width(growth: Growth, factor: float) -> Growth:
    """Return the same cracks, wider by a factor."""
    return replace(growth, width_um=factor * growth.width_um)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(root_scalar(function, bracket=(low, high), xtol=1e-5).root)
