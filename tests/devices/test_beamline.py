import threading
import time

import pytest

from devices.beamline import (
    connect_beamline,
    missing_pvs,
    wait_for_connection,
)
from devices.errors import NotConnectedError
from devices.panda import PandA
from devices.pvs import simulated_pvs
from devices.zebra import Zebra


def test_every_reading_has_a_unit(beamline):
    missing = []
    for device in beamline.devices():
        for key, description in device.describe().items():
            if description["dtype"] != "number":
                continue
            if not description.get("units"):
                missing.append(key)
    assert not missing


def test_missing_process_variables_are_all_named_in_one_error(simulated_beamline):
    pvs = simulated_beamline.pvs.model_copy(
        update={"shutter": "SIM:NO:SHTR:", "ring_current": "SIM:NO:CURRENT"}
    )
    began_s = time.monotonic()
    with pytest.raises(NotConnectedError) as caught:
        connect_beamline(pvs, timeout_s=2.0)
    took_s = time.monotonic() - began_s

    message = str(caught.value)
    assert message.startswith("3 process variable(s) did not answer within 2 s")
    for name in ("SIM:NO:SHTR:STA", "SIM:NO:SHTR:CON", "SIM:NO:CURRENT"):
        assert name in message
    assert "SIM:ROT" not in message
    assert "shutter:" in message
    assert "source:" in message
    # One wait for all of them, not one after another (6 s and more).
    assert took_s < 5


def test_a_device_that_is_missing_as_a_whole_is_named_once(simulated_beamline):
    pvs = simulated_beamline.pvs.model_copy(update={"rotation": "SIM:NO:ROT"})
    with pytest.raises(NotConnectedError) as caught:
        connect_beamline(pvs, timeout_s=2.0)
    assert "rotation: all 20 of SIM:NO:ROT.*" in str(caught.value)


def test_a_wait_that_is_given_up_tells_what_was_missing(simulated_beamline):
    pvs = simulated_beamline.pvs.model_copy(update={"shutter": "SIM:NO:SHTR:"})
    give_up = threading.Event()
    give_up.set()
    # Far longer than the test may take: only giving up ends it.
    with pytest.raises(NotConnectedError, match="did not answer: .*SIM:NO:SHTR:STA"):
        connect_beamline(pvs, timeout_s=3600.0, give_up=give_up)


@pytest.mark.parametrize(
    ("kind", "unit"), [("zebra", Zebra), ("panda", PandA), (None, type(None))]
)
def test_the_position_compare_is_the_one_that_is_configured(
    simulated_beamline, kind, unit
):
    beamline = connect_beamline(simulated_pvs("SIM:", kind), timeout_s=20)

    assert type(beamline.position_compare) is unit
    assert None not in beamline.devices()


def test_nothing_is_missing_where_every_ioc_runs(beamline):
    assert missing_pvs(beamline) == {}
    wait_for_connection(beamline, 10.0)
