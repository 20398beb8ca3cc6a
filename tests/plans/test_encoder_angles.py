"""Angles from encoder samples against motions that are known exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import FramesLostError
from plans.encoder_angles import angles_of_frames, check_sampled_angles

SPEED_DEG_S, PERIOD_S, EXPOSURE_S, NUMBER = 20.0, 0.05, 0.04, 180
STEP_DEG = SPEED_DEG_S * PERIOD_S
STARTED_S = 100.0
FRAMES_S = STARTED_S + 0.3 + PERIOD_S * np.arange(NUMBER)
TIMES_S = np.arange(98.0, 112.0, 0.1)


def steady(time_s):
    return SPEED_DEG_S * (time_s - STARTED_S)


def found(times_s=TIMES_S, positions_deg=None, frames_s=FRAMES_S, **changes):
    settings = {
        "exposure_time_s": EXPOSURE_S,
        "started_s": STARTED_S,
        "tolerance_deg": 0.5 * STEP_DEG,
        "latest_deg": 200.0,
        **changes,
    }
    if positions_deg is None:
        positions_deg = steady(times_s)
    return angles_of_frames(frames_s, times_s, positions_deg, **settings)


def test_a_steady_turn_is_known_exactly():
    angles = found()

    # Rounding only: 20 deg/s times the 15 ns to which a double holds 100 s.
    assert angles.angles_deg == pytest.approx(steady(FRAMES_S), abs=1e-6)
    assert angles.error_deg < 1e-6
    assert angles.longest_gap_s == pytest.approx(0.1)


@given(
    ripple_deg=st.floats(0, 0.3),
    ripple_period_s=st.floats(0.5, 5),
    phase=st.floats(0, 6.28),
    late_s=st.floats(0, 0.005),
    seed=st.integers(0, 1000),
)
def test_no_angle_is_further_off_than_is_said(
    ripple_deg, ripple_period_s, phase, late_s, seed
):
    def uneven(time_s):
        return steady(time_s) + ripple_deg * np.sin(
            2 * np.pi * time_s / ripple_period_s + phase
        )

    # Stamps that come late by a random time, as those of a loaded IOC.
    stamps_s = TIMES_S + late_s * np.random.default_rng(seed).random(TIMES_S.size)
    angles = found(stamps_s, uneven(TIMES_S), tolerance_deg=100.0)

    error_deg = angles.angles_deg - uneven(FRAMES_S)
    # A lag common to all stamps is not seen: half the spread of the lags, at most.
    common_deg = late_s * (SPEED_DEG_S + 2 * np.pi * ripple_deg / ripple_period_s)
    assert np.abs(error_deg).max() <= angles.error_deg + common_deg


def test_a_constant_lag_turns_all_angles_alike():
    error_deg = found(TIMES_S + 0.01, steady(TIMES_S)).angles_deg - steady(FRAMES_S)

    assert error_deg == pytest.approx(np.full(NUMBER, -0.2), abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"times_s": TIMES_S[::40]}, "too few"),
        ({"times_s": np.array([])}, "cover nothing"),
        ({"times_s": TIMES_S[TIMES_S < 105]}, r"cover -2.300 to .* clocks .* differ"),
        ({"frames_s": FRAMES_S - 1.0}, "stamped 0.700 s before the camera was told"),
        ({"frames_s": FRAMES_S + 60.0}, "clocks"),
        ({"times_s": np.append(TIMES_S[:80], TIMES_S[70:])}, "the clock .* was set"),
        ({"latest_deg": 180.0}, "5.8 deg after .* raise camera_start_max_s"),
    ],
    ids=["few", "none", "cut", "clock behind", "clock ahead", "clock set", "late"],
)
def test_what_cannot_be_told_fails_with_the_reason(changes, said):
    with pytest.raises(FramesLostError, match=said):
        found(**changes)


def test_a_gap_in_an_uneven_turn_fails_with_the_reason():
    def uneven(time_s):
        return steady(time_s) + 0.2 * np.sin(2 * np.pi * time_s)

    whole = found(TIMES_S, uneven(TIMES_S))
    kept = (TIMES_S < 103) | (TIMES_S > 104.5)

    assert whole.error_deg < 0.5 * STEP_DEG
    with pytest.raises(FramesLostError, match=r"gap between encoder samples is 1\.6 s"):
        found(TIMES_S[kept], uneven(TIMES_S[kept]))


def test_the_bound_is_the_gap_times_the_speeds_and_the_worst_miss():
    late_s = 0.004 * (np.arange(TIMES_S.size) % 2)

    angles = found(TIMES_S + late_s, steady(TIMES_S))

    # Every other stamp is 4 ms late: gaps of 96 and 104 ms for 2 deg each, and each
    # sample lies 20 deg/s x 4 ms from the line through its neighbours.
    uneven_deg = 0.104 * (2 / 0.096 - 2 / 0.104) / 4
    assert angles.error_deg == pytest.approx(uneven_deg + 0.08, rel=1e-6)


def test_a_sample_that_comes_twice_counts_once():
    doubled_s = np.repeat(TIMES_S, 2)

    assert found(doubled_s).angles_deg == pytest.approx(steady(FRAMES_S), abs=1e-6)


NOMINAL = (0.0, STEP_DEG, NUMBER)
GOOD_DEG = 3.0 + STEP_DEG * np.arange(NUMBER)


@pytest.mark.parametrize(
    ("angles_deg", "said"),
    [
        (GOOD_DEG[:-1], "179 angles"),
        (np.where(np.arange(NUMBER) < 90, GOOD_DEG, GOOD_DEG + 0.6), "frame 90 was"),
        (3.0 + 0.98 * STEP_DEG * np.arange(NUMBER), "cover 176"),
        (GOOD_DEG - 4.0, "before 0 deg"),
    ],
    ids=["count", "jump", "short", "early"],
)
def test_frames_that_do_not_go_round_evenly_fail(angles_deg, said):
    with pytest.raises(FramesLostError, match=said):
        check_sampled_angles(angles_deg, NOMINAL, tolerance_deg=0.5 * STEP_DEG)


@pytest.mark.parametrize("sign", [1, -1])
def test_frames_that_begin_late_but_go_round_pass(sign):
    check_sampled_angles(
        sign * GOOD_DEG,
        (0.0, sign * STEP_DEG, NUMBER),
        tolerance_deg=0.5 * STEP_DEG,
    )
