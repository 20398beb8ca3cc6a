"""The shape of the cell on a lattice of voxels.

Axes: x and y across the pellet with the origin on its axis, depth downwards from the
pellet's top face, the one at the anode. Columns of voxels run along depth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.optimize import root_scalar

from sim.cell import CellState, crack_volume_um3, crack_width_um
from sim.cell_settings import CellSettings
from sim.crack_kernels import columns_near_trace, draw_sheet
from sim.cracks import CrackPattern, Sheet, SheetTables, sheet_tables

# Older cracks go on growing at this part of the pace of the newest.
_AFTERGROWTH = 0.3
# Distance from its front, relative to the thickness, over which a crack opens.
_TAPER = 0.15


@dataclass(frozen=True)
class Lattice:
    """Voxel centres: a square of columns, and rows.

    Attributes
    ----------
    pitch_um : float
        Edge of a voxel.
    width : int
        Columns per side, odd; the middle one lies on the pellet's axis.
    first_row : int
        Number of the first row; row `pellet_row` would lie mid-pellet.
    depth_um : numpy.ndarray
        (rows,) depth of each row's centre below the top face.
    body : numpy.ndarray
        (width * width,) float32 part of each column's cross-section in the pellet.
    body_rows : numpy.ndarray
        (rows,) float32 part of each row between the pellet's faces.
    """

    pitch_um: float
    width: int
    first_row: int
    depth_um: np.ndarray
    body: np.ndarray
    body_rows: np.ndarray

    @staticmethod
    def around(settings: CellSettings, pitch_um: float, pellet_row: float) -> "Lattice":
        """Return the lattice that holds the whole pellet.

        Parameters
        ----------
        settings : CellSettings
            The cell.
        pitch_um : float
            Edge of a voxel.
        pellet_row : float
            Row of the middle of the pellet; need not be whole.
        """
        radius = 500 * settings.pellet_diameter_mm / pitch_um
        thickness = 1e3 * settings.pellet_thickness_mm / pitch_um
        half = ceil(radius) + 1
        across = np.arange(-half, half + 1, dtype=float)
        body = np.clip(radius + 0.5 - np.hypot(across[:, None], across), 0, 1)
        first = int(np.floor(pellet_row - thickness / 2)) - 1
        last = int(np.ceil(pellet_row + thickness / 2)) + 1
        depth = np.arange(first, last + 1) - (pellet_row - thickness / 2)
        top = np.maximum(depth - 0.5, 0)
        bottom = np.minimum(depth + 0.5, thickness)
        return Lattice(
            pitch_um=pitch_um,
            width=2 * half + 1,
            first_row=first,
            depth_um=depth * pitch_um,
            body=body.astype(np.float32).ravel(),
            body_rows=np.clip(bottom - top, 0, 1).astype(np.float32),
        )


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
    width_um : numpy.ndarray
        (rows,) float32 most frequent width at each row of the lattice.
    """

    batches: tuple[tuple[int, ...], ...]
    directions: tuple[int, ...]
    progress: tuple[float, ...]
    width_um: np.ndarray


@dataclass(frozen=True)
class CrackVoxels:
    """Cracks on the lattice.

    Attributes
    ----------
    columns : numpy.ndarray
        (n,) int64 sorted numbers of the columns that any crack touches.
    cover : numpy.ndarray
        (n, rows) float32 part of each voxel that is crack, within the pellet.
    """

    columns: np.ndarray
    cover: np.ndarray

    def volume_um3(self, pitch_um: float) -> float:
        """Return the volume of the cracks."""
        return float(self.cover.sum(dtype=np.float64)) * pitch_um**3


@dataclass(frozen=True)
class _LaidSheet:
    sheet: Sheet
    column: np.ndarray
    along: np.ndarray
    aside_um: np.ndarray


@dataclass(frozen=True)
class _History:
    batches: tuple[tuple[int, ...], ...] = ()
    progress: tuple[float, ...] = ()


class Morphology:
    """Finds the cracks that belong to a state of the cell.

    Cracks grow until their volume on the lattice is that of the law; a state asked
    for directly is the same as one reached step by step.

    Parameters
    ----------
    settings : CellSettings
        Geometry and laws.
    seed : int
        Seed of the cell.
    lattice : Lattice
        Voxels on which volumes are taken.
    """

    def __init__(self, settings: CellSettings, seed: int, lattice: Lattice) -> None:
        self.settings = settings
        self.lattice = lattice
        self._pattern = CrackPattern(settings, seed)
        self._thickness_um = 1e3 * settings.pellet_thickness_mm
        self._taper_um = _TAPER * self._thickness_um
        self._laid: dict[int, _LaidSheet] = {}
        self._tables: dict[tuple[int, int], SheetTables] = {}
        self._histories: dict[tuple[int, ...], _History] = {(): _History()}

    def growth(self, state: CellState) -> Growth:
        """Return how far the cracks of a state have grown."""
        begun = len(state.directions)
        if not self.settings.cracks.enabled or not begun:
            width = self._width_um(state.half_cycles, state.directions)
            return Growth((), (), (), width)
        for count in range(1, begun):
            self._history(state.directions[:count])
        return self._solve(state.directions, state.half_cycles)

    def crack_voxels(self, growth: Growth) -> CrackVoxels:
        """Lay the cracks on the lattice."""
        sheets = [
            (index, direction, reach)
            for index, direction, reach in self._reaches(growth)
            if reach > 0
        ]
        rows = len(self.lattice.depth_um)
        if not sheets:
            return CrackVoxels(
                np.empty(0, np.int64), np.empty((0, rows), dtype=np.float32)
            )
        columns = np.unique(
            np.concatenate([self._lay(index).column for index, _, _ in sheets])
        )
        cover = np.zeros((len(columns), rows), dtype=np.float32)
        for index, direction, reach in sheets:
            laid = self._lay(index)
            tables = self._sheet_tables(index, direction)
            draw_sheet(
                cover,
                np.searchsorted(columns, laid.column),
                laid.along,
                laid.aside_um,
                tables.offset_um,
                tables.slant,
                tables.width,
                tables.arrival_um,
                growth.width_um,
                reach,
                self._taper_um,
                self.lattice.pitch_um,
            )
        cover *= self.lattice.body[columns][:, None]
        cover *= self.lattice.body_rows
        return CrackVoxels(columns, cover)

    def first_crossing_um(self) -> float:
        """Return how far the first crack has grown when it crosses the pellet."""
        sheet = self._pattern.sheet(0)
        bottom = np.array([self._thickness_um])
        tables = sheet_tables(sheet, bottom, self._thickness_um, 0.0)
        return float(tables.arrival_um.min())

    def _history(self, directions: tuple[int, ...]) -> _History:
        known = self._histories.get(directions)
        if known is None:
            growth = self._solve(directions, float(len(directions)))
            known = _History(growth.batches, growth.progress)
            self._histories[directions] = known
        return known

    def _solve(self, directions: tuple[int, ...], half_cycles: float) -> Growth:
        before = self._histories[directions[:-1]]
        if len(directions) == 1:
            return self._first_charge(directions, half_cycles)
        target = crack_volume_um3(self.settings, half_cycles)
        width = self._width_um(half_cycles, directions)
        batch = self._next_batch(before, directions)

        def at(progress: float, scale: float = 1.0) -> Growth:
            older = list(before.progress)
            older[-1] += _AFTERGROWTH * progress
            return Growth(
                (*before.batches, batch),
                directions,
                (*older, progress),
                (scale * width).astype(np.float32),
            )

        if self._volume_um3(at(0.0)) >= target:
            # Widening alone brings more volume than the law allows.
            scale = _root(lambda k: self._volume_um3(at(0.0, k)) - target, 0.5, 1.0)
            return at(0.0, scale)
        return at(_root(lambda p: self._volume_um3(at(p)) - target, 0.0, 1.0))

    def _first_charge(self, directions: tuple[int, ...], half_cycles: float) -> Growth:
        cracks = self.settings.cracks
        batch = self._next_batch(_History(), directions)
        full_width = self._width_um(1.0, directions)
        target = crack_volume_um3(self.settings, 1.0)
        crossing = self.first_crossing_um() / self._full_reach_um(0, directions[0])

        def at(progress: float, width: np.ndarray) -> Growth:
            return Growth((batch,), directions, (progress,), width)

        if self._volume_um3(at(crossing, full_width)) >= target:
            raise ValueError(
                f"cracks.first_volume_fraction is {cracks.first_volume_fraction}; the "
                "first crack holds more than that when it crosses the pellet: raise "
                "it, or make the cracks thinner or the pellet wider"
            )
        end = _root(
            lambda value: self._volume_um3(at(value, full_width)) - target,
            crossing,
            1.0,
        )
        progress = np.interp(
            half_cycles,
            [cracks.nucleation_fraction, cracks.first_crossing_fraction, 1.0],
            [0.0, crossing, end],
        )
        return at(float(progress), self._width_um(half_cycles, directions))

    def _next_batch(
        self, before: _History, directions: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Return enough new sheets for the volume of the next half-cycle."""
        half_cycles = float(len(directions))
        target = crack_volume_um3(self.settings, half_cycles)
        width = self._width_um(half_cycles, directions)
        first = sum(len(batch) for batch in before.batches)
        batch: list[int] = []
        enough = False
        while not enough:
            batch.append(first + len(batch))
            growth = Growth(
                (*before.batches, tuple(batch)),
                directions,
                (*before.progress, 1.0),
                width,
            )
            enough = self._volume_um3(growth) > 1.1 * target
            if len(batch) > 400:
                raise ValueError(
                    f"the law asks for {target:.4g} µm³ of cracks after "
                    f"{half_cycles:g} half-cycles and the pellet has no room for them: "
                    "lower cracks.volume_growth_fraction"
                )
        return tuple(batch)

    def _volume_um3(self, growth: Growth) -> float:
        return self.crack_voxels(growth).volume_um3(self.lattice.pitch_um)

    def _reaches(self, growth: Growth) -> list[tuple[int, int, float]]:
        reaches = []
        for batch, direction, progress in zip(
            growth.batches, growth.directions, growth.progress, strict=True
        ):
            for index in batch:
                delay = self._pattern.sheet(index).delay
                part = max(0.0, progress - delay) / (1 - delay)
                reach = part * self._full_reach_um(index, direction)
                reaches.append((index, direction, reach))
        return reaches

    def _full_reach_um(self, index: int, direction: int) -> float:
        tables = self._sheet_tables(index, direction)
        return float(tables.arrival_um.max()) + self._taper_um

    def _width_um(self, half_cycles: float, directions: tuple[int, ...]) -> np.ndarray:
        """Return the most frequent width per row, breathing near the cathode."""
        wide = crack_width_um(self.settings, half_cycles)
        above_cathode = 1 - self.lattice.depth_um / self._thickness_um
        near = np.exp(-((above_cathode / 0.25) ** 2))
        swings = [0.0, *(-float(direction) for direction in directions)]
        part = min(1.0, half_cycles - (len(directions) - 1)) if directions else 0.0
        swing = swings[-1] * part
        if len(swings) > 1:
            swing += swings[-2] * (1 - part)
        inside = self.lattice.body_rows
        mean = float((near * inside).sum() / inside.sum())
        breath = 1 + self.settings.cracks.breathing * swing * (near - mean)
        return (wide * breath).astype(np.float32)

    def _lay(self, index: int) -> _LaidSheet:
        laid = self._laid.get(index)
        if laid is None:
            sheet = self._pattern.sheet(index)
            aside = max(
                float(np.abs(self._sheet_tables(index, side).offset_um).max())
                for side in (1, -1)
            )
            widest = 1.5 * self.settings.cracks.last_width_um
            band = aside + widest / 2 + self.lattice.pitch_um
            column, along, away = columns_near_trace(
                sheet.points_um, band, self.lattice.pitch_um, self.lattice.width
            )
            inside = self.lattice.body[column] > 0
            laid = _LaidSheet(sheet, column[inside], along[inside], away[inside])
            self._laid[index] = laid
        return laid

    def _sheet_tables(self, index: int, direction: int) -> SheetTables:
        key = (index, direction)
        tables = self._tables.get(key)
        if tables is None:
            depth = self.lattice.depth_um
            if direction < 0:
                depth = self._thickness_um - depth
            tables = sheet_tables(
                self._pattern.sheet(index),
                depth,
                self._thickness_um,
                self.settings.cracks.interface_narrowing,
            )
            self._tables[key] = tables
        return tables


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(root_scalar(function, bracket=(low, high), xtol=1e-5).root)
