"""How the pellet moves: it bends as a plate, and its fragments shift."""

from dataclasses import dataclass
from math import exp

import numpy as np
from scipy.ndimage import distance_transform_edt, label

from sim.cell import CellState
from sim.cell_settings import CellSettings
from sim.lattice import Lattice

_STREAM = 0xF4A6

# A wall of this part of a voxel separates fragments.
_WALL = 0.5
# Smaller pieces, in columns, do not move by themselves.
_SMALLEST = 40


def swing(state: CellState) -> float:
    """Return +1 after a charge, -1 after a discharge, and between them between."""
    ends = [0.0, *(float(direction) for direction in state.directions)]
    if len(ends) == 1:
        return 0.0
    part = min(1.0, state.half_cycles - (len(ends) - 2))
    return ends[-1] * part + ends[-2] * (1 - part)


@dataclass(frozen=True)
class Motion:
    """Displacement of each column of the pellet.

    A point at depth d moves by ``(x, y) - (d - middle) * slope`` sideways and by
    ``down`` along depth: cross-sections stay plane and normal to the bent middle.

    Attributes
    ----------
    x_um, y_um, down_um : numpy.ndarray
        (columns,) float32 displacement of the middle of the column.
    slope : numpy.ndarray
        (columns, 2) float32 slope of the bent middle along x and y.
    """

    x_um: np.ndarray
    y_um: np.ndarray
    down_um: np.ndarray
    slope: np.ndarray


def bending(settings: CellSettings, state: CellState, lattice: Lattice) -> Motion:
    """Return the smooth part of the motion: a shallow bowl, up and down in turn."""
    radius_um = 500 * settings.pellet_diameter_mm
    height_um = settings.pellet.bending_um * swing(state)
    x, y = lattice.columns_um(np.arange(lattice.width**2))
    down = height_um * ((x**2 + y**2) / radius_um**2 - 0.5)
    slope = 2 * height_um / radius_um**2 * np.column_stack([x, y])
    still = np.zeros(len(x), dtype=np.float32)
    return Motion(still, still, down.astype(np.float32), slope.astype(np.float32))


def with_fragments(
    motion: Motion,
    settings: CellSettings,
    state: CellState,
    lattice: Lattice,
    walls: np.ndarray,
) -> Motion:
    """Add the rigid motion of the fragments between cracks.

    Parameters
    ----------
    motion : Motion
        The smooth part.
    settings, state, lattice
        The cell, its state, the voxels.
    walls : numpy.ndarray
        (width * width,) part of each column that is crack, mid-pellet.
    """
    last = 2 * settings.cracks.last_label - 1
    most_um = settings.pellet.fragment_motion_um
    most_um *= (1 - exp(-3 * state.half_cycles / last)) / (1 - exp(-3))
    if most_um <= 0:
        return motion
    shape = (lattice.width, lattice.width)
    inside = (lattice.disc > 0).reshape(shape)
    pieces = np.zeros(shape, dtype=np.int32)
    label(inside & (walls.reshape(shape) < _WALL), output=pieces)
    count = int(pieces.max())
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    small = sizes < _SMALLEST
    pieces[small[pieces]] = 0
    if not pieces.any():
        return motion
    nearest = np.zeros((2, *shape), dtype=np.int32)
    distance_transform_edt(
        pieces == 0, return_distances=False, return_indices=True, indices=nearest
    )
    pieces = pieces[nearest[0], nearest[1]].ravel()

    x, y = lattice.columns_um(np.arange(lattice.width**2))
    sizes = np.bincount(pieces, minlength=count + 1)
    weight = np.maximum(sizes, 1)
    middle_x = np.bincount(pieces, x, minlength=count + 1) / weight
    middle_y = np.bincount(pieces, y, minlength=count + 1) / weight
    radius_um = 500 * settings.pellet_diameter_mm
    # A smooth field taken at each fragment's middle: what breaks off a fragment
    # moves much as the fragment did.
    shift = _smooth_vectors(middle_x, middle_y, radius_um, state.seed)
    shift -= (shift * sizes).sum(axis=1, keepdims=True) / sizes.sum()
    shift *= most_um
    rotation = shift[3] / radius_um
    down, right, ahead = shift[2][pieces], shift[0][pieces], shift[1][pieces]
    right = right - rotation[pieces] * (y - middle_y[pieces])
    ahead = ahead + rotation[pieces] * (x - middle_x[pieces])
    return Motion(
        x_um=(motion.x_um + right).astype(np.float32),
        y_um=(motion.y_um + ahead).astype(np.float32),
        down_um=(motion.down_um + 0.5 * down).astype(np.float32),
        slope=motion.slope,
    )


def scan_drift_um(drift_um: float, state: CellState) -> np.ndarray:
    """Return how far the whole cell has moved since the beginning: x, y, down."""
    rng = np.random.default_rng([state.seed, _STREAM, 1])
    pace = rng.uniform(0.05, 0.35, (3, 3))
    phase = rng.uniform(0, 2 * np.pi, (3, 3))
    swings = np.sin(pace * state.half_cycles + phase) - np.sin(phase)
    return drift_um * swings.sum(axis=0) / np.sqrt(3)


def _smooth_vectors(
    x_um: np.ndarray, y_um: np.ndarray, radius_um: float, seed: int
) -> np.ndarray:
    rng = np.random.default_rng([seed, _STREAM])
    total = np.zeros((4, len(x_um)))
    for _ in range(5):
        wave = rng.normal(0, 2.2 / radius_um, (4, 2))
        phase = rng.uniform(0, 2 * np.pi, 4)
        angle = wave[:, :1] * x_um + wave[:, 1:] * y_um + phase[:, None]
        total += np.sin(angle) / np.sqrt(2.5)
    return total
