import numpy as np
import pytest

from analysis.errors import DataError
from analysis.normalise import FlatField, FrameAverage, remove_air_background


def attenuation(field, frame):
    out = np.empty(frame.shape, np.float32)
    return out, field.attenuation(frame, out)


def test_attenuation_is_minus_log_of_the_transmission():
    rng = np.random.default_rng(0)
    dark = rng.uniform(90, 110, (30, 40)).astype(np.float32)
    flat = rng.uniform(20000, 30000, (30, 40)).astype(np.float32)
    frame = rng.integers(110, 40000, (30, 40)).astype(np.uint16)
    out, counts = attenuation(FlatField(dark, flat, min_transmission=1e-5), frame)
    transmission = (frame - dark.astype(float)) / (flat.astype(float) - dark)
    # Single precision: 1e-6 of values up to 8.
    assert np.abs(out + np.log(transmission)).max() < 2e-6
    assert counts == (0, 0)


def test_low_transmission_is_clamped_and_counted():
    dark = np.full((4, 8), 100, np.float32)
    flat = np.full((4, 8), 1100, np.float32)
    frame = np.full((4, 8), 600, np.uint16)
    frame[1, 2] = 90
    frame[3, 3] = 100
    out, counts = attenuation(FlatField(dark, flat, min_transmission=0.01), frame)
    assert counts == (2, 0)
    assert out[1, 2] == out[3, 3] == pytest.approx(-np.log(0.01), rel=1e-6)


def test_dead_and_hot_pixels_are_interpolated_and_counted():
    dark = np.full((20, 30), 100, np.float32)
    flat = np.full((20, 30), 1100, np.float32)
    flat[4, 7:9] = 100  # dead, two side by side
    flat[10, 0] = 100  # dead, at the edge
    dark[12, 20], flat[12, 20] = 900, 1900  # hot
    field = FlatField(dark, flat)
    assert (field.dead, field.hot) == (3, 1)
    slope = np.exp(-np.linspace(0.1, 0.9, 30))[None] * np.ones((20, 1))
    frame = np.rint(100 + 1000 * slope).astype(np.uint16)
    whole, _ = attenuation(FlatField(np.full_like(dark, 100), flat * 0 + 1100), frame)
    frame[4, 7:9] = frame[12, 20] = 65535
    frame[10, 0] = 0
    out, counts = attenuation(field, frame)
    assert counts == (0, 0)
    # Attenuation is straight along the row, to the rounding of counts.
    assert np.abs(out - whole)[:, 1:].max() < 2e-3
    assert out[10, 0] in {out[10, 1], out[9, 0], out[11, 0]}


def test_values_that_are_no_numbers_are_interpolated_and_counted():
    dark = np.zeros((6, 12), np.float32)
    flat = np.ones((6, 12), np.float32)
    frame = np.full((6, 12), 0.5, np.float32)
    frame[2, 5], frame[3, 0], frame[4, 11] = np.nan, np.inf, -np.inf
    out, counts = attenuation(FlatField(dark, flat), frame)
    assert counts == (0, 3)
    assert np.allclose(out, np.log(2), atol=1e-6)


def test_a_dead_row_is_taken_from_the_rows_beside_it():
    flat = np.full((9, 16), 1000, np.float32)
    flat[4] = 0
    out, _ = attenuation(
        FlatField(np.zeros((9, 16), np.float32), flat),
        np.full((9, 16), 500, np.uint16),
    )
    assert np.allclose(out, np.log(2), atol=1e-6)


@pytest.mark.parametrize(
    ("flat", "said"),
    [
        (np.full((8, 8), 100, np.float32), "flats are not above darks"),
        (np.full((8, 9), 900, np.float32), r"\(8, 8\) and flats \(8, 9\)"),
        (
            np.repeat([[900.0] * 5 + [100.0] * 3], 8, axis=0).astype(np.float32),
            "38% of the pixels",
        ),
    ],
)
def test_flats_that_cannot_be_are_refused(flat, said):
    with pytest.raises(DataError, match=said) as raised:
        FlatField(np.full((8, 8), 100, np.float32), flat, source="scan.nxs")
    assert "scan.nxs" in str(raised.value)


def test_a_frame_of_another_shape_is_refused():
    field = FlatField(np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32))
    with pytest.raises(DataError, match=r"\(8, 7\).*\(8, 8\)"):
        attenuation(field, np.zeros((8, 7), np.uint16))


def test_one_spoilt_frame_leaves_no_trace_in_an_average():
    frames = np.full((6, 4, 4), 1000, np.uint16)
    frames[3] = 65535
    average = FrameAverage("flats")
    average.add(frames[:2])
    average.add(frames[2:])
    assert average.number == 6
    assert np.all(average.mean() == 1000)


def test_no_frames_have_no_average():
    with pytest.raises(DataError, match="no flats"):
        FrameAverage("flats").mean()


def test_the_beam_is_corrected_by_the_air_on_both_sides():
    x = np.linspace(0, 1, 64)
    sample = np.where((x > 0.3) & (x < 0.7), 1.0, 0.0)
    frame = (sample + 0.02 + 0.03 * x)[None].repeat(10, 0).astype(np.float32)
    assert remove_air_background(frame, 8, 0.1)
    assert np.allclose(frame, sample, atol=1e-6)


def test_sides_that_hold_no_air_are_left_alone():
    frame = np.full((10, 64), 0.5, np.float32)
    assert not remove_air_background(frame, 8, 0.1)
    assert np.all(frame == 0.5)
