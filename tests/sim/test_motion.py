"""Stage motion against the equations of constant acceleration."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sim.motion import Axis

# A Unix time as double resolves 0.24 us: at 30 deg/s that is 7e-6 deg.
NOW_S = 1.8e9
TOLERANCE = 2e-5


def test_trapezoid_has_its_known_times_and_places() -> None:
    axis = Axis()
    # 100 at 20/s with 40/s2: 0.5 s and 5 units of run-up and run-down, 4.5 s cruise.
    end_s = axis.move_to(100.0, 0.0, 20.0, 40.0)
    assert end_s == pytest.approx(5.5)
    assert axis.position_at(0.5) == pytest.approx(5.0)
    assert axis.position_at(2.0) == pytest.approx(35.0)
    assert axis.velocity_at(3.0) == pytest.approx(20.0)
    assert axis.position_at(5.0) == pytest.approx(95.0)
    assert axis.position_at(6.0) == 100.0
    assert axis.velocity_at(6.0) == 0.0


def test_short_move_never_reaches_full_speed() -> None:
    axis = Axis()
    end_s = axis.move_to(-1.0, 0.0, 20.0, 4.0)
    assert end_s == pytest.approx(1.0)  # 0.5 s up to 2/s, 0.5 s down
    assert axis.velocity_at(0.5) == pytest.approx(-2.0)
    assert axis.position_at(1.5) == -1.0


def test_turns_back_after_braking() -> None:
    axis = Axis()
    axis.move_to(100.0, 0.0, 10.0, 10.0)
    end_s = axis.move_to(0.0, 3.0, 10.0, 10.0)  # at 25 with 10/s: brakes by 30
    assert axis.position_at(4.0) == pytest.approx(30.0)
    assert axis.position_at(end_s) == pytest.approx(0.0)
    assert end_s == pytest.approx(4.0 + 4.0)  # 30 back at 10/s and 10/s2


def test_stop_brakes_and_stays() -> None:
    axis = Axis()
    axis.move_to(100.0, 0.0, 10.0, 5.0)
    end_s = axis.stop(4.0, 5.0)
    assert end_s == pytest.approx(6.0)
    assert axis.position_at(100.0) == pytest.approx(axis.position_at(4.0) + 10.0)


def test_stalled_stage_stays_until_freed() -> None:
    axis = Axis()
    axis.move_to(100.0, 0.0, 10.0, 10.0)
    axis.stall(3.0)
    axis.move_to(50.0, 4.0, 10.0, 10.0)
    assert axis.position_at(60.0) == pytest.approx(25.0)
    axis.free()
    axis.move_to(50.0, 61.0, 10.0, 10.0)
    assert axis.position_at(70.0) == 50.0


targets = st.floats(-400, 400)
speeds = st.floats(0.05, 50)
times = st.floats(0.01, 30)


@given(targets, targets, speeds, speeds, times)
# So short a way that its peak speed is below the smallest double.
@example(0.0, 5e-324, 1.0, 0.25, 1.0)
def test_retargeted_motion_is_continuous_and_arrives(
    first: float, second: float, speed: float, other_speed: float, later_s: float
) -> None:
    axis = Axis()
    axis.move_to(first, NOW_S, speed, 2 * speed)
    change_s = NOW_S + later_s
    before = axis.position_at(change_s), axis.velocity_at(change_s)
    end_s = axis.move_to(second, change_s, other_speed, 2 * other_speed)
    assert axis.position_at(change_s) == pytest.approx(before[0], abs=TOLERANCE)
    assert axis.velocity_at(change_s) == pytest.approx(before[1], abs=1e-3)
    assert axis.position_at(end_s) == second
    # No step anywhere: not faster than either speed allows between samples.
    samples_s = np.linspace(NOW_S, end_s, 400)
    positions = [axis.position_at(t) for t in samples_s]
    fastest = max(speed, other_speed) * (samples_s[1] - samples_s[0])
    assert np.abs(np.diff(positions)).max() <= fastest + 1e-3


@given(st.floats(0.05, 50), st.floats(-200, 200), st.sampled_from([1, -1]))
def test_crossing_time_gives_back_the_position(
    speed: float, position: float, direction: int
) -> None:
    axis = Axis(-300.0 * direction)
    axis.move_to(300.0 * direction, NOW_S, speed, 2 * speed)
    crossed_s = axis.crossing_s(position, NOW_S, direction)
    assert crossed_s is not None
    # Half the resolution of a double of Unix time, at this speed.
    assert axis.position_at(crossed_s) == pytest.approx(
        position, abs=3e-7 * speed + 1e-9
    )
    assert axis.crossing_s(position, NOW_S, -direction) is None


def test_no_trigger_is_missed_where_speed_becomes_constant() -> None:
    axis = Axis(-5.0)
    # Run-up of exactly 5: the first position lies on the seam of two segments.
    axis.move_to(200.0, NOW_S, 10.0, 10.0)
    after_s = NOW_S
    for k in range(360):
        crossed_s = axis.crossing_s(0.5 * k, after_s, 1)
        assert crossed_s is not None, k
        after_s = crossed_s
