"""Line integrals, counts and noise of the simulated camera."""

import numpy as np
import pytest

from sim.camera_noise import expose
from sim.camera_settings import CameraSettings
from sim.cell import CellState
from sim.cell_settings import (
    CellSettings,
    CrackSettings,
    InterfaceSettings,
    PelletSettings,
)
from sim.optics import blur, blur_kernel
from sim.projection import chord_px, project_columns
from sim.projector import Projector

CELL = CellSettings(
    pellet_diameter_mm=0.1,
    pellet_thickness_mm=0.03,
    lithium_thickness_mm=0.02,
    half_cycle_charge_c=1e-6,
    cracks=CrackSettings(first_volume_fraction=0.05),
    pellet=PelletSettings(
        roughness_um=0, chips_per_mm=0, grain_contrast=0, bending_um=0
    ),
    interface=InterfaceSettings(voids_per_mm2=0, shards_per_mm2=0),
)
CAMERA = CameraSettings(
    num_columns=160,
    num_rows=112,
    flat_counts_per_s=400_000,
    wobble_um=0,
    drift_um=0,
    zingers_per_frame=0,
)
LIGHT = {
    "shutter_open": True,
    "ring_current_ma": 300.0,
    "exposure_time_s": 0.1,
    "time_s": 0.0,
}
CRACKED = CellState(seed=5, half_cycles=3.0, directions=(1, -1, 1))


@pytest.fixture(scope="module")
def projector():
    return Projector(CELL, CAMERA, seed=5)


@pytest.fixture(scope="module")
def prepared(projector):
    return projector.prepare(CRACKED)


def disc_columns(radius_px):
    """Return voxels of a disc with their exact part inside, by fine sampling."""
    half = int(radius_px) + 2
    fine = (np.arange(-half * 16, half * 16) + 0.5) / 16 + 0.5
    inside = np.hypot(fine[:, None] - 0.5, fine - 0.5) <= radius_px
    part = inside.reshape(2 * half, 16, 2 * half, 16).mean(axis=(1, 3))
    centre = np.arange(-half, half) + 0.5
    y, x = np.meshgrid(centre, centre, indexing="ij")
    return x.ravel(), y.ravel(), part.ravel().astype(np.float32)[:, None]


def error_of_projected_disc(radius, angle_deg):
    """Return the error of the chord at each column, relative to the longest."""
    x, y, values = disc_columns(radius)
    columns = np.arange(2 * radius + 60)
    middle = radius + 30.3
    seen = project_columns(
        x, y, values, angle_deg=angle_deg, middle=middle, num_columns=len(columns)
    )[:, 0]
    assert seen.sum() == pytest.approx(np.pi * radius**2, rel=2e-4)
    return (seen - chord_px(columns, middle, radius)) / (2 * radius)


@pytest.mark.parametrize("angle_deg", [0.0, 17.3, 45.0, 90.0, 133.7])
def test_projected_voxels_of_a_cylinder_have_its_chord(angle_deg):
    # The dry run's pellet. What is left is where the chord is steep, because a voxel
    # on the rim spreads its part over the voxel.
    error = error_of_projected_disc(125.0, angle_deg)
    assert np.sqrt((error**2).mean()) < 1e-3
    assert np.abs(error[35:-36]).max() < 1.5e-3


def test_projected_voxels_converge_with_finer_voxels():
    coarse, fine = (
        np.sqrt((error_of_projected_disc(radius, 17.3) ** 2).mean())
        for radius in (60.0, 240.0)
    )
    # First order: a rim voxel's error over a diameter.
    assert fine < coarse / 3.2


def test_the_chord_is_exact():
    columns = np.array([10.0, 12.0, 40.0])
    fine = (np.arange(4000) + 0.5) / 4000 - 0.5
    line = columns[:, None] + fine - 12.25
    expected = (2 * np.sqrt(np.clip(20.0**2 - line**2, 0, None))).mean(axis=1)
    assert chord_px(columns, 12.25, 20.0) == pytest.approx(expected, rel=1e-5)


def test_line_integrals_of_the_intact_cell_are_analytic(projector):
    pristine = projector.prepare(CellState(seed=5))
    depth = projector.optical_depth(pristine, 30.0)
    row = round(CAMERA.pellet_row_px)
    # The cell's axis at 30 degrees, and 7.86 per cm over 0.8 um pixels.
    middle = (
        CAMERA.rotation_axis_px
        + (3.0 * np.cos(np.pi / 6) - 2.0 * np.sin(np.pi / 6)) / 0.8
    )
    expected = 7.86 * 0.8e-4 * chord_px(np.arange(160.0), middle, 62.5)
    assert depth[row] == pytest.approx(expected, abs=1e-6)
    # Lithium above the pellet, nothing above the lithium.
    lithium = 0.095 * 0.8e-4 * chord_px(np.arange(160.0), middle, 62.5)
    assert depth[row - 30] == pytest.approx(lithium, abs=1e-7)
    assert not depth[0].any()


def test_cracks_take_their_volume_from_every_projection(projector, prepared):
    pristine = projector.prepare(CellState(seed=5))
    volume = prepared.totals.crack_volume_um3
    volume -= prepared.totals.filled_volume_um3 * 0.095 / 7.86
    per_px = 7.86 * 0.8e-4
    for angle_deg in (0.0, 31.0, 90.0, 162.5):
        lost = projector.optical_depth(pristine, angle_deg).sum(dtype=float)
        lost -= projector.optical_depth(prepared, angle_deg).sum(dtype=float)
        # Cracks hold the law's volume; the foils are thinner by then.
        foil = (20 - prepared.shape.foils.anode_um) / 0.8
        foil += (20 - prepared.shape.foils.cathode_um) / 0.8
        lost -= foil * np.pi * 62.5**2 * 0.095 * 0.8e-4
        assert lost == pytest.approx(volume / 0.8**3 * per_px, rel=2e-3)


def test_a_turn_by_180_degrees_mirrors_the_projection(projector, prepared):
    camera = CAMERA.model_copy(update={"rotation_axis_offset_px": 0.0})
    centred = Projector(CELL, camera, seed=5)
    there = centred.optical_depth(prepared, 12.0)
    back = centred.optical_depth(prepared, 192.0)
    assert np.abs(there - back[:, ::-1]).max() < 1e-5


def test_the_sample_moves_with_its_stage(projector, prepared):
    still = projector.optical_depth(prepared, 40.0)
    moved = projector.optical_depth(
        prepared, 40.0, sample_out_mm=5 * 0.8e-3, sample_y_mm=3 * 0.8e-3
    )
    assert np.abs(moved[:-3, 5:] - still[3:, :-5]).max() < 1e-6
    out = projector.optical_depth(prepared, 40.0, sample_out_mm=1.0)
    assert not out.any()


def test_flats_and_darks_need_no_cell_but_a_sample_in_view_does(projector):
    dark = projector.frame(
        None, angle_deg=0.0, frame_index=0, **{**LIGHT, "shutter_open": False}
    )
    assert dark.shape == (112, 160)
    assert dark.mean() == pytest.approx(100, abs=1)
    flat = projector.frame(
        None, angle_deg=0.0, sample_out_mm=2.0, frame_index=1, **LIGHT
    )
    assert 30_000 < flat.mean() < 45_000
    with pytest.raises(ValueError, match="prepare"):
        projector.frame(None, angle_deg=0.0, frame_index=2, **LIGHT)


def test_frames_follow_from_seed_and_number_alone(projector, prepared):
    once = projector.frame(prepared, angle_deg=3.0, frame_index=7, **LIGHT)
    again = Projector(CELL, CAMERA, seed=5)
    twice = again.frame(again.prepare(CRACKED), angle_deg=3.0, frame_index=7, **LIGHT)
    assert np.array_equal(once, twice)
    other = projector.frame(prepared, angle_deg=3.0, frame_index=8, **LIGHT)
    assert (once != other).mean() > 0.9


def test_light_follows_ring_current_and_exposure(projector):
    def mean(**changes):
        frame = projector.frame(
            None,
            angle_deg=0.0,
            sample_out_mm=2.0,
            frame_index=1,
            **{**LIGHT, **changes},
        )
        return frame.mean() - 100

    full = mean()
    assert mean(ring_current_ma=150.0) == pytest.approx(full / 2, rel=2e-3)
    assert mean(exposure_time_s=0.05) == pytest.approx(full / 2, rel=2e-3)


@pytest.mark.parametrize("electrons", [3.0, 25.0, 400.0, 15_000.0])
def test_noise_has_the_variance_of_counted_electrons(electrons):
    shape = (300, 300)
    counts = expose(
        np.full(shape, electrons, np.float32),
        np.ones(shape, np.float32),
        np.zeros(shape, np.float32),
        2.0,
        0.46,
        100.0,
        True,
        1,
        2,
    ).astype(float)
    # 90 000 pixels: the standard error of the variance is 0.5 % (0.8 % at a mean of
    # 3, whose kurtosis is higher); rounding adds a twelfth.
    variance = (electrons + 4.0) / 0.46**2 + 1 / 12
    assert counts.var() == pytest.approx(variance, rel=0.03)
    error = np.sqrt(variance / counts.size)
    assert counts.mean() == pytest.approx(100 + electrons / 0.46, abs=4 * error)


def test_neighbouring_pixels_rows_and_frames_are_independent():
    shape = (256, 256)
    frames = [
        expose(
            np.full(shape, 1e4, np.float32), np.ones(shape, np.float32),
            np.zeros(shape, np.float32), 1.0, 1.0, 100.0, True, 9, index,
        ).astype(float)
        for index in (0, 1)
    ]  # fmt: skip
    frame = (frames[0] - frames[0].mean()) / frames[0].std()
    other = (frames[1] - frames[1].mean()) / frames[1].std()
    limit = 4 / 256
    assert abs((frame[:, 1:] * frame[:, :-1]).mean()) < limit
    assert abs((frame[1:] * frame[:-1]).mean()) < limit
    assert abs((frame * other).mean()) < limit


def test_counts_saturate():
    shape = (4, 4)
    counts = expose(
        np.full(shape, 1e6, np.float32), np.ones(shape, np.float32),
        np.zeros(shape, np.float32), 1.0, 0.46, 100.0, True, 1, 1,
    )  # fmt: skip
    assert (counts == 65535).all()


def test_blur_keeps_the_light_and_has_its_width():
    image = np.zeros((41, 61), np.float32)
    image[20, 30] = 1.0
    spread = blur(image, blur_kernel(1.3))
    assert spread.sum() == pytest.approx(1.0, abs=1e-5)
    across = (np.arange(61) - 30.0) ** 2
    assert (spread.sum(axis=0) * across).sum() == pytest.approx(1.3**2, rel=0.01)
    down = (np.arange(41) - 20.0) ** 2
    assert (spread.sum(axis=1) * down).sum() == pytest.approx(1.3**2, rel=0.01)
