"""The cell at one state: its shape, and that shape on voxels."""

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from sim.cell import CellState, crack_volume_um3, lithium_in_cracks_um3
from sim.cell_settings import CellSettings
from sim.crack_drawing import CrackVoxels, Finger, Growth
from sim.displacement import Motion, bending, with_fragments
from sim.growth import CrackNetwork
from sim.interface import Interfaces, draw_shards, interfaces
from sim.lattice import Lattice
from sim.lithium import FoilThickness, foil_thickness_um
from sim.pellet import Surface, draw_body, grain_scale, surface
from sim.voxel_kernels import (
    add_by_rank,
    crack_sums,
    filled_sum,
    gap_parts,
    row_sums,
    take_from_intact,
)

WIDTH_EDGES_UM = np.arange(0, 12.05, 0.1)
"""Edges of the distribution of crack widths."""


# Rows of a large cell that are held at once; bins of their ranks in being filled.
_ROWS_AT_ONCE = 16
_LEAST_RANK_UM = -101.0
_RANK_STEP_UM = 0.05


class Material(IntEnum):
    """What a voxel of a label volume mostly is."""

    VOID = 0
    ELECTROLYTE = 1
    LITHIUM = 2
    CRACK = 3
    FILLED_CRACK = 4


@dataclass(frozen=True)
class CellShape:
    """The shape of the cell at one state, for any part of the lattice.

    Attributes
    ----------
    state : CellState
        The state.
    growth : Growth
        Its cracks.
    finger : Finger
        Lithium along the first crack.
    fill_um : float
        Level up to which cracks are filled with lithium.
    bent, motion : Motion
        Displacement of the pellet as a whole, which its cracks follow, and with that
        of its fragments, which its grains follow.
    surface : Surface
        Outline of the pellet.
    interfaces : Interfaces
        Voids and shards.
    foils : FoilThickness
        The lithium electrodes.
    """

    state: CellState
    growth: Growth
    finger: Finger
    fill_um: float
    bent: Motion
    motion: Motion
    surface: Surface
    interfaces: Interfaces
    foils: FoilThickness


@dataclass(frozen=True)
class CellVoxels:
    """The shape on the voxels of a lattice.

    Attributes
    ----------
    lattice : Lattice
        The voxels.
    cracks : CrackVoxels
        The cracks, cut by the pellet's outline.
    filled : numpy.ndarray
        (n, rows) float32 part of each voxel that is crack filled with lithium.
    body : numpy.ndarray
        (width * width, rows) float32 part of each voxel within the pellet.
    shards : numpy.ndarray or None
        (width * width, rows) float32 part that is shard; None where there are none.
    """

    lattice: Lattice
    cracks: CrackVoxels
    filled: np.ndarray
    body: np.ndarray
    shards: np.ndarray | None

    def crack_volume_um3(self) -> float:
        """Return the volume of the cracks."""
        return _volume_um3(self.cracks.cover, self.lattice)

    def totals(self) -> "Totals":
        """Return the sums over these voxels."""
        lattice = self.lattice
        area, widths = crack_sums(
            self.cracks.cover, self.cracks.wide_um, lattice.rows_each, WIDTH_EDGES_UM
        )
        return Totals(
            crack_volume_um3=self.crack_volume_um3(),
            crack_area_um2=float(area @ lattice.rows_each) * lattice.pitch_um**3,
            width_volume_um3=widths * lattice.pitch_um**3,
            filled_volume_um3=_volume_um3(self.filled, lattice),
            body_volume_um3=_volume_um3(self.body, lattice),
        )


@dataclass(frozen=True)
class Totals:
    """Sums over voxels.

    Attributes
    ----------
    crack_volume_um3, crack_area_um2 : float
        Volume of the cracks, and area of their middle surfaces.
    width_volume_um3 : numpy.ndarray
        Crack volume by local width, between the edges `WIDTH_EDGES_UM`.
    filled_volume_um3 : float
        Lithium in the cracks.
    body_volume_um3 : float
        The pellet, cracks included.
    """

    crack_volume_um3: float = 0.0
    crack_area_um2: float = 0.0
    width_volume_um3: np.ndarray = field(
        default_factory=lambda: np.zeros(len(WIDTH_EDGES_UM) - 1)
    )
    filled_volume_um3: float = 0.0
    body_volume_um3: float = 0.0

    def __add__(self, other: "Totals") -> "Totals":
        """Return the sums over both."""
        return Totals(
            self.crack_volume_um3 + other.crack_volume_um3,
            self.crack_area_um2 + other.crack_area_um2,
            self.width_volume_um3 + other.width_volume_um3,
            self.filled_volume_um3 + other.filled_volume_um3,
            self.body_volume_um3 + other.body_volume_um3,
        )


class CellShaper:
    """Finds the shape of a cell at a state and lays it on voxels.

    Parameters
    ----------
    settings : CellSettings
        Geometry, materials, laws.
    seed : int
        Seed of the cell.
    lattice : Lattice
        Voxels of the whole pellet.
    """

    def __init__(self, settings: CellSettings, seed: int, lattice: Lattice) -> None:
        self.settings = settings
        self.lattice = lattice
        self.network = CrackNetwork(settings, seed, lattice)
        self._thickness_um = 1e3 * settings.pellet_thickness_mm

    def shape(self, state: CellState) -> CellShape:
        """Return the shape at a state."""
        settings, sample = self.settings, self.network.sample
        growth = self.network.growth(state)
        # The same object for all rows: what follows from it is worked out once.
        bent = bending(settings, state, self.lattice)
        shape = CellShape(
            state=state,
            growth=growth,
            finger=Finger(0.0, 0.0),
            fill_um=0.0,
            bent=bent,
            motion=bent,
            surface=surface(settings, state, self.lattice),
            interfaces=interfaces(settings, state, self.lattice),
            foils=foil_thickness_um(settings, state),
        )
        if not growth.batches:
            return shape
        middle = len(sample.depth_um) // 2
        cracks = self.network.drawing.lay(growth, sample, bent)
        walls = np.zeros(self.lattice.width**2, dtype=np.float32)
        walls[cracks.columns] = cracks.cover[:, middle]
        moved = with_fragments(bent, settings, state, self.lattice, walls)
        shape = replace(shape, motion=moved)
        shape = replace(shape, growth=self._by_law(shape))
        finger = self._finger(state, shape.growth)
        shape = replace(shape, finger=finger)
        return replace(shape, fill_um=self._fill_level_um(shape))

    def voxels(self, shape: CellShape, lattice: Lattice) -> CellVoxels:
        """Lay a shape on the lattice, or on some rows of it."""
        body = draw_body(lattice, shape.surface, shape.motion, self._thickness_um)
        cracks = self._cracks(shape, lattice)
        part = _filled_part(cracks.rank_um, shape.fill_um, lattice.pitch_um)
        filled = cracks.cover * part
        shards = None
        _, _, deep_um, _, _, half_um = shape.interfaces.shards.T
        first_um, last_um = lattice.depth_um[[0, -1]]
        room_um = half_um + lattice.pitch_um
        if np.any((deep_um + room_um >= first_um) & (deep_um - room_um <= last_um)):
            shards = np.zeros_like(body)
            draw_shards(
                shards,
                shape.interfaces.shards,
                lattice.depth_um,
                lattice.pitch_um,
                lattice.width,
            )
            shards *= 1 - body
        return CellVoxels(lattice, cracks, filled, body, shards)

    def _cracks(self, shape: CellShape, lattice: Lattice) -> CrackVoxels:
        """Lay the cracks on a lattice, cut by the pellet's outline."""
        cracks = self.network.drawing.lay(
            shape.growth, lattice, shape.bent, shape.finger
        )
        body = draw_body(
            lattice, shape.surface, shape.motion, self._thickness_um, cracks.columns
        )
        return replace(cracks, cover=cracks.cover * body)

    def missing(
        self, shape: CellShape, voxels: CellVoxels, lithium: float
    ) -> np.ndarray:
        """Return what an intact cell has more in each voxel.

        The intact cell is a cylinder of electrolyte between two of lithium.

        Parameters
        ----------
        shape, voxels
            The cell.
        lithium : float
            What lithium counts, relative to electrolyte.

        Returns
        -------
        numpy.ndarray
            (rows, width * width) float32 electrolyte, as a part of the voxel.
        """
        settings, lattice = self.settings, voxels.lattice
        motion, pellet = shape.motion, settings.pellet
        columns, shards = voxels.cracks.columns, voxels.shards
        missing = np.empty((lattice.num_rows, lattice.width**2), dtype=np.float32)
        slot = np.full(lattice.width**2, -1, dtype=np.int32)
        slot[columns] = np.arange(len(columns))
        take_from_intact(
            missing,
            slot,
            voxels.body,
            voxels.cracks.cover,
            voxels.filled,
            np.empty((0, 0), np.float32) if shards is None else shards,
            shape.interfaces.gap_um,
            shape.surface.top_um + motion.down_um,
            shape.surface.bottom_um + motion.down_um,
            lattice.disc,
            lattice.disc_rows,
            lattice.depth_um,
            lattice.pitch_um,
            lattice.width,
            -shape.foils.anode_um,
            self._thickness_um + shape.foils.cathode_um,
            lithium,
            motion.x_um,
            motion.y_um,
            motion.down_um,
            motion.slope,
            500 * settings.pellet_thickness_mm,
            pellet.grain_um,
            grain_scale(pellet),
            shape.state.seed,
        )
        return missing

    def _by_law(self, shape: CellShape) -> Growth:
        """Return the growth whose volume in the real outline is that of the law.

        The search takes place in a flat pellet without chips; the few thousandths
        between them are made up by the width.
        """
        state = shape.state
        if state.half_cycles < 1:
            return shape.growth
        target = crack_volume_um3(self.settings, state.half_cycles)
        cracks = self._cracks(shape, self.network.precise)
        volume_um3 = _volume_um3(cracks.cover, self.network.precise)
        return shape.growth.widened(target / volume_um3)

    def _finger(self, state: CellState, growth: Growth) -> Finger:
        """Return how far lithium stands along the first crack."""
        settings, short = self.settings, self.settings.short
        thickness_um = self._thickness_um
        reach_um = self.network.first_reach_um(growth)
        if state.shorted or (short.kind == "hard" and state.path_complete):
            depth_um = 1.2 * thickness_um
        else:
            end = 2 * settings.cracks.last_label - 1
            if short.kind != "none":
                end = short.half_cycle - 1 + short.fraction
            along = min(1.0, state.half_cycles / max(end, 1e-9))
            depth_um = min(0.95 * thickness_um * along**0.7, 0.9 * reach_um)
        # It takes no more than half of the lithium there is.
        lithium_um3 = lithium_in_cracks_um3(settings, state)
        area_um2 = 0.5 * lithium_um3 / max(growth.width_um, 1e-9)
        half_um = min(8.0, area_um2 / max(2 * 0.7 * depth_um, 1e-9))
        return Finger(depth_um, half_um)

    def _fill_level_um(self, shape: CellShape) -> float:
        """Return the level at which the cracks hold the lithium there is."""
        if self.network.precise.row_step > 1:
            return self._fill_level_of_all_rows_um(shape)
        lattice = self.network.precise
        cracks = self._cracks(shape, lattice)
        lithium_um3 = lithium_in_cracks_um3(self.settings, shape.state)
        pitch = lattice.pitch_um
        wanted = lithium_um3 / pitch**3
        cover = cracks.cover * lattice.rows_each.astype(np.float32)
        rank = cracks.rank_um
        low, high = -2 * pitch, 2 * float(rank.max(initial=1.0))
        if filled_sum(cover, rank, high, pitch) <= wanted:
            return high
        for _ in range(40):
            level = (low + high) / 2
            if filled_sum(cover, rank, level, pitch) < wanted:
                low = level
            else:
                high = level
        return (low + high) / 2

    def _fill_level_of_all_rows_um(self, shape: CellShape) -> float:
        """Return that level of a cell too large to be held at once.

        Lithium stands near the faces, between the rows of any sample.
        """
        pitch = self.lattice.pitch_um
        volumes = np.zeros(1)
        for start in range(0, self.lattice.num_rows, _ROWS_AT_ONCE):
            block = self.lattice.rows(start, start + _ROWS_AT_ONCE)
            cracks = self._cracks(shape, block)
            last_um = float(cracks.rank_um.max(initial=0.0))
            bins = int((last_um - _LEAST_RANK_UM) / _RANK_STEP_UM) + 1
            volumes = np.pad(volumes, (0, max(0, bins - len(volumes))))
            add_by_rank(
                volumes, cracks.cover, cracks.rank_um, _LEAST_RANK_UM, _RANK_STEP_UM
            )
        rank = _LEAST_RANK_UM + _RANK_STEP_UM * (np.arange(len(volumes)) + 0.5)
        wanted = lithium_in_cracks_um3(self.settings, shape.state) / pitch**3
        low, high = -2 * pitch, 2 * float(rank[-1])
        for _ in range(40):
            level = (low + high) / 2
            part = ((level - rank) / pitch + 0.5).clip(0, 1)
            if float(volumes @ part) < wanted:
                low = level
            else:
                high = level
        return (low + high) / 2


def label_volume(shape: CellShape, voxels: CellVoxels) -> np.ndarray:
    """Return what each voxel mostly is.

    Returns
    -------
    numpy.ndarray
        (rows, width, width) uint8, values of `Material`: axes z, y, x.
    """
    lattice = voxels.lattice
    cover = np.zeros_like(voxels.body)
    cover[voxels.cracks.columns] = voxels.cracks.cover
    filled = np.zeros_like(voxels.body)
    filled[voxels.cracks.columns] = voxels.filled
    labels = np.full(voxels.body.shape, Material.VOID, dtype=np.uint8)
    top_um = shape.surface.top_um + shape.motion.down_um
    bottom_um = shape.surface.bottom_um + shape.motion.down_um
    gap = gap_parts(
        shape.interfaces.gap_um, top_um, bottom_um, lattice.depth_um, lattice.pitch_um
    )
    outside = lattice.depth_um < top_um[:, None]
    outside |= lattice.depth_um > bottom_um[:, None]
    foil = outside & (lattice.disc > 0.5)[:, None] & (gap < 0.5)
    labels[foil] = Material.LITHIUM
    solid = voxels.body if voxels.shards is None else voxels.body + voxels.shards
    labels[solid > 0.5] = Material.ELECTROLYTE
    crack = cover > 0.5 * voxels.body
    labels[crack & (voxels.body > 0.5)] = Material.CRACK
    labels[crack & (voxels.body > 0.5) & (filled > 0.5 * cover)] = Material.FILLED_CRACK
    return np.ascontiguousarray(
        labels.reshape(lattice.width, lattice.width, -1).transpose(2, 0, 1)
    )


def _volume_um3(parts: np.ndarray, lattice: Lattice) -> float:
    """Return the volume of (columns, rows) parts of voxels."""
    return float(row_sums(parts) @ lattice.rows_each) * lattice.pitch_um**3


def _filled_part(rank_um: np.ndarray, level_um: float, pitch_um: float) -> np.ndarray:
    part = (np.float32(level_um) - rank_um) / np.float32(pitch_um) + np.float32(0.5)
    return np.clip(part, 0, 1)
