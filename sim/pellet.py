"""The pellet's body: its rough faces, chipped rim and grains."""

from dataclasses import dataclass
from math import exp

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from sim.cell import CellState
from sim.cell_settings import CellSettings, PelletSettings
from sim.displacement import Motion
from sim.lattice import Lattice

_STREAM = 0x9E11
_SECTORS = 1440
# Standard deviation of the noise below before it is scaled.
_GRAIN_SPREAD = 0.371


@dataclass(frozen=True)
class Surface:
    """The outline of the pellet before it moves.

    Attributes
    ----------
    top_um, bottom_um : numpy.ndarray
        (columns,) float32 depth of the two faces.
    rim_um : numpy.ndarray
        (sectors, rows) float32 radius of the rim by direction and depth.
    rim_depth_um : tuple[float, float]
        Depth of the rim's first row, and step of its rows.
    """

    top_um: np.ndarray
    bottom_um: np.ndarray
    rim_um: np.ndarray
    rim_depth_um: tuple[float, float]


def surface(settings: CellSettings, state: CellState, lattice: Lattice) -> Surface:
    """Return the outline; the faces roughen as the cell is cycled."""
    pellet = settings.pellet
    rng = np.random.default_rng([state.seed, _STREAM])
    thickness_um = 1e3 * settings.pellet_thickness_mm
    growth = 1 + 1.5 * (1 - exp(-state.half_cycles / 10))
    faces = []
    for _ in range(2):
        height = rng.standard_normal((lattice.width, lattice.width))
        length = pellet.roughness_length_um / lattice.pitch_um / 2.5
        height = gaussian_filter(height, length)
        height *= pellet.roughness_um * growth / max(float(height.std()), 1e-12)
        faces.append(height.ravel())
    return Surface(
        top_um=faces[0].astype(np.float32),
        bottom_um=(thickness_um + faces[1]).astype(np.float32),
        rim_um=_rim(settings, rng, lattice),
        rim_depth_um=(
            float(lattice.depth_um[0]),
            lattice.pitch_um * lattice.row_step,
        ),
    )


def _rim(
    settings: CellSettings, rng: np.random.Generator, lattice: Lattice
) -> np.ndarray:
    pellet = settings.pellet
    thickness_um = 1e3 * settings.pellet_thickness_mm
    radius_um = 500 * settings.pellet_diameter_mm
    round_um = 2 * np.pi * radius_um
    sector = np.arange(_SECTORS) * round_um / _SECTORS
    rim = np.full((_SECTORS, lattice.num_rows), radius_um)
    chips = rng.poisson(2 * pellet.chips_per_mm * round_um / 1000)
    for _ in range(chips):
        place_um = rng.uniform(0, round_um)
        away = np.abs(sector - place_um)
        away = np.minimum(away, round_um - away)
        wide_um = pellet.chip_um * rng.uniform(1.0, 3.0)
        tall_um = min(pellet.chip_um * rng.uniform(0.7, 2.0), thickness_um / 3)
        depth = lattice.depth_um
        if rng.random() < 0.5:
            depth = thickness_um - depth
        deep_um = pellet.chip_um * rng.uniform(0.4, 1.3)
        shape = np.outer(1 - (away / wide_um) ** 2, 1 - depth.clip(0) / tall_um)
        rim -= deep_um * np.where((away < wide_um)[:, None], shape.clip(0), 0)
    return rim.clip(0).astype(np.float32)


def draw_body(
    lattice: Lattice,
    outline: Surface,
    motion: Motion,
    thickness_um: float,
    columns: np.ndarray | None = None,
) -> np.ndarray:
    """Return the part of each voxel within the pellet, cracks included.

    Parameters
    ----------
    lattice, outline, motion, thickness_um
        The pellet, and the rows.
    columns : numpy.ndarray, optional
        (n,) int64 numbers of the columns; all where not given.

    Returns
    -------
    numpy.ndarray
        (n, rows) float32.
    """
    if columns is None:
        columns = np.arange(lattice.width**2)
    body = np.zeros((len(columns), lattice.num_rows), dtype=np.float32)
    _draw_body(
        body,
        columns,
        lattice.width,
        lattice.depth_um,
        lattice.pitch_um,
        outline.top_um,
        outline.bottom_um,
        outline.rim_um,
        *outline.rim_depth_um,
        motion.x_um,
        motion.y_um,
        motion.down_um,
        motion.slope,
        thickness_um / 2,
    )
    return body


@njit(cache=True, nogil=True)
def _draw_body(
    body: np.ndarray,
    columns: np.ndarray,
    width: int,
    depth: np.ndarray,
    pitch: float,
    top: np.ndarray,
    bottom: np.ndarray,
    rim: np.ndarray,
    rim_first: float,
    rim_step: float,
    move_x: np.ndarray,
    move_y: np.ndarray,
    down: np.ndarray,
    slope: np.ndarray,
    middle: float,
) -> None:
    sectors, rows = rim.shape
    largest = rim.max()
    smallest = rim.min()
    for n in range(len(columns)):
        k = columns[n]
        x = (k % width - width // 2) * pitch
        y = (k // width - width // 2) * pitch
        near = np.sqrt(x * x + y * y)
        if near > largest + 4 * pitch + 3:
            continue
        on_rim = near > smallest - 4 * pitch - 3
        for z in range(len(depth)):
            d = depth[z] - down[k]
            high = min(d + pitch / 2, bottom[k])
            low = max(d - pitch / 2, top[k])
            part = (high - low) / pitch
            if part <= 0:
                continue
            if on_rim:
                across_x = x - move_x[k] + (d - middle) * slope[k, 0]
                across_y = y - move_y[k] + (d - middle) * slope[k, 1]
                distance = np.sqrt(across_x**2 + across_y**2)
                turn = np.arctan2(across_y, across_x) / (2 * np.pi)
                sector = int(np.floor(turn * sectors)) % sectors
                row = min(max(int(round((d - rim_first) / rim_step)), 0), rows - 1)
                inside = (rim[sector, row] - distance) / pitch + 0.5
                part *= min(max(inside, 0.0), 1.0)
            body[n, z] = part


@njit(cache=True, nogil=True)
def _speck(ix: int, iy: int, iz: int, seed: int) -> float:
    """Return a number between -1 and 1 that belongs to a grain."""
    h = np.uint64(ix) * np.uint64(0x9E3779B97F4A7C15)
    h ^= np.uint64(iy) * np.uint64(0xC2B2AE3D27D4EB4F)
    h ^= np.uint64(iz) * np.uint64(0x165667B19E3779F9)
    h ^= np.uint64(seed) * np.uint64(0xD6E8FEB86659FD93)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    h = (h ^ (h >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    h ^= h >> np.uint64(32)
    return (h >> np.uint64(11)) * 2.220446049250313e-16 - 1.0


def grain_scale(pellet: PelletSettings) -> float:
    """Return what a speck counts for the asked contrast."""
    return pellet.grain_contrast / _GRAIN_SPREAD


def grain_factors(
    settings: CellSettings,
    lattice: Lattice,
    motion: Motion,
    columns: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Return the density of each voxel relative to the mean, moving with the pellet.

    Returns
    -------
    numpy.ndarray
        (n, rows) float32, mean 1.
    """
    factors = np.ones((len(columns), lattice.num_rows), dtype=np.float32)
    pellet = settings.pellet
    if pellet.grain_contrast > 0:
        x, y = lattice.columns_um(columns)
        _grain(
            factors,
            x - motion.x_um[columns],
            y - motion.y_um[columns],
            lattice.depth_um,
            motion.down_um[columns],
            motion.slope[columns],
            500 * settings.pellet_thickness_mm,
            pellet.grain_um,
            grain_scale(pellet),
            seed,
        )
    return factors


@njit(cache=True, nogil=True)
def _grain(
    factors: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    depth: np.ndarray,
    down: np.ndarray,
    slope: np.ndarray,
    middle: float,
    grain: float,
    scale: float,
    seed: int,
) -> None:
    for k in range(len(x)):
        grains_of_column(
            factors[k], x[k], y[k], depth, down[k], slope[k], middle, grain, scale, seed
        )


@njit(cache=True, nogil=True)
def grains_of_column(
    factors: np.ndarray,
    x: float,
    y: float,
    depth: np.ndarray,
    down: float,
    slope: np.ndarray,
    middle: float,
    grain: float,
    scale: float,
    seed: int,
) -> None:
    """Fill in the density of one column's voxels relative to the mean.

    Parameters
    ----------
    factors : numpy.ndarray
        (rows,) float32, changed in place.
    x, y, down : float
        Place of the column, less its motion aside, and its motion down.
    depth : numpy.ndarray
        (rows,) depth of the rows.
    slope : numpy.ndarray
        (2,) slope of the bent pellet there.
    middle : float
        Depth of the pellet's middle.
    grain : float
        Size of a grain.
    scale : float
        What a speck counts.
    seed : int
        Seed of the cell.
    """
    inverse = 1 / grain
    last_x, last_y, last_z = -(1 << 40), 0, 0
    v000 = v001 = v010 = v011 = v100 = v101 = v110 = v111 = 0.0
    for z in range(len(depth)):
        d = depth[z] - down
        gx = (x + (d - middle) * slope[0]) * inverse
        gy = (y + (d - middle) * slope[1]) * inverse
        gz = d * inverse
        ix, iy, iz = int(np.floor(gx)), int(np.floor(gy)), int(np.floor(gz))
        if ix != last_x or iy != last_y or iz != last_z:
            if ix == last_x and iy == last_y and iz == last_z + 1:
                v000, v010, v100, v110 = v001, v011, v101, v111
            else:
                v000 = _speck(ix, iy, iz, seed)
                v010 = _speck(ix, iy + 1, iz, seed)
                v100 = _speck(ix + 1, iy, iz, seed)
                v110 = _speck(ix + 1, iy + 1, iz, seed)
            v001 = _speck(ix, iy, iz + 1, seed)
            v011 = _speck(ix, iy + 1, iz + 1, seed)
            v101 = _speck(ix + 1, iy, iz + 1, seed)
            v111 = _speck(ix + 1, iy + 1, iz + 1, seed)
            last_x, last_y, last_z = ix, iy, iz
        u, v, w = gx - ix, gy - iy, gz - iz
        u = u * u * (3 - 2 * u)
        v = v * v * (3 - 2 * v)
        w = w * w * (3 - 2 * w)
        v00 = v000 + u * (v100 - v000)
        v01 = v001 + u * (v101 - v001)
        v10 = v010 + u * (v110 - v010)
        v11 = v011 + u * (v111 - v011)
        near = v00 + v * (v10 - v00)
        far = v01 + v * (v11 - v01)
        factors[z] = 1 + scale * (near + w * (far - near))
