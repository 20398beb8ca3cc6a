"""Guards on signals that need no IOC: what trips them, when, and only once."""

import logging
import threading

import pytest
from ophyd import Signal

from devices.errors import BeamLostError, DeviceError, MoveError, WriterError
from devices.guards import (
    DiskGuard,
    PeriodicGuard,
    RingCurrentGuard,
    SignalGuard,
    StallGuard,
    shutter_guard,
)

LONG_S = 10.0  # a guard that does not trip fails the test, it does not hang it


class Source:
    name = "source"

    def __init__(self, current_ma):
        self.ring_current = Signal(name="ring_current", value=current_ma)
        self.ring_current.put(current_ma)


class Shutter:
    name = "shutter"

    def __init__(self, state):
        self.state = Signal(name="state", value=state)
        self.state.put(state)


def failure_of(status):
    with pytest.raises(Exception) as caught:
        status.wait(LONG_S)
    return caught.value


def test_a_beam_that_is_lost_already_trips_at_once():
    guard = RingCurrentGuard(Source(0.0), 10.0)

    assert isinstance(failure_of(guard.trigger()), BeamLostError)


def test_a_beam_that_is_lost_later_trips_and_the_range_is_kept(caplog):
    source = Source(300.0)
    guard = RingCurrentGuard(source, 10.0)
    status = guard.trigger()
    source.ring_current.put(290.0)
    assert not status.done
    with caplog.at_level(logging.WARNING, logger="devices.guards"):
        source.ring_current.put(3.0)

    error = failure_of(status)

    assert "fell to 3 mA, below 10 mA" in str(error)
    assert guard.seen_ma == (3.0, 300.0)
    assert "beam_guard: the ring current fell" in caplog.text


def test_a_guard_that_is_released_fails_nothing():
    source = Source(300.0)
    guard = RingCurrentGuard(source, 10.0)
    status = guard.trigger()
    guard.release()
    source.ring_current.put(0.0)

    status.wait(LONG_S)
    assert not guard.watching


def test_a_guard_that_is_used_again_has_a_new_status():
    # A failure left in a used group would end the next attempt's first wait.
    source = Source(0.0)
    guard = RingCurrentGuard(source, 10.0)
    failed = guard.trigger()
    failure_of(failed)
    guard.release()
    source.ring_current.put(300.0)

    again = guard.trigger()

    assert again is not failed
    assert not again.done
    guard.release()
    again.wait(LONG_S)


def test_only_the_first_reason_counts():
    shutter = Shutter("Open")
    guard = shutter_guard(shutter)
    status = guard.trigger()
    shutter.state.put("Closing")
    shutter.state.put("Fault")

    assert "went to Closing" in str(failure_of(status))


def test_a_guard_whose_rule_fails_trips_instead_of_sleeping():
    signal = Signal(name="signal", value=1.0)
    signal.put(1.0)
    guard = SignalGuard("rule", signal, lambda value: 1 / 0)

    error = failure_of(guard.trigger())

    assert isinstance(error, DeviceError)
    assert "rule cannot judge 1.0: division by zero" in str(error)


class Check(PeriodicGuard):
    def __init__(self, answer):
        super().__init__("check")
        self.answer = answer
        self.looked = threading.Semaphore(0)

    def check(self):
        self.looked.release()
        return self.answer()


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr("devices.guards.WATCH_PERIOD_S", 0.005)


def broken():
    raise ValueError("no number")


def test_a_check_that_fails_trips_instead_of_ending_its_thread(often):
    error = failure_of(Check(broken).trigger())

    assert isinstance(error, DeviceError)
    assert str(error) == "check: no number"


def test_a_check_goes_on_until_it_is_released(often):
    guard = Check(lambda: None)
    status = guard.trigger()
    for _ in range(3):
        assert guard.looked.acquire(timeout=LONG_S)
    assert not status.done
    guard.release()
    status.wait(LONG_S)


def test_a_disk_with_too_little_room_is_named(tmp_path):
    folder = tmp_path / "not" / "made" / "yet"

    error = DiskGuard(folder, 10**18).check()

    assert isinstance(error, WriterError)
    assert "less than 1e+09 GB" in str(error)
    assert DiskGuard(folder, 0).check() is None


class Axis:
    name, egu = "rotation", "deg"

    def __init__(self):
        self.position, self.done = 0.0, 0
        self.motor_done_move = Signal(name="done")

    def place(self):
        return self.position


@pytest.fixture
def stalled(monkeypatch):
    """A stall guard, its axis, and a clock that the test turns."""
    now = [100.0]
    monkeypatch.setattr("devices.guards.time.monotonic", lambda: now[0])
    axis = Axis()
    axis.motor_done_move.put(0)
    guard = StallGuard(axis)
    guard._place, guard._until_s = 0.0, now[0] + 15.0
    return guard, axis, now


def test_a_motor_that_stands_while_it_moves_has_stalled(stalled):
    guard, axis, now = stalled
    now[0] += 14.0
    assert guard.check() is None, "it may take a while to begin"
    axis.position = 5.0
    assert guard.check() is None
    now[0] += 2.9
    assert guard.check() is None
    now[0] += 0.2
    assert isinstance(guard.check(), MoveError)


def test_a_motor_that_has_arrived_has_not_stalled(stalled):
    guard, axis, now = stalled
    now[0] += 60.0
    axis.motor_done_move.put(1)
    assert guard.check() is None


def test_a_guard_is_triggered_again_and_keeps_nothing_of_the_time_before():
    source = Source(300.0)
    guard = RingCurrentGuard(source, 10.0)
    for current_ma in (200.0, 250.0):
        source.ring_current.put(current_ma)
        status = guard.trigger()
        assert guard.seen_ma == (current_ma, current_ma)
        guard.release()
        status.wait(LONG_S)
        source.ring_current.put(0.0)  # nobody watches
    assert isinstance(failure_of(guard.trigger()), BeamLostError)


def test_a_check_that_outlasts_its_phase_does_not_trip_the_next(monkeypatch):
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()

    class Slow(PeriodicGuard):
        def check(self):
            if begun.is_set():
                return None
            begun.set()
            go_on.wait(LONG_S)
            threading.Timer(0.05, over.set).start()
            return WriterError("of the phase before")

    monkeypatch.setattr("devices.guards.WATCH_PERIOD_S", 0.01)
    guard = Slow("slow")
    first = guard.trigger()
    assert begun.wait(LONG_S)
    guard.release()
    first.wait(LONG_S)
    second = guard.trigger()
    go_on.set()
    assert over.wait(LONG_S)
    guard.release()
    second.wait(LONG_S)
