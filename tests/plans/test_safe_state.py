"""Order and completeness of the safe state, whatever fails."""

from types import SimpleNamespace

import pytest
from bluesky.simulators import RunEngineSimulator
from ophyd.status import Status

from devices.errors import DeviceError
from plans.safe_state import make_safe, safe_state

ORDER = [
    "potentiostat",
    "shutter",
    "rotation",
    "sample_stage_x",
    "sample_stage_y",
    "position_compare",
    "camera",
]


class Recorder:
    """A device that notes what it is told; `broken` ones raise at everything."""

    parent = None

    def __init__(self, name, calls, broken=False):
        self.name, self.calls, self.broken = name, calls, broken

    def _do(self, what):
        self.calls.append((self.name, what))
        if self.broken:
            raise ConnectionError(f"{self.name} is gone")

    def _status(self, what):
        self._do(what)
        status = Status()
        status.set_finished()
        return status

    def stop(self, *, success=False):
        self._do("stop")

    def open_relay(self):
        return self._status("open_relay")

    def set(self, value):
        return self._status(f"set {value}")

    def stopped(self):
        return self._status("stopped")

    def closed(self):
        return self._status("closed")

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(f"{self.name}.{name} was asked for before it was safe")


@pytest.fixture
def calls():
    return []


def recorders(calls, broken=()):
    made = {name: Recorder(name, calls, name in broken) for name in ORDER}
    stage = SimpleNamespace(x=made.pop("sample_stage_x"), y=made.pop("sample_stage_y"))
    return SimpleNamespace(sample_stage=stage, **made)


def test_the_relay_is_opened_first_and_nothing_is_read_before():
    messages = RunEngineSimulator().simulate_plan(safe_state(recorders([])))

    assert messages[0].command == "stop"
    assert messages[0].obj.name == "potentiostat"
    stops = [m.obj.name for m in messages if m.command == "stop"]
    assert stops == ORDER


@pytest.mark.parametrize("broken", [*ORDER, tuple(ORDER)])
def test_a_broken_device_keeps_no_other_from_being_stopped(RE, calls, broken):
    broken = (broken,) if isinstance(broken, str) else broken
    with pytest.raises(DeviceError, match=f"{broken[0]} is gone"):
        RE(safe_state(recorders(calls, broken)))
    assert [name for name, what in calls if what == "stop"] == ORDER
    confirmed = {name for name, what in calls if what != "stop"}
    assert confirmed == {"potentiostat", "shutter", "rotation", "camera"}


@pytest.mark.parametrize("broken", [(), *[(name,) for name in ORDER], tuple(ORDER)])
def test_the_same_without_a_run_engine(calls, broken):
    beamline = recorders(calls, broken)
    if broken:
        with pytest.raises(DeviceError, match="Look at these devices yourself"):
            make_safe(beamline)
    else:
        make_safe(beamline)
    assert [name for name, what in calls if what == "stop"] == ORDER


def test_the_devices_themselves_are_made_safe(RE, beamline):
    beamline.shutter.set("Open").wait(20)
    beamline.rotation.set_velocity(1.0).wait(10)
    moving = beamline.rotation.set(beamline.rotation.place() + 100)

    assert RE(safe_state(beamline)).exit_status == "success"

    assert moving.exception(5) is not None
    assert beamline.shutter.state.get() == "Closed"
    assert beamline.potentiostat.relay_readback.get() == "Open"
    assert beamline.rotation.motor_done_move.get(use_monitor=False) == 1
    beamline.rotation.set_velocity(30.0).wait(10)
    beamline.rotation.set(0.0).wait(30)
