"""The simulated motor records, driven as ophyd drives real ones."""

import threading
from typing import Any

import pytest


@pytest.fixture(scope="module")
def rotation(simulated_beamline: Any) -> Any:
    from ophyd import EpicsMotor

    motor = EpicsMotor(simulated_beamline.pvs.rotation, name="rotation")
    motor.wait_for_connection(timeout=20)
    motor.velocity.set(30.0).wait(5)
    return motor


def test_move_arrives_exactly(rotation: Any) -> None:
    for target in (12.5, -7.25, 0.0):
        rotation.move(target, wait=True, timeout=20)
        assert rotation.position == target
        assert not rotation.moving


def test_move_to_the_same_place_still_reports_done(rotation: Any) -> None:
    rotation.move(3.0, wait=True, timeout=20)
    seen: list[int] = []
    token = rotation.motor_done_move.subscribe(lambda value, **_: seen.append(value))
    rotation.move(3.0, wait=True, timeout=20)
    rotation.motor_done_move.unsubscribe(token)
    assert 0 in seen
    assert seen[-1] == 1


def test_readback_is_stamped_with_the_simulated_clock(rotation: Any) -> None:
    """At constant speed the stamps, not the wall clock, give the speed asked for."""
    rotation.move(-30.0, wait=True, timeout=20)
    rotation.velocity.set(6.0).wait(5)
    points: list[tuple[float, float]] = []
    token = rotation.user_readback.subscribe(
        lambda value, timestamp, **_: points.append((timestamp, value)), run=False
    )
    rotation.move(90.0, wait=True, timeout=20)
    rotation.user_readback.unsubscribe(token)
    rotation.velocity.set(30.0).wait(5)
    cruising = [(t, x) for t, x in points if -20 < x < 80]
    assert len(cruising) >= 3
    (t0, x0), (t1, x1) = cruising[0], cruising[-1]
    # 1 ms of event loop between reading the clock and stamping, at most 2 % here.
    assert (x1 - x0) / (t1 - t0) == pytest.approx(6.0, rel=0.05)


def test_stop_leaves_the_stage_where_it_braked(rotation: Any) -> None:
    rotation.move(0.0, wait=True, timeout=20)
    rotation.velocity.set(2.0).wait(5)
    status = rotation.move(300.0, wait=False)
    moved = threading.Event()
    token = rotation.user_readback.subscribe(
        lambda value, **_: moved.set() if value > 0 else None, run=False
    )
    assert moved.wait(20)
    rotation.user_readback.unsubscribe(token)
    rotation.stop()
    status.wait(20)
    rotation.velocity.set(30.0).wait(5)
    assert 0 < rotation.position < 300
    assert rotation.user_setpoint.get() == rotation.position


def test_limits_are_those_that_ophyd_reads(simulated_beamline: Any) -> None:
    import epics
    from ophyd import EpicsMotor
    from ophyd.utils import LimitError

    stage = EpicsMotor(simulated_beamline.pvs.sample_x, name="sample_x")
    stage.wait_for_connection(timeout=20)
    assert stage.limits == (-50.0, 50.0)
    assert stage.high_limit_travel.get() == 50.0
    with pytest.raises(LimitError):
        stage.move(51.0, wait=True, timeout=5)
    # Past ophyd's own check the record refuses as well, and does not move.
    epics.caput(simulated_beamline.pvs.sample_x, 51.0, wait=True)
    assert stage.position == 0.0
    assert stage.egu == "mm"
