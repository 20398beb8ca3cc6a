"""The motion of the pellet: rigid fragments, and the truth of where matter is."""

from itertools import product

import h5py
import numpy as np
import pytest
from scipy.ndimage import map_coordinates, spline_filter

from sim.camera_settings import CameraSettings
from sim.cell import CellState
from sim.cell_settings import CellSettings, InterfaceSettings, PelletSettings
from sim.displacement import bending, with_fragments
from sim.lattice import Lattice
from sim.pellet import grain_factors
from sim.projector import Projector
from sim.truth import TruthFile

AFTER = CellState(
    seed=7, half_cycles=5.0, directions=(1, -1, 1, -1, 1), gross_charge_c=5e-5
)


def quadrants(lattice):
    """Return the walls of a cross of cracks, and which quadrant each column is in."""
    half = lattice.width // 2
    across = np.arange(-half, half + 1)
    y, x = np.meshgrid(across, across, indexing="ij")
    walls = (np.abs(x) < 2) | (np.abs(y) < 2)
    part = np.where(walls | (lattice.disc.reshape(x.shape) == 0), 0, 1)
    part *= 1 + (x > 0) + 2 * (y > 0)
    return walls.ravel().astype(np.float32), part.ravel()


def moved(settings, state, lattice):
    walls, part = quadrants(lattice)
    still = bending(settings, CellState(seed=state.seed), lattice)
    return with_fragments(still, settings, state, lattice, walls), part


def test_fragments_move_as_rigid_bodies_and_not_alike():
    settings = CellSettings(pellet_diameter_mm=0.2, pellet_thickness_mm=0.06)
    lattice = Lattice.around(settings, 1.2, pellet_row=40.0)
    motion, part = moved(settings, AFTER, lattice)
    x, y = lattice.columns_um(np.arange(lattice.width**2))
    shifts = []
    for number in range(1, 5):
        inside = part == number
        basis = np.column_stack([np.ones(inside.sum()), x[inside], y[inside]])
        right, *_ = np.linalg.lstsq(basis, motion.x_um[inside], rcond=None)
        ahead, *_ = np.linalg.lstsq(basis, motion.y_um[inside], rcond=None)
        # A shift and a turn, no strain, no shear; float32 of some 0.1 um.
        assert basis @ right == pytest.approx(motion.x_um[inside], abs=1e-6)
        assert basis @ ahead == pytest.approx(motion.y_um[inside], abs=1e-6)
        assert right[1] == pytest.approx(0, abs=1e-7)
        assert ahead[2] == pytest.approx(0, abs=1e-7)
        assert right[2] == pytest.approx(-ahead[1], abs=1e-7)
        assert np.ptp(motion.down_um[inside]) == 0
        shifts.append(
            (motion.x_um[inside].mean(), motion.y_um[inside].mean(), right[2])
        )
    shifts = np.array(shifts)
    assert np.abs(shifts[:, :2]).max() > 0.05
    gaps = np.linalg.norm(shifts[:, None, :2] - shifts[None, :, :2], axis=2)
    assert gaps[np.triu_indices(4, 1)].min() > 0.01
    assert len(set(np.round(shifts[:, 2], 12))) == 4


def test_fragments_do_not_carry_the_pellet_away_and_move_on_with_cycling():
    settings = CellSettings(pellet_diameter_mm=0.2, pellet_thickness_mm=0.06)
    lattice = Lattice.around(settings, 1.2, pellet_row=40.0)
    spreads = []
    for half_cycles in (1.0, 5.0, 29.0):
        state = CellState(seed=7, half_cycles=half_cycles)
        motion, _ = moved(settings, state, lattice)
        # Weighed by the pieces' columns, those beside the disc among them.
        assert abs(motion.x_um.mean(dtype=float)) < 0.02
        assert abs(motion.y_um.mean(dtype=float)) < 0.02
        spreads.append(float(motion.x_um.std()))
    # 1 - exp(-3 h / 29), by hand: 0.0983, 0.4038, 0.9502.
    assert spreads[1] / spreads[0] == pytest.approx(0.4038 / 0.0983, rel=2e-3)
    assert spreads[2] / spreads[1] == pytest.approx(0.9502 / 0.4038, rel=2e-3)
    none = settings.model_copy(
        update={"pellet": PelletSettings(fragment_motion_um=0.0)}
    )
    motion, _ = moved(none, AFTER, lattice)
    assert not motion.x_um.any()


def density(projector, prepared, seed):
    """Return (x, y, z) density of the pellet's matter, cracks not counted."""
    lattice = projector.lattice
    columns = np.arange(lattice.width**2)
    factors = grain_factors(
        projector.cell, lattice, prepared.shape.motion, columns, seed
    )
    side = lattice.width
    return factors.reshape(side, side, -1).transpose(2, 0, 1).astype(float) - 1


def shift_of_patch(before, splines, after, middle, half):
    """Return by how many voxels (z, y, x) a patch has moved, by least squares.

    The best of the whole shifts first, then Gauss and Newton's steps by the gradient.
    """
    here = tuple(slice(m - half, m + half + 1) for m in middle)
    target = after[here]
    reach = range(-4, 5)
    best = min(
        (
            (((before[tuple(
                slice(s.start - d, s.stop - d) for s, d in zip(here, shift, strict=True)
            )] - target) ** 2).sum(), shift)
            for shift in product(reach, reach, reach)
        ),
        key=lambda found: found[0],
    )  # fmt: skip
    shift = np.array(best[1], dtype=float)
    grid = np.array(np.mgrid[here], dtype=float)
    for _ in range(4):
        moved = map_coordinates(
            splines, grid - shift[:, None, None, None], order=3, prefilter=False
        )
        slopes = np.stack([slope.ravel() for slope in np.gradient(moved)], axis=1)
        # Material moved by d looks as before at x - d.
        step, *_ = np.linalg.lstsq(slopes, (moved - target).ravel(), rcond=None)
        shift += step
    return shift


def test_the_truths_displacement_is_where_the_grains_have_gone(tmp_path):
    # Motion enlarged, so that a wrong sign or a forgotten part stands out.
    settings = CellSettings(
        pellet_diameter_mm=0.2,
        pellet_thickness_mm=0.06,
        lithium_thickness_mm=0.03,
        half_cycle_charge_c=1e-5,
        pellet=PelletSettings(
            bending_um=4.0, fragment_motion_um=3.0, roughness_um=0, chips_per_mm=0
        ),
        interface=InterfaceSettings(voids_per_mm2=0, shards_per_mm2=0),
    )
    pitch_um = 1.2
    camera = CameraSettings(
        num_columns=220, num_rows=120, pixel_size_um=pitch_um, drift_um=0
    )
    projector = Projector(settings, camera, seed=7)
    pristine, later = projector.prepare(CellState(seed=7)), projector.prepare(AFTER)
    truth = TruthFile(tmp_path / "truth.h5", projector)
    truth.record(later, name="scan")
    with h5py.File(truth.path) as file:
        field_um = file["scan/displacement_um"][()].astype(float)
        step = int(file["scan/displacement_um"].attrs["voxels_between_points"])
    before = density(projector, pristine, 7)
    after = density(projector, later, 7)
    motion = later.shape.motion
    side = projector.lattice.width
    planes = [
        part.reshape(side, side) for part in (motion.down_um, motion.y_um, motion.x_um)
    ]
    half, splines = 6, spline_filter(before)
    found, told = [], []
    for k in range(1, field_um.shape[1] - 1, 2):
        for j in range(2, field_um.shape[2] - 2, 2):
            for i in range(2, field_um.shape[3] - 2, 2):
                middle = step // 2 + step * np.array([k, j, i])
                if np.isnan(field_um[:, k, j, i]).any():
                    continue
                window = np.s_[
                    middle[1] - half : middle[1] + half + 1,
                    middle[2] - half : middle[2] + half + 1,
                ]
                if not 11 <= middle[0] < len(after) - 11:
                    continue
                # Where a crack runs through the patch, it moves two ways.
                if max(np.ptp(plane[window]) for plane in planes) > 1.5:
                    continue
                shift = shift_of_patch(before, splines, after, middle, half)
                found.append(shift * pitch_um)
                told.append(field_um[:, k, j, i])
    found, told = np.array(found), np.array(told)
    assert len(found) >= 20
    for axis in range(3):
        # Told apart by an order of magnitude more than they are found to agree.
        assert np.ptp(told[:, axis]) > 1.0, axis
        error = found[:, axis] - told[:, axis]
        # A twelfth of a voxel: trilinear steps between voxels, bends in a patch.
        assert np.median(np.abs(error)) < 0.1, axis
        assert np.corrcoef(found[:, axis], told[:, axis])[0, 1] > 0.99, axis
