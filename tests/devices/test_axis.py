"""Moves over real Channel Access on the simulated motor records."""

import pytest
from ophyd.utils.errors import LimitError

from devices.errors import MoveError
from devices.rotation import Sweep


def test_a_move_arrives(beamline):
    x = beamline.sample_stage.x
    x.set(1.5).wait(20)
    assert x.place() == pytest.approx(1.5, abs=x.tolerance)
    x.set(0.0).wait(20)


def test_a_target_beyond_the_limits_is_refused_before_anything_is_written(beamline):
    x = beamline.sample_stage.x
    low, high = x.limits
    before = x.user_setpoint.get()
    with pytest.raises(LimitError) as caught:
        x.set(high + 1)
    message = str(caught.value)
    assert "sample_stage_x" in message
    assert f"{high + 1:g} mm" in message
    assert f"{low:g} to {high:g} mm" in message
    assert x.user_setpoint.get(use_monitor=False) == before


def test_a_target_that_is_no_number_is_refused(beamline):
    with pytest.raises(ValueError, match="finite"):
        beamline.rotation.set(float("nan"))


def test_a_stopped_move_does_not_count_as_arrived(beamline):
    # ophyd's own status says success here: DMOV=1 looks like the end of a move.
    rotation = beamline.rotation
    rotation.set_velocity(1.0).wait(10)
    status = rotation.set(rotation.place() + 100)
    rotation.stop()
    with pytest.raises(MoveError, match="stands at .* deg instead of"):
        status.wait(20)
    rotation.stopped().wait(10)
    rotation.set_velocity(30.0).wait(10)
    rotation.set(0.0).wait(30)


def test_a_move_whose_record_falls_silent_still_ends(beamline, monkeypatch):
    def silent(*_args, **_kwargs):
        raise TimeoutError("not connected")

    rotation = beamline.rotation
    rotation.set_velocity(1.0).wait(10)
    status = rotation.set(rotation.place() + 100)
    with monkeypatch.context() as patch:
        patch.setattr(rotation.user_readback, "get", silent)
        rotation.stop()
        with pytest.raises(MoveError, match="it was stopped, stalled"):
            status.wait(20)
    rotation.stopped().wait(10)
    rotation.set_velocity(30.0).wait(10)
    rotation.set(0.0).wait(30)


def test_a_speed_beyond_the_motors_is_refused(beamline):
    rotation = beamline.rotation
    fastest = rotation.velocity_max.get()
    assert fastest > 0
    rotation.set(0.0).wait(30)
    with pytest.raises(ValueError, match=f"at most {fastest:g} deg/s"):
        rotation.prepare(Sweep(0.0, 180.0, fastest * 2))


def test_a_sweep_starts_where_the_motor_stands(beamline):
    rotation = beamline.rotation
    rotation.set(0.0).wait(30)
    with pytest.raises(ValueError, match="starts there: move it first"):
        rotation.prepare(Sweep(-10.0, 190.0, 5.0))
    with pytest.raises(RuntimeError, match="call prepare first"):
        rotation.kickoff()


def test_a_timeout_follows_from_the_way_and_the_speed(beamline):
    rotation = beamline.rotation
    rotation.set_velocity(10.0).wait(10)
    ramp_s = rotation.ramp_time_s()
    assert rotation.travel_time_s(180) == pytest.approx(18 + 2 * ramp_s)
    assert rotation.travel_time_s(-180, 20) == pytest.approx(9 + 2 * ramp_s)
    rotation.set_velocity(30.0).wait(10)
