"""Flats before and after the projections: what the beam did meanwhile goes."""

import numpy as np
import pytest

from analysis.errors import DataError
from analysis.flat_drift import FlatDrift, flat_weights, groups_of
from analysis.ingest import ScanIngest
from analysis.normalise import FrameAverage
from analysis.settings import DistortionSettings, ReconstructionSettings

ANGLES, ROWS, WIDTH = 40, 18, 64
TIMES = np.arange(ANGLES, dtype=float)


def test_between_two_groups_the_share_is_a_straight_line():
    shares = flat_weights([10.0, 30.0], np.array([0.0, 10.0, 15.0, 30.0, 99.0]))
    expected = [[1, 0], [1, 0], [0.75, 0.25], [0, 1], [0, 1]]
    assert np.allclose(shares, expected)
    with pytest.raises(ValueError, match="must ascend"):
        flat_weights([3.0, 3.0], TIMES)


def test_flats_are_grouped_by_the_projections_between_them():
    flats = np.array([0, 1, 2, 8, 9, 14])
    groups = groups_of(flats, np.array([3, 4, 5, 6, 10, 11, 12]))
    assert [list(group) for group in groups] == [[0, 1, 2], [8, 9], [14]]
    assert len(groups_of(flats, np.array([20, 21]))) == 1


@pytest.fixture
def drifting(tmp_path):
    """Take in a scan whose beam changes by `change` (angle, y, x), as a factor."""

    def take(change, **settings):
        rng = np.random.default_rng(0)
        sample = rng.uniform(0.1, 0.8, (ANGLES, 1, WIDTH)) * np.ones((1, ROWS, 1))
        sample[:, :, :8] = sample[:, :, -8:] = 0
        beam = 2e5 * (1 + 0.2 * rng.uniform(size=(ROWS, WIDTH)))
        options = {"air_columns_px": 0} | settings
        ingest = ScanIngest(
            "scan", ANGLES, 1.0, ReconstructionSettings(**options), tmp_path
        )
        ingest.darks.add(np.zeros((1, ROWS, WIDTH), np.float32))
        ingest.flats.add(beam[None].astype(np.float32))
        for index in range(ANGLES):
            counts = beam * change[index] * np.exp(-sample[index])
            ingest.put(index, counts.astype(np.float32))

        def flats(factor):
            average = FrameAverage("flats after the scan")
            average.add((beam * factor)[None].astype(np.float32))
            return average

        return ingest, flats, sample.astype(np.float32).transpose(1, 0, 2)

    return take


def growing(pattern):
    """Return the factor of a beam whose logarithm grows evenly from 0 to `pattern`."""
    return np.exp(np.linspace(0, 1, ANGLES)[:, None, None] * pattern)


def stripes():
    return np.random.default_rng(1).uniform(-0.05, 0.05, (ROWS, WIDTH))


def errors(ingest, truth):
    return np.abs(ingest.store.rows(0, ROWS) - truth)


# 1.3e-4 is a step of the 16-bit integers that hold attenuation.
ROUNDING = 2e-4


def test_a_drift_is_taken_out(drifting):
    change = growing(stripes())
    ingest, flats, truth = drifting(change)
    assert errors(ingest, truth).max() > 0.045
    ingest.correct_drift(TIMES[0], [(TIMES[-1], flats(change[-1]))], TIMES)
    assert errors(ingest, truth).max() < ROUNDING
    some = ingest.store.rows(5, 9)
    assert np.abs(some - truth[5:9]).max() < ROUNDING
    frame = ingest.store.frame(30, 5, 9)
    assert np.abs(frame - truth[5:9, 30]).max() < ROUNDING


def test_a_straight_drift_in_counts_is_taken_out_nearly(drifting):
    change = 1 + np.linspace(0, 1, ANGLES)[:, None, None] * stripes()
    ingest, flats, truth = drifting(change)
    ingest.correct_drift(TIMES[0], [(TIMES[-1], flats(change[-1]))], TIMES)
    # The chord of the logarithm is off by 0.05^2 / 8 in the middle.
    assert errors(ingest, truth).max() < 0.05**2 / 8 * 1.1 + ROUNDING


def test_the_clock_tells_where_a_projection_stands_between_the_flats(drifting):
    # The beam stands still for the first half, while the stage settles, say.
    times = np.concatenate([np.zeros(20), np.linspace(0, 1, 20)])
    change = np.exp(times[:, None, None] * stripes())
    ingest, flats, truth = drifting(change)
    ingest.correct_drift(0.0, [(1.0, flats(change[-1]))], times)
    assert errors(ingest, truth).max() < ROUNDING


def test_frames_whose_beam_the_air_has_told_are_not_corrected_twice(drifting):
    # The whole beam falls by a fifth and tilts: the air on both sides shows it, up to
    # the limit that is still taken for air; from there on only the flats do.
    pattern = np.linspace(-0.25, -0.15, WIDTH)[None] + stripes()
    change = growing(pattern)
    ingest, flats, truth = drifting(change, air_columns_px=8)
    assert 10 < ingest.frames_without_air < 30
    ingest.correct_drift(TIMES[0], [(TIMES[-1], flats(change[-1]))], TIMES)
    assert errors(ingest, truth).max() < ROUNDING


@pytest.mark.parametrize(
    "settings",
    [
        {"binning": 2},
        {"rows": (4, 12)},
        {
            "distortion": DistortionSettings(
                centre_x_px=30.0, centre_y_px=9.0, coefficients=(1.0, 1e-3)
            )
        },
    ],
)
def test_the_drift_goes_through_the_chain_as_frames_do(drifting, settings):
    steady, _, _ = drifting(np.ones((ANGLES, ROWS, WIDTH)), **settings)
    change = growing(stripes())
    ingest, flats, _ = drifting(change, **settings)
    ingest.correct_drift(TIMES[0], [(TIMES[-1], flats(change[-1]))], TIMES)
    height = steady.store.height_px
    expected = steady.store.rows(0, height)
    assert np.abs(ingest.store.rows(0, height) - expected).max() < 2 * ROUNDING


def test_three_groups_are_interpolated_piece_by_piece(drifting):
    half = np.minimum(2 * TIMES / TIMES[-1], 1.0)
    other = np.maximum(2 * TIMES / TIMES[-1] - 1, 0.0)
    one, two = stripes(), stripes()[::-1]
    change = np.exp(half[:, None, None] * one + other[:, None, None] * two)
    ingest, flats, truth = drifting(change)
    middle, last = flats(np.exp(one)), flats(change[-1])
    ingest.correct_drift(TIMES[0], [(TIMES[-1] / 2, middle), (TIMES[-1], last)], TIMES)
    assert errors(ingest, truth).max() < ROUNDING


def test_a_pixel_that_dies_meanwhile_drifts_as_the_others_do(drifting):
    change = growing(np.full((ROWS, WIDTH), 0.04))
    ingest, flats, truth = drifting(change)
    after = change[-1].copy()
    after[3, 20] = 0
    ingest.correct_drift(TIMES[0], [(TIMES[-1], flats(after))], TIMES)
    assert errors(ingest, truth).max() < ROUNDING


def test_flats_of_a_lost_beam_are_refused_by_name(drifting):
    ingest, flats, _ = drifting(np.ones((ANGLES, ROWS, WIDTH)))
    with pytest.raises(DataError, match="scan: flats after the scan.*factor of 0.1 "):
        ingest.correct_drift(TIMES[0], [(TIMES[-1], flats(0.1))], TIMES)


def test_maps_and_weights_must_match():
    with pytest.raises(ValueError, match="do not match"):
        FlatDrift(np.zeros((2, 3, 4), np.float32), np.zeros((5, 1), np.float32), 2)
