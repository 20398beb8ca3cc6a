"""The cell at one state: its shape, and that shape on voxels."""

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numba import njit

from sim.cell import CellState, crack_volume_um3, lithium_in_cracks_um3
from sim.cell_settings import CellSettings
from sim.crack_drawing import CrackVoxels, Finger, Growth
from sim.displacement import Motion, bending, with_fragments
from sim.growth import CrackNetwork
from sim.interface import Interfaces, draw_shards, interfaces
from sim.lattice import Lattice
from sim.lithium import FoilThickness, foil_thickness_um
from sim.pellet import Surface, draw_body, grain_factors, surface

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
    motion : Motion
        Displacement of the pellet.
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
        return self._sum_um3(self.cracks.cover)

    def totals(self) -> "Totals":
        """Return the sums over these voxels."""
        cover, wide = self.cracks.cover, self.cracks.wide_um
        area = np.divide(cover, wide, out=np.zeros_like(cover), where=cover > 0)
        covered = cover > 0
        each = np.broadcast_to(self.lattice.rows_each, cover.shape)
        widths, _ = np.histogram(
            wide[covered].clip(0, WIDTH_EDGES_UM[-1]),
            bins=WIDTH_EDGES_UM,
            weights=cover[covered] * each[covered],
        )
        return Totals(
            crack_volume_um3=self.crack_volume_um3(),
            crack_area_um2=self._sum_um3(area),
            width_volume_um3=widths * self.lattice.pitch_um**3,
            filled_volume_um3=self._sum_um3(self.filled),
            body_volume_um3=self._sum_um3(self.body),
        )

    def _sum_um3(self, parts: np.ndarray) -> float:
        """Return the volume of (columns, rows) parts of voxels."""
        rows = parts.sum(axis=0, dtype=np.float64)
        return float(rows @ self.lattice.rows_each) * self.lattice.pitch_um**3


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

    def shape(self, state: CellState) -> CellShape:
        """Return the shape at a state."""
        settings, sample = self.settings, self.network.sample
        growth = self.network.growth(state)
        motion = bending(settings, state, self.lattice)
        shape = CellShape(
            state=state,
            growth=growth,
            finger=Finger(0.0, 0.0),
            fill_um=0.0,
            motion=motion,
            surface=surface(settings, state, self.lattice),
            interfaces=interfaces(settings, state, self.lattice),
            foils=foil_thickness_um(settings, state),
        )
        if not growth.batches:
            return shape
        middle = len(sample.depth_um) // 2
        cracks = self.network.drawing.lay(growth, sample, motion)
        walls = np.zeros(self.lattice.width**2, dtype=np.float32)
        walls[cracks.columns] = cracks.cover[:, middle]
        moved = with_fragments(motion, settings, state, self.lattice, walls)
        shape = replace(shape, motion=moved)
        shape = replace(shape, growth=self._by_law(shape))
        finger = self._finger(state, shape.growth)
        shape = replace(shape, finger=finger)
        return replace(shape, fill_um=self._fill_level_um(shape))

    def voxels(self, shape: CellShape, lattice: Lattice) -> CellVoxels:
        """Lay a shape on the lattice, or on some rows of it."""
        thickness_um = 1e3 * self.settings.pellet_thickness_mm
        body = draw_body(lattice, shape.surface, shape.motion, thickness_um)
        # The cracks bend with the pellet as a whole; a fragment's own motion is that
        # of its grains.
        bent = bending(self.settings, shape.state, self.lattice)
        cracks = self.network.drawing.lay(shape.growth, lattice, bent, shape.finger)
        cover = cracks.cover * body[cracks.columns]
        filled = cover * _filled_part(cracks.rank_um, shape.fill_um, lattice.pitch_um)
        shards = None
        if len(shape.interfaces.shards):
            shards = np.zeros_like(body)
            draw_shards(
                shards,
                shape.interfaces.shards,
                lattice.depth_um,
                lattice.pitch_um,
                lattice.width,
            )
            shards *= 1 - body
        return CellVoxels(lattice, replace(cracks, cover=cover), filled, body, shards)

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
            (width * width, rows) float32 electrolyte, as a part of the voxel.
        """
        settings, lattice = self.settings, voxels.lattice
        columns = np.arange(lattice.width**2)
        missing = grain_factors(
            settings, lattice, shape.motion, columns, shape.state.seed
        )
        slot = np.full(len(columns), -1, dtype=np.int64)
        slot[voxels.cracks.columns] = np.arange(len(voxels.cracks.columns))
        thickness_um = 1e3 * settings.pellet_thickness_mm
        shards = voxels.shards
        _subtract(
            missing,
            slot,
            voxels.body,
            voxels.cracks.cover,
            voxels.filled,
            np.empty((0, 0), np.float32) if shards is None else shards,
            shape.interfaces.gap_um,
            shape.surface.top_um + shape.motion.down_um,
            shape.surface.bottom_um + shape.motion.down_um,
            lattice.disc,
            lattice.disc_rows,
            lattice.depth_um,
            lattice.pitch_um,
            -shape.foils.anode_um,
            thickness_um + shape.foils.cathode_um,
            lithium,
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
        voxels = self.voxels(shape, self.network.precise)
        return shape.growth.widened(target / voxels.crack_volume_um3())

    def _finger(self, state: CellState, growth: Growth) -> Finger:
        """Return how far lithium stands along the first crack."""
        settings, short = self.settings, self.settings.short
        thickness_um = 1e3 * settings.pellet_thickness_mm
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
        voxels = self.voxels(shape, self.network.precise)
        lithium_um3 = lithium_in_cracks_um3(self.settings, shape.state)
        pitch = voxels.lattice.pitch_um
        wanted = lithium_um3 / pitch**3
        cover = voxels.cracks.cover * voxels.lattice.rows_each.astype(np.float32)
        rank = voxels.cracks.rank_um
        low, high = -2 * pitch, 2 * float(rank.max(initial=1.0))
        if _filled_sum(cover, rank, high, pitch) <= wanted:
            return high
        for _ in range(40):
            level = (low + high) / 2
            if _filled_sum(cover, rank, level, pitch) < wanted:
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
            cracks = self.voxels(shape, block).cracks
            bins = np.floor((cracks.rank_um - _LEAST_RANK_UM) / _RANK_STEP_UM)
            bins = bins.clip(0).astype(np.int64).ravel()
            found = np.bincount(bins, cracks.cover.ravel())
            longest = max(len(volumes), len(found))
            volumes = np.pad(volumes, (0, longest - len(volumes)))
            volumes += np.pad(found, (0, longest - len(found)))
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
    gap = _gap_parts(
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


def _filled_part(rank_um: np.ndarray, level_um: float, pitch_um: float) -> np.ndarray:
    part = (np.float32(level_um) - rank_um) / np.float32(pitch_um) + np.float32(0.5)
    return np.clip(part, 0, 1)


@njit(cache=True, nogil=True)
def _filled_sum(
    cover: np.ndarray, rank_um: np.ndarray, level_um: float, pitch_um: float
) -> float:
    total = 0.0
    for k in range(cover.shape[0]):
        for z in range(cover.shape[1]):
            part = (level_um - rank_um[k, z]) / pitch_um + 0.5
            total += cover[k, z] * min(max(part, 0.0), 1.0)
    return total


@njit(cache=True, nogil=True)
def _gap_parts(
    gap_um: np.ndarray,
    top_um: np.ndarray,
    bottom_um: np.ndarray,
    depth_um: np.ndarray,
    pitch_um: float,
) -> np.ndarray:
    """Return the part of each voxel that is void at an interface."""
    parts = np.zeros((len(top_um), len(depth_um)), np.float32)
    half = pitch_um / 2
    for k in range(len(top_um)):
        for z in range(len(depth_um)):
            d = depth_um[z]
            above = min(d + half, top_um[k]) - max(d - half, top_um[k] - gap_um[0, k])
            low = max(d - half, bottom_um[k])
            below = min(d + half, bottom_um[k] + gap_um[1, k]) - low
            parts[k, z] = (max(above, 0.0) + max(below, 0.0)) / pitch_um
    return parts


@njit(cache=True, nogil=True)
def _subtract(
    missing: np.ndarray,
    slot: np.ndarray,
    body: np.ndarray,
    cover: np.ndarray,
    filled: np.ndarray,
    shards: np.ndarray,
    gap_um: np.ndarray,
    top_um: np.ndarray,
    bottom_um: np.ndarray,
    disc: np.ndarray,
    disc_rows: np.ndarray,
    depth_um: np.ndarray,
    pitch_um: float,
    first_um: float,
    last_um: float,
    lithium: float,
) -> None:
    """Turn grain factors into what is missing, in place."""
    half = pitch_um / 2
    for k in range(missing.shape[0]):
        for z in range(missing.shape[1]):
            solid = body[k, z]
            in_crack = 0.0
            if slot[k] >= 0:
                solid -= cover[slot[k], z]
                in_crack = filled[slot[k], z]
            intact = disc[k] * disc_rows[z]
            present = solid * missing[k, z]
            if disc[k] > 0:
                d = depth_um[z]
                low, high = d - half, d + half
                above = min(high, top_um[k] - gap_um[0, k]) - max(low, first_um)
                below = min(high, last_um) - max(low, bottom_um[k] + gap_um[1, k])
                foil = (max(above, 0.0) + max(below, 0.0)) / pitch_um
                shard = 0.0
                if shards.shape[0] > 0:
                    shard = shards[k, z]
                    present += shard
                in_foil = max(disc[k] * foil - shard, 0.0)
                whole = (min(high, last_um) - max(low, first_um)) / pitch_um
                intact += lithium * disc[k] * (max(whole, 0.0) - disc_rows[z])
                present += lithium * (in_foil + in_crack)
            missing[k, z] = intact - present
