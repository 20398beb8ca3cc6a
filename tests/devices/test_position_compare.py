"""What is common to all units that compare positions, on signals without an IOC."""

import pytest
from ophyd import Component, Signal
from ophyd.status import Status

from devices.errors import FramesLostError
from devices.position_compare import PositionCompare, TriggerSeries

SERIES = TriggerSeries(start_deg=0.0, step_deg=1.0, number=10, duration_s=60.0)
LONG_S = 10.0


class Unit(PositionCompare):
    """A unit whose IOC goes away once it is armed."""

    armed = Component(Signal, value=0)
    num_latched = Component(Signal, value=0)

    def write_series(self, series):
        status = Status()
        status.set_finished()
        return status

    def put_armed(self, armed):
        if not armed:
            raise TimeoutError("not connected")
        self.armed.put(1)


def test_no_wait_outlasts_a_stop_though_the_unit_is_gone():
    unit = Unit(name="unit")
    unit.prepare(SERIES).wait(LONG_S)
    unit.kickoff().wait(LONG_S)
    latched = unit.complete()
    with pytest.raises(TimeoutError):
        unit.stop()
    with pytest.raises(FramesLostError, match="stopped before 10 triggers"):
        latched.wait(LONG_S)
