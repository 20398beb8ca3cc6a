"""The kernels that go through a volume in slabs, against whole-volume known answers."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import ndtr

from analysis.measurement.body import Body
from analysis.measurement.components import Labeller
from analysis.measurement.crack_mask import smooth
from analysis.measurement.crack_volume import distance_squared
from analysis.measurement.deficit import AT_ANODE, AT_CATHODE, INSIDE, DeficitVolume
from analysis.measurement.grey_levels import LevelField
from analysis.volume import ArrayVolume

SHAPE = (19, 23, 41)


@pytest.mark.parametrize("density", [0.001, 0.02, 0.3])
@pytest.mark.parametrize(("limit", "halo"), [(2, 0), (3, 4), (6, 6)])
def test_distance_is_the_euclidean_one_up_to_its_limit(density, limit, halo):
    mask = np.random.default_rng(1).random(SHAPE) < density
    out = np.empty((SHAPE[0] - 2 * halo, *SHAPE[1:]), np.uint8)

    distance_squared(mask.view(np.uint8), limit, out)

    exact = np.round(ndimage.distance_transform_edt(~mask) ** 2)
    exact = exact[halo : SHAPE[0] - halo]
    within = exact <= limit**2
    np.testing.assert_array_equal(out[within], exact[within])
    assert (out[~within] == limit**2 + 1).all()


@pytest.mark.parametrize("density", [0.02, 0.12, 0.3, 0.6])
@pytest.mark.parametrize("diagonal", [True, False], ids=["26", "6"])
def test_streamed_components_are_those_of_the_whole_volume(density, diagonal):
    mask = np.random.default_rng(2).random(SHAPE) < density
    region = np.zeros(SHAPE, np.uint8)
    region[0], region[-1] = AT_ANODE, AT_CATHODE
    codes = mask.astype(np.uint8)
    codes[mask & (np.random.default_rng(3).random(SHAPE) < 0.05)] = 2
    labeller = Labeller(SHAPE[1:], diagonal=diagonal)
    for start in range(0, SHAPE[0], 5):
        part = slice(start, start + 5)
        labeller.add(start, codes[part].copy(), region[part])

    found = labeller.finish()

    near = ndimage.generate_binary_structure(3, 3 if diagonal else 1)
    labels, number = ndimage.label(mask, near)
    index = np.arange(1, number + 1)
    # Both number components by their first voxel.
    np.testing.assert_array_equal(found.voxels, np.bincount(labels.ravel())[1:])
    for name, array in (
        ("strong", codes == 2),
        ("at_anode", region == AT_ANODE),
        ("at_cathode", region == AT_CATHODE),
    ):
        expected = ndimage.maximum(mask & array, labels, index)
        np.testing.assert_array_equal(getattr(found, name), expected, name)
    rows = np.arange(SHAPE[0])[:, None, None] + np.zeros(SHAPE)
    np.testing.assert_array_equal(found.top_row, ndimage.minimum(rows, labels, index))
    np.testing.assert_array_equal(
        found.bottom_row, ndimage.maximum(rows, labels, index)
    )


def test_a_second_run_clears_the_small_components():
    mask = np.random.default_rng(4).random(SHAPE) < 0.1
    labeller = Labeller(SHAPE[1:])
    for start in range(0, SHAPE[0], 4):
        labeller.add(start, mask[start : start + 4].astype(np.uint8))
    found = labeller.finish()
    keep = np.append(found.voxels >= 3, False)[found.of_label]
    kept = mask.astype(np.uint8)
    labeller = Labeller(SHAPE[1:])
    for start in range(0, SHAPE[0], 7):
        labeller.add(start, kept[start : start + 7], keep=keep)

    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    large = np.append(0, np.bincount(labels.ravel())[1:] >= 3)
    np.testing.assert_array_equal(kept, large[labels])


def test_smoothing_is_that_of_the_kernel_wherever_a_slab_begins():
    field = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    kernel = np.array([1, 2, 1]) / 4
    exact = field.astype(float)
    for axis in range(3):
        exact = ndimage.correlate1d(exact, kernel, axis, mode="nearest")
    out = np.empty((SHAPE[0] - 6, *SHAPE[1:]), np.float32)

    smooth(field, 2, out)

    np.testing.assert_allclose(out, exact[2:-4], atol=1e-6)


def test_deficit_beside_its_formula_inside_at_the_surface_and_outside():
    shape = (40, 72, 80)
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]].astype(float)
    top = 6.3 + 0.03 * x[0] - 0.02 * y[0]
    bottom = 33.2 + 0.01 * x[0]
    centre, number = (35.2, 40.7), 720
    wave = 24 + np.sin(3 * np.arange(number) * 2 * np.pi / number)
    rim = np.tile(wave, (shape[0], 1)).astype(np.float32)
    body = Body(
        top.astype(np.float32), bottom.astype(np.float32), rim, centre,
        edge_sigma_px=0.8,
    )  # fmt: skip
    grid = 1 + 0.02 * np.random.default_rng(6).random((3, 5, 5)).astype(np.float32)
    levels = LevelField(grid, 16, low=0.05, electrode=0.07, residual_frac=0)
    grey = np.random.default_rng(7).random(shape).astype(np.float32)
    volume = DeficitVolume(ArrayVolume(grey, 1.0), body, levels, rim_shell_px=4)
    deficit, region = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    for start in range(0, shape[0], 7):
        part = slice(start, min(start + 7, shape[0]))
        volume.read(start, deficit[part], region[part])

    at = np.meshgrid(*[(np.arange(n) + 0.5) / 16 - 0.5 for n in shape], indexing="ij")
    level = ndimage.map_coordinates(grid.astype(float), at, order=1, mode="nearest")
    angle = np.arctan2(y - centre[0], x - centre[1]) % (2 * np.pi)
    turns = np.arange(number + 1) * 2 * np.pi / number
    radius = np.interp(angle, turns, np.append(wave, wave[0]))
    edge = radius - np.hypot(y - centre[0], x - centre[1])
    depth = np.minimum(np.minimum(z - top, bottom - z), edge)

    between = ndtr((z - top) / 0.8) * ndtr((bottom - z) / 0.8)
    within = ndtr(edge / 0.8)
    expected = within * (between * level + (1 - between) * 0.07) + (1 - within) * 0.05
    exact = (expected - grey) / (level - 0.05)
    near = depth > -3.19  # 4 sd beyond the surface it ends
    # Deeper than 4 sd the blur is left out: 3e-5 of the contrast.
    np.testing.assert_allclose(deficit[near], exact[near], atol=1e-4)
    assert (deficit[depth < -3.21] == 0).all()
    sure = np.abs(depth) > 1e-3
    np.testing.assert_array_equal(((region & INSIDE) > 0)[sure], (depth > 0)[sure])
