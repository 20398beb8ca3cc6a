"""Voids, shards and the wall: volumes against formulas, and light against volumes."""

import numpy as np
import pytest

from sim.camera_settings import CameraSettings
from sim.cell import CellState
from sim.cell_settings import (
    CellSettings,
    CrackSettings,
    InterfaceSettings,
    PelletSettings,
)
from sim.interface import interfaces
from sim.projector import Projector

PIXEL_UM = 0.8
# Lengths in cm per pixel, times attenuation: 7.86 for the pellet, 0.095 for lithium.
PER_PX = PIXEL_UM * 1e-4
SMOOTH = PelletSettings(
    roughness_um=0, chips_per_mm=0, grain_contrast=0, bending_um=0, fragment_motion_um=0
)
CAMERA = CameraSettings(
    num_columns=176, num_rows=112, wobble_um=0, drift_um=0, cell_offset_um=(0, 0)
)
LAST = CellState(seed=5, half_cycles=29.0, directions=(1, -1) * 14 + (1,))


def cell(**changes):
    return CellSettings.model_validate(
        {
            "pellet_diameter_mm": 0.1,
            "pellet_thickness_mm": 0.03,
            "lithium_thickness_mm": 0.02,
            "cracks": CrackSettings(enabled=False),
            "pellet": SMOOTH,
            "interface": InterfaceSettings(voids_per_mm2=0, shards_per_mm2=0),
            "anode_compression_um": 0,
            "cathode_compression_um": 0,
            **changes,
        }
    )


def light_lost(settings, state, angle_deg=25.0):
    """Return the sum of a projection's line integrals, in pixels^3 times 1/cm."""
    projector = Projector(settings, CAMERA, seed=5)
    depth = projector.optical_depth(projector.prepare(state), angle_deg)
    return depth.sum(dtype=float) / PER_PX


SHARDS = cell(interface=InterfaceSettings(voids_per_mm2=0, shards_per_mm2=1500))


def test_shards_come_off_one_by_one_and_all_by_the_last_label():
    projector = Projector(SHARDS, CAMERA, seed=5)
    counts = [
        len(interfaces(SHARDS, CellState(5, half_cycles=float(h)), lattice).shards)
        for lattice in [projector.lattice]
        for h in range(30)
    ]
    assert counts[0] == counts[1] == 0
    assert counts == sorted(counts)
    # 1500 per mm2 on both faces of 0.1 mm.
    assert counts[29] == 2 * round(1500 * np.pi / 4 * 0.1**2)
    # Evenly in time: half by the middle, give or take four deviations of 24 of them.
    assert counts[15] == pytest.approx(12, abs=10)


def test_shards_lie_in_the_lithium_beyond_both_faces():
    projector = Projector(SHARDS, CAMERA, seed=5)
    shards = interfaces(SHARDS, LAST, projector.lattice).shards
    depth, tall = shards[:, 2], shards[:, 5]
    assert ((depth + tall < 0) | (depth - tall > 30)).all()
    assert (depth < 0).sum() == (depth > 30).sum()


def test_shards_have_the_volume_and_the_shadow_of_their_ellipsoids():
    projector = Projector(SHARDS, CAMERA, seed=5)
    prepared = projector.prepare(LAST)
    axes = prepared.shape.interfaces.shards[:, 3:]
    volume_px = 4 / 3 * np.pi * axes.prod(axis=1).sum() / PIXEL_UM**3
    drawn = prepared.voxels.shards.sum(dtype=float)
    # Some overlap, and the thinnest are a voxel and a half tall.
    assert drawn == pytest.approx(volume_px, rel=0.05)
    more = light_lost(SHARDS, LAST) - light_lost(cell(), LAST)
    # Electrolyte stands where lithium was.
    assert more == pytest.approx(drawn * (7.86 - 0.095), rel=2e-3)


def test_voids_take_the_lithium_of_their_volume_from_the_light():
    voids = cell(interface=InterfaceSettings(shards_per_mm2=0))
    projector = Projector(voids, CAMERA, seed=5)
    gap_um = projector.prepare(LAST).shape.interfaces.gap_um
    volume_px = (gap_um * projector.lattice.disc).sum(dtype=float) / PIXEL_UM
    assert volume_px > 1000
    less = light_lost(cell(), LAST) - light_lost(voids, LAST)
    # A voxel's worth of the sum of 3e5 px of lithium is float32 rounding.
    assert less == pytest.approx(volume_px * 0.095, rel=0.02)


def test_the_wall_is_a_tube_round_the_cell():
    walled = cell(wall_inner_diameter_mm=0.11, wall_thickness_mm=0.01)
    bare, tube = Projector(cell(), CAMERA, seed=5), Projector(walled, CAMERA, seed=5)
    state = CellState(seed=5)
    wall = tube.optical_depth(tube.prepare(state), 40.0).astype(float)
    wall -= bare.optical_depth(bare.prepare(state), 40.0)
    # Alike at every row, above the foils too.
    assert np.abs(wall - wall[0]).max() < 1e-6
    fine = (np.arange(176 * 200) + 0.5) / 200 - 0.5 - CAMERA.rotation_axis_px
    across = fine * PIXEL_UM
    outer = np.sqrt(np.clip(65.0**2 - across**2, 0, None))
    inner = np.sqrt(np.clip(55.0**2 - across**2, 0, None))
    chord_um = (2 * (outer - inner)).reshape(176, 200).mean(axis=1)
    assert wall[0] == pytest.approx(0.6e-4 * chord_um, abs=1e-6)
    assert wall[0].sum() * PIXEL_UM == pytest.approx(
        0.6e-4 * np.pi * (65**2 - 55**2), rel=1e-3
    )


def test_a_wall_wider_than_the_view_still_dims_all_of_it():
    walled = cell(wall_inner_diameter_mm=0.4, wall_thickness_mm=0.1)
    projector = Projector(walled, CAMERA, seed=5)
    wall = projector.optical_depth(projector.prepare(CellState(seed=5)), 0.0)[0]
    # 200 um thick where the beam meets the tube square on.
    middle = round(CAMERA.rotation_axis_px)
    assert wall[middle] == pytest.approx(0.6e-4 * 200, rel=1e-4)
    assert wall.min() >= 0.6e-4 * 200
