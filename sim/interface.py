"""Where pellet and lithium meet: voids that open and close, shards that come off."""

from dataclasses import dataclass
from math import exp, pi

import numpy as np
from numba import njit

from sim.cell import CellState
from sim.cell_settings import CellSettings
from sim.displacement import swing
from sim.lattice import Lattice

_STREAM = 0x1F0D


@dataclass(frozen=True)
class Interfaces:
    """Gaps and shards of one state.

    Attributes
    ----------
    gap_um : numpy.ndarray
        (2, columns) float32 height of the void at the anode's face, and at the
        cathode's.
    shards : numpy.ndarray
        (n, 6) place x, y, depth and half-axes along x, y, depth of each shard, in µm.
    """

    gap_um: np.ndarray
    shards: np.ndarray

    def contact_fraction(self, lattice: Lattice) -> tuple[float, float]:
        """Return the part of each face that touches lithium: anode, cathode."""
        area = lattice.disc
        anode, cathode = (
            float((area * (gap <= 0)).sum() / area.sum()) for gap in self.gap_um
        )
        return anode, cathode


def interfaces(
    settings: CellSettings, state: CellState, lattice: Lattice
) -> Interfaces:
    """Return voids and shards of a state.

    Voids start one after the other, the first in the pristine cell; each grows to a
    size of its own and is larger after a charge than after the discharge that
    follows.
    """
    rng = np.random.default_rng([state.seed, _STREAM])
    laws = settings.interface
    thickness_um = 1e3 * settings.pellet_thickness_mm
    last = 2 * settings.cracks.last_label - 1
    breath = 1 + laws.void_swing * swing(state)
    gap = np.zeros((2, lattice.width**2), dtype=np.float32)
    shards = []
    for face in range(2):
        count = max(1, round(laws.voids_per_mm2 * 100 * settings.area_cm2))
        count = count if laws.voids_per_mm2 > 0 else 0
        places = _places(rng, count, settings)
        births = last * rng.uniform(0, 0.6, count) ** 1.5
        sizes = rng.lognormal(0, 0.35, count)
        squash = rng.uniform(0.6, 1.0, count)
        turns = rng.uniform(0, pi, count)
        if count:
            births[0] = -2.0
        for place, birth, size, ratio, turn in zip(
            places, births, sizes, squash, turns, strict=True
        ):
            age = max(0.0, (state.half_cycles - birth) / 2)
            grown = 1 - exp(-age / laws.void_cycles)
            if grown > 0:
                radius_um = laws.void_radius_um * size * grown * breath
                height_um = laws.void_height_um * size * np.sqrt(grown) * breath
                _open(gap[face], place, radius_um, ratio, turn, height_um, lattice)
        count = round(laws.shards_per_mm2 * 100 * settings.area_cm2)
        places = _places(rng, count, settings)
        births = rng.uniform(1, last, count)
        axes = laws.shard_um * rng.uniform(
            (0.6, 0.6, 0.25), (1.3, 1.3, 0.5), (count, 3)
        )
        lift_um = rng.uniform(1.0, 4.0, count)
        for place, birth, axis, lift in zip(places, births, axes, lift_um, strict=True):
            if state.half_cycles >= birth:
                away = axis[2] + lift
                depth = -away if face == 0 else thickness_um + away
                shards.append((*place, depth, *axis))
    return Interfaces(gap, np.array(shards, dtype=float).reshape(-1, 6))


def _places(rng: np.random.Generator, count: int, settings: CellSettings) -> np.ndarray:
    radius = 500 * settings.pellet_diameter_mm * np.sqrt(rng.uniform(0, 0.85, count))
    angle = rng.uniform(0, 2 * pi, count)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])


def _open(
    gap: np.ndarray,
    place: np.ndarray,
    radius_um: float,
    ratio: float,
    turn: float,
    height_um: float,
    lattice: Lattice,
) -> None:
    """Widen the gap to a lens round a place."""
    across = lattice.across_um
    near_x = np.flatnonzero(np.abs(across - place[0]) <= radius_um)
    near_y = np.flatnonzero(np.abs(across - place[1]) <= radius_um)
    x, y = np.meshgrid(across[near_x] - place[0], across[near_y] - place[1])
    along = x * np.cos(turn) + y * np.sin(turn)
    aside = (y * np.cos(turn) - x * np.sin(turn)) / ratio
    level = 1 - (along**2 + aside**2) / radius_um**2
    lens = (height_um * np.sqrt(level.clip(0))).astype(np.float32)
    column = near_y[:, None] * lattice.width + near_x
    gap[column] = np.maximum(gap[column], lens)


@njit(cache=True, nogil=True)
def draw_shards(
    solid: np.ndarray,
    shards: np.ndarray,
    depth: np.ndarray,
    pitch: float,
    width: int,
) -> None:
    """Put shards where there is no pellet.

    Parameters
    ----------
    solid : numpy.ndarray
        (columns, rows) float32 part of each voxel that is electrolyte, changed in
        place to the larger of old and new.
    shards : numpy.ndarray
        As in `Interfaces`.
    depth : numpy.ndarray
        (rows,) depth of the rows.
    pitch : float
        Edge of a voxel.
    width : int
        Columns per side of the lattice.
    """
    middle = width // 2
    for k in range(len(shards)):
        x, y, deep, a, b, c = shards[k]
        if deep + c + pitch < depth[0] or deep - c - pitch > depth[-1]:
            continue
        for iy in range(
            max(int((y - b) / pitch) + middle - 2, 0),
            min(int((y + b) / pitch) + middle + 3, width),
        ):
            for ix in range(
                max(int((x - a) / pitch) + middle - 2, 0),
                min(int((x + a) / pitch) + middle + 3, width),
            ):
                u = ((ix - middle) * pitch - x) / a
                v = ((iy - middle) * pitch - y) / b
                for z in range(len(depth)):
                    w = (depth[z] - deep) / c
                    level = np.sqrt(u * u + v * v + w * w)
                    if level > 2:
                        continue
                    slope = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
                    part = 1.0
                    if level > 1e-6:
                        part = (1 - level) * level / slope / pitch + 0.5
                    part = min(max(part, 0.0), 1.0)
                    column = iy * width + ix
                    if part > solid[column, z]:
                        solid[column, z] = part
