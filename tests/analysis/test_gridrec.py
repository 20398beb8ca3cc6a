import numpy as np
import pytest

from analysis.gridrec import Gridrec


def relative_error(slices, exact):
    size = len(exact)
    place = np.arange(size) - size // 2
    inside = place[:, None] ** 2 + place[None] ** 2 < (size / 2 - 2) ** 2
    return np.sqrt(((slices - exact)[inside] ** 2).mean() / (exact[inside] ** 2).mean())


# The bound: 5e-4 of the exact filtered back-projection. A detector of 48
# columns holds 24 frequencies, too few for it.
@pytest.mark.parametrize(
    ("width", "angles", "axis_px", "tolerance"),
    [
        (320, np.arange(360) * 0.5, 159.5, 5e-4),
        (320, np.arange(360) * 0.5, 161.3, 5e-4),
        (161, -88.2 + np.arange(181) * (180 / 181), 80.0, 5e-4),
        (160, -88.2 + np.arange(90) * 2.0, 71.25, 8e-4),
        (48, np.arange(16) * 11.25, 23.5, 3e-3),
    ],
)
def test_slices_are_those_of_the_exact_filtered_back_projection(
    oracle, width, angles, axis_px, tolerance
):
    sinogram = oracle.phantom_sinogram(width, angles, axis_px)
    exact = oracle.exact_fbp(sinogram, angles, axis_px)
    stack = np.stack([sinogram * factor for factor in range(1, 20)])
    slices = Gridrec(angles, width, axis_px).reconstruct(stack)
    assert slices.shape == (19, width, width)
    for index in (0, 1, 15, 16, 18):
        scaled = slices[index] / (index + 1)
        assert relative_error(scaled, exact) < tolerance


def test_grey_values_are_attenuation_per_pixel(oracle):
    angles = np.arange(400) * 0.45
    sinogram = oracle.phantom_sinogram(256, angles, 127.5, scale=0.01)
    made = Gridrec(angles, 256, 127.5).reconstruct(sinogram[None])[0]
    truth = oracle.phantom_slice(256, scale=0.01)
    calm = (slice(190, 200), slice(60, 90))
    assert np.ptp(truth[calm]) == 0
    # 0.5 %: the mean over 600 pixels beside edges that ring.
    assert made[calm].mean() == pytest.approx(truth[calm].mean(), rel=5e-3)


def test_a_point_stands_where_the_convention_says():
    # Seen at column axis + x cos(angle) + y sin(angle), y down.
    angles = np.arange(180.0)
    width, axis_px, x, y = 101, 47.0, 20, -31
    column = axis_px + x * np.cos(np.deg2rad(angles)) + y * np.sin(np.deg2rad(angles))
    sinogram = np.exp(-0.5 * ((np.arange(width) - column[:, None]) / 1.5) ** 2)
    slices = Gridrec(angles, width, axis_px).reconstruct(
        sinogram[None].astype(np.float32)
    )
    row, col = np.unravel_index(np.argmax(slices[0]), slices[0].shape)
    assert (row - width // 2, col - width // 2) == (y, x)


def test_frequencies_on_the_edge_of_a_tile_stay_in_it(oracle):
    # Grid 432 over 1280 frequencies, upright rays: places fall on whole grid points,
    # where rounding may choose another tile than the one the run was cut for.
    angles = np.array([0.0, 90.0, 180.0, 270.0, -90.0, 45.0])
    sinogram = oracle.phantom_sinogram(320, angles, 160.0)
    slices = Gridrec(angles, 320, 160.0).reconstruct(np.repeat(sinogram[None], 19, 0))
    assert np.isfinite(slices).all()
    assert np.abs(slices).max() < 1.0
    assert np.allclose(slices[0], slices[18], atol=1e-5)


def test_order_and_start_of_the_angles_do_not_matter(oracle):
    angles = -33.0 + np.arange(180.0)
    sinogram = oracle.phantom_sinogram(128, angles, 64.0)
    straight = Gridrec(angles, 128, 64.0).reconstruct(sinogram[None])
    shuffle = np.random.default_rng(3).permutation(180)
    mixed = Gridrec(angles[shuffle], 128, 64.0).reconstruct(sinogram[shuffle][None])
    assert np.allclose(straight, mixed, atol=1e-6)


def test_both_ends_of_a_closed_half_turn_count_half(oracle):
    angles = np.arange(181.0)
    sinogram = oracle.phantom_sinogram(128, angles, 64.0)
    closed = Gridrec(angles, 128, 64.0).reconstruct(sinogram[None])
    open_ended = Gridrec(angles[:-1], 128, 64.0).reconstruct(sinogram[None, :-1])
    # The phantom at 0 and mirrored at 180 agree, so both are the same sum.
    assert relative_error(closed[0], open_ended[0]) < 2e-3


def test_nothing_stands_outside_the_circle(oracle):
    sinogram = oracle.phantom_sinogram(65, np.arange(90) * 2.0, 32.0)
    made = Gridrec(np.arange(90) * 2.0, 65, 32.0).reconstruct(sinogram[None])[0]
    place = np.arange(65) - 32
    outside = place[:, None] ** 2 + place[None] ** 2 > 32.5**2
    assert not made[outside].any()


def test_edge_padding_lowers_the_bias_of_a_truncated_sample(oracle):
    angles = np.arange(360) * 0.5
    whole = oracle.phantom_sinogram(320, angles, 159.5, scale=1.0)
    seen = np.ascontiguousarray(whole[:, 60:260])[None]
    truth = oracle.phantom_slice(320, scale=1.0)[60:260, 60:260]
    place = np.arange(200) - 100
    rim = np.hypot(place[:, None], place[None])
    ring = (rim > 70) & (rim < 90)

    def bias(padding):
        made = Gridrec(angles, 200, 99.5, padding=padding).reconstruct(seen)[0]
        return abs((made - truth)[ring].mean())

    assert bias("edge") < 0.5 * bias("zero")


def test_several_axes_at_once_are_those_axes_one_by_one(oracle):
    angles = np.arange(120) * 1.5
    sinograms = np.stack(
        [
            oracle.phantom_sinogram(96, angles, 47.0, scale=scale)
            for scale in (0.01, 0.02)
        ]
    )
    axes = [45.0, 47.0, 47.25]
    together = Gridrec(angles, 96, 47.0).reconstruct_axes(sinograms, axes)
    for axis, slices in zip(axes, together, strict=True):
        alone = Gridrec(angles, 96, axis).reconstruct(sinograms)
        assert np.allclose(slices, alone, atol=1e-5)


@pytest.mark.parametrize("passes", [2, 3, 120])
def test_angles_gridded_in_shares_are_those_gridded_at_once(oracle, passes):
    angles = np.arange(120) * 1.5
    sinograms = np.stack([oracle.phantom_sinogram(96, angles, 46.2)] * 3)
    at_once = Gridrec(angles, 96, 46.2).reconstruct(sinograms)
    in_shares = Gridrec(angles, 96, 46.2, passes=passes).reconstruct(sinograms)
    # Sums in another order, in single precision.
    assert np.abs(in_shares - at_once).max() < 1e-5 * np.abs(at_once).max()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"passes": 0}, "passes is 0"),
        ({"rotation_axis_px": 96.0}, "0 to 95 px"),
        ({"rotation_axis_px": np.nan}, "0 to 95 px"),
        ({"angles_deg": np.array([0.0, np.nan])}, "finite"),
        ({"padding": "mirror"}, "zero or edge"),
        ({"filter_window": "hamming"}, "ramp, shepp-logan"),
    ],
)
def test_a_geometry_that_cannot_be_is_refused(change, said):
    geometry = {
        "angles_deg": np.arange(8.0),
        "width_px": 96,
        "rotation_axis_px": 47.5,
        "filter_window": "ramp",
        "padding": "zero",
    }
    with pytest.raises(ValueError, match=said):
        Gridrec(**(geometry | change))


def test_sinograms_of_another_shape_are_refused():
    machine = Gridrec(np.arange(8.0), 96, 47.5)
    with pytest.raises(ValueError, match="8 angles and 96 columns"):
        machine.reconstruct(np.zeros((1, 7, 96), np.float32))
    with pytest.raises(ValueError, match="float32"):
        machine.reconstruct(np.zeros((1, 8, 96)))
