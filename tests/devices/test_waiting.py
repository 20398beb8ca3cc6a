"""Waiting for a signal: what ends it, and that a lost update does not."""

import logging

import pytest
from ophyd import Device, Signal

from devices import camera
from devices.errors import DeviceError
from devices.waiting import SignalStatus, in_thread

LONG_S = 10.0


class Readback(Signal):
    """A signal whose IOC knows more than its updates say."""

    def __init__(self, value):
        super().__init__(name="readback", value=value)
        self.pvname = "X:RBV"
        self.of_ioc = value
        self.asked = 0
        self.here = True

    @property
    def connected(self):
        return self.here

    def get(self, *, use_monitor=True, **kwargs):
        if use_monitor:
            return super().get(**kwargs)
        self.asked += 1
        if isinstance(self.of_ioc, Exception):
            raise self.of_ioc
        return self.of_ioc


@pytest.fixture
def readback(monkeypatch):
    monkeypatch.setattr("devices.waiting.REREAD_S", 0.005)
    readback = Readback(0)
    readback.put(0)
    return readback


def waiting(readback, timeout_s=LONG_S, **changes):
    return SignalStatus(
        Device(name="device"),
        readback,
        lambda value: value == 1,
        timeout_s=timeout_s,
        what="the thing to happen",
        **changes,
    )


def test_an_update_ends_it(readback):
    status = waiting(readback)
    readback.put(1)
    status.wait(LONG_S)


def test_a_value_that_no_update_brings_is_asked_for(readback):
    status = waiting(readback)
    readback.of_ioc = 1
    status.wait(LONG_S)
    assert readback.asked


def test_an_ioc_that_is_gone_ends_a_wait_that_needs_it(readback):
    readback.of_ioc = TimeoutError("no answer")
    status = waiting(readback, away_s=0.03)
    readback.here = False
    with pytest.raises(DeviceError, match="device: X:RBV went away while .* happen"):
        status.wait(LONG_S)


def test_a_camera_that_is_gone_ends_the_wait_for_its_file(readback, monkeypatch):
    monkeypatch.setattr(camera, "REREAD_S", 0.005)
    monkeypatch.setattr(camera, "AWAY_S", 0.03)
    readback.of_ioc = TimeoutError("no answer")
    readback.here = False
    with pytest.raises(DeviceError, match="readback: X:RBV went away"):
        camera._wait_for(readback, 1, LONG_S, "the file to close")


def test_an_ioc_that_comes_back_in_time_ends_nothing(readback):
    readback.of_ioc = TimeoutError("no answer")
    readback.here = False
    status = waiting(readback, away_s=LONG_S)
    while readback.asked < 2:
        pass
    readback.here, readback.of_ioc = True, 1
    status.wait(LONG_S)


def test_an_ioc_that_does_not_answer_for_a_while_ends_nothing(readback, caplog):
    readback.of_ioc = TimeoutError("no answer")
    with caplog.at_level(logging.WARNING, logger="devices.waiting"):
        status = waiting(readback)
        while readback.asked < 3:
            pass
    assert not status.done
    assert "no answer" in caplog.text
    readback.of_ioc = 1
    status.wait(LONG_S)


def test_too_late_says_what_was_waited_for_and_what_reads(readback):
    status = waiting(readback, timeout_s=0.02)
    with pytest.raises(DeviceError, match=r"0\.02 s for the thing .* X:RBV reads 0"):
        status.wait(LONG_S)


def test_a_value_that_means_never_ends_it_at_once(readback):
    status = waiting(readback, refused=lambda value: value == 7)
    readback.put(7)
    with pytest.raises(DeviceError, match="X:RBV reads 7"):
        status.wait(LONG_S)


def test_only_changes_count_where_the_present_value_means_nothing(readback):
    readback.put(1)
    status = waiting(readback, run=False)
    assert not status.done
    readback.put(0)
    readback.put(1)
    status.wait(LONG_S)


def test_what_a_thread_raises_is_the_failure_of_its_status():
    def work():
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        in_thread(Device(name="device"), work, LONG_S).wait(LONG_S)
