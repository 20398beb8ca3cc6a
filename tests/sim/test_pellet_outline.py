"""The pellet's faces and rim, and its place in the picture."""

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
from sim.displacement import bending
from sim.lattice import Lattice
from sim.pellet import draw_body, surface
from sim.projector import Projector

CELL = CellSettings(
    pellet_diameter_mm=0.16,
    pellet_thickness_mm=0.05,
    lithium_thickness_mm=0.02,
    cracks=CrackSettings(enabled=False),
    interface=InterfaceSettings(voids_per_mm2=0, shards_per_mm2=0),
)
LATTICE = Lattice.around(CELL, 0.8, pellet_row=50.0)


@pytest.mark.parametrize("half_cycles", [0.0, 10.0, 29.0])
def test_faces_are_as_rough_as_their_law_says(half_cycles):
    outline = surface(CELL, CellState(seed=2, half_cycles=half_cycles), LATTICE)
    rough_um = 0.3 * (1 + 1.5 * (1 - np.exp(-half_cycles / 10)))
    assert outline.top_um.std() == pytest.approx(rough_um, rel=1e-3)
    assert outline.bottom_um.std() == pytest.approx(rough_um, rel=1e-3)
    assert abs(np.corrcoef(outline.top_um, outline.bottom_um)[0, 1]) < 0.3


def test_roughness_keeps_its_shape_while_it_grows():
    young, old = (
        surface(CELL, CellState(seed=2, half_cycles=h), LATTICE).top_um
        for h in (0.0, 20.0)
    )
    assert np.corrcoef(young, old)[0, 1] > 0.9999


def test_chips_are_off_the_edges_and_nowhere_else():
    smooth = {"roughness_um": 0.0, "grain_contrast": 0.0}
    bodies = []
    for per_mm in (0.0, 6.0):
        pellet = PelletSettings(**smooth, chips_per_mm=per_mm)
        settings = CELL.model_copy(update={"pellet": pellet})
        state = CellState(seed=2)
        outline = surface(settings, state, LATTICE)
        still = bending(settings, state, LATTICE)
        bodies.append(draw_body(LATTICE, outline, still, 50.0))
    whole, chipped = bodies
    lost = whole - chipped
    assert lost.min() > -1e-6
    # Six per millimetre along two edges of 0.5 mm; a chip is some 5 um each way, an
    # eighth to a third of its box.
    volume_um3 = lost.sum(dtype=float) * 0.8**3
    assert 200 < volume_um3 < 6 * 2 * 0.5 * 1500
    x, y = LATTICE.columns_um(np.arange(LATTICE.width**2))
    assert np.hypot(x, y)[lost.any(axis=1)].min() > 80 - 1.3 * 5 - 1
    depth = LATTICE.depth_um[lost.max(axis=0) > 0.01]
    assert np.minimum(depth, 50 - depth).max() < 50 / 3 + 1


def test_a_drifted_cell_is_seen_where_the_truth_says():
    camera = CameraSettings(
        num_columns=260, num_rows=130, wobble_um=0, drift_um=4.0, cell_offset_um=(6, -9)
    )
    settings = CELL.model_copy(
        update={
            "pellet": PelletSettings(
                roughness_um=0, chips_per_mm=0, bending_um=0, grain_contrast=0
            )
        }
    )
    projector = Projector(settings, camera, seed=5)
    prepared = projector.prepare(CellState(seed=5, half_cycles=9.0))
    right, ahead, down = prepared.drift_px
    assert min(abs(right), abs(ahead), abs(down)) > 0.3
    axis, middle = camera.rotation_axis_px, camera.pellet_row_px
    for angle_deg in (0.0, 90.0, 200.0):
        angle = np.deg2rad(angle_deg)
        depth = projector.optical_depth(prepared, angle_deg).astype(float)
        rows, columns = np.mgrid[: camera.num_rows, : camera.num_columns]
        seen = (depth * columns).sum() / depth.sum()
        x, y = 6 / 0.8 + right, -9 / 0.8 + ahead
        # The foils, one a little thinner, stand on the same axis.
        assert seen == pytest.approx(
            axis + x * np.cos(angle) + y * np.sin(angle), abs=0.01
        )
        # The pellet is what a row has more than one of lithium.
        pellet = (depth.sum(axis=1) - depth[round(middle) - 40].sum()).clip(0)
        height = (pellet * rows[:, 0]).sum() / pellet.sum()
        assert height == pytest.approx(middle + down, abs=0.01)


def test_the_stages_run_out_moves_the_picture_by_no_more_than_it_may():
    camera = CameraSettings(num_columns=260, num_rows=130, wobble_um=0.8, drift_um=0)
    projector = Projector(CELL, camera, seed=5)
    prepared = projector.prepare(CellState(seed=5))
    columns = np.arange(260.0)
    seen = []
    for angle_deg in range(0, 360, 15):
        depth = projector.optical_depth(prepared, float(angle_deg)).astype(float)
        column = (depth * columns).sum() / depth.sum()
        angle = np.deg2rad(angle_deg)
        offset = (3.0 * np.cos(angle) - 2.0 * np.sin(angle)) / 0.8
        seen.append(column - camera.rotation_axis_px - offset)
    # Three turns a turn, a pixel either way; chips take 0.05 px from the middle.
    assert np.abs(seen).max() == pytest.approx(1.0, abs=0.15)
    power = np.abs(np.fft.rfft(seen))
    assert power.argmax() == 3
