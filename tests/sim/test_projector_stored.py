"""The large cell's projections, worked out slice by slice beforehand."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from sim.camera_settings import CameraSettings
from sim.cell import CellState
from sim.cell_settings import CellSettings, CrackSettings
from sim.projection import project_columns
from sim.projector import Projector
from sim.stored_projection import SliceProjector, StoredProjections, shift_columns

ANGLES = np.array([0.0, 13.3, 45.0, 90.0, 140.0])


def slices(width=121):
    """Return an oblique crack and an off-centre disc, with soft edges."""
    half = width // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    crack = np.clip(2.5 - np.abs(0.8 * x + 0.6 * y - 12), 0, 1)
    crack *= np.clip(50.5 - np.hypot(x, y), 0, 1)
    disc = np.clip(9.5 - np.hypot(x - 22, y + 14), 0, 1)
    return crack.astype(np.float32), disc.astype(np.float32), x.ravel(), y.ravel()


def test_slices_projected_through_their_transform_are_line_integrals():
    crack, disc, x, y = slices()
    projector = SliceProjector(121, 140, ANGLES)
    lines = projector.project(np.stack([crack, disc]))
    columns = projector.num_columns
    for index, angle_deg in enumerate(ANGLES):
        for part, layer in enumerate((crack, disc)):
            direct = project_columns(
                x,
                y,
                layer.reshape(-1, 1),
                angle_deg=float(angle_deg),
                middle=columns // 2,
                num_columns=columns,
            )[:, 0]
            seen = lines[index, part]
            assert seen.sum() == pytest.approx(direct.sum(), rel=5e-4)
            # The transform has no frequencies beyond a pixel's, the direct way has:
            # behind the blur of the camera they are left only at edges along rays.
            blurred = gaussian_filter(seen - direct, 0.6, mode="constant")
            assert np.abs(blurred).max() < 0.03 * direct.max()
            assert blurred.std() < 0.006 * direct.max()


def test_a_store_returns_what_was_written_and_means_between_angles(tmp_path):
    rng = np.random.default_rng(3)
    lines = rng.uniform(-5, 90, (4, 3, 7)).astype(np.float32)
    store = StoredProjections(tmp_path, (10.0, 0.5, 4), 3, 7, 100.0)
    store.write(0, lines[:, :2])
    store.write(2, lines[:, 2:])
    resolution = 100.0 / 32000
    assert store.read(10.5) == pytest.approx(lines[1], abs=resolution)
    mean = 0.7 * lines[1] + 0.3 * lines[2]
    assert store.read(10.65) == pytest.approx(mean, abs=resolution)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="prepared_angles_deg"):
        store.read(12.0)


def test_columns_shift_by_parts_of_a_pixel():
    x = np.arange(60.0)
    lines = np.exp(-0.5 * ((x - 30) / 4) ** 2)[None].astype(np.float32)
    seen = shift_columns(lines, 50, middle=22.3, axis=30.0)
    expected = np.exp(-0.5 * ((np.arange(50.0) - 22.3) / 4) ** 2)
    assert seen[0] == pytest.approx(expected, abs=2e-3)


def test_a_large_cell_is_seen_as_a_small_one_would_be(tmp_path):
    cell = CellSettings(
        pellet_diameter_mm=0.1,
        pellet_thickness_mm=0.03,
        lithium_thickness_mm=0.02,
        half_cycle_charge_c=1e-6,
        cracks=CrackSettings(first_volume_fraction=0.05),
    )
    camera = CameraSettings(
        num_columns=160, num_rows=112, prepared_angles_deg=(0.0, 15.0, 13)
    )
    state = CellState(seed=5, half_cycles=2.0, directions=(1, -1), gross_charge_c=2e-6)
    direct = Projector(cell, camera, seed=5)
    small = direct.prepare(state)
    stored = Projector(cell, camera, seed=5, directory=tmp_path, most_voxels=1000)
    large = stored.prepare(state)
    assert large.voxels is None
    for name in ("crack_volume_um3", "filled_volume_um3", "body_volume_um3"):
        one, other = getattr(small.totals, name), getattr(large.totals, name)
        assert other == pytest.approx(one, rel=2e-3), name
    for angle_deg in (0.0, 45.0, 135.0):
        near = gaussian_filter(direct.optical_depth(small, angle_deg), 0.6)
        far = gaussian_filter(stored.optical_depth(large, angle_deg), 0.6)
        # 7.86 per cm over 0.8 um is 6.3e-4: a voxel of electrolyte at worst, at the
        # rim, and a tenth of one on average.
        assert np.abs(near - far).max() < 6.3e-4
        assert (near - far).std() < 6e-5
        assert far.sum() == pytest.approx(near.sum(), rel=2e-4)
