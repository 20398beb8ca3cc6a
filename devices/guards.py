"""Guards: statuses that fail the moment something a scan rests on is gone.

A plan triggers them in a group of their own and lets its waits watch that group. They
act in Channel Access callbacks and threads, so a busy RunEngine delays nothing, and
nothing is ever suspended or replayed.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ophyd.status import Status

from .errors import BeamLostError, DeviceError, MoveError, WriterError

WATCH_PERIOD_S = 0.5
# A motor that says it moves posts its position many times a second.
STALL_S = 3.0
# Time for the camera to wait for triggers and the motor to begin.
START_S = 15.0

logger = logging.getLogger(__name__)


class Guard:
    """One thing to watch; trigger begins, release ends without failing."""

    parent = None

    def __init__(self, name: str) -> None:
        self.name = name
        self._status: Status | None = None
        self._lock = threading.Lock()

    def trigger(self) -> Status:
        """Begin to watch; the status fails when the guard trips."""
        with self._lock:
            status = self._status = Status()
        self._begin()
        return status

    def release(self) -> None:
        """Stop watching; the status succeeds unless the guard has tripped."""
        self._end()
        self._finish(None)

    def trip(self, error: Exception) -> None:
        """Fail the status; only the first failure counts."""
        self._finish(error)

    @property
    def watching(self) -> bool:
        """Return whether the guard has been triggered and neither ended nor failed."""
        return self._status is not None

    def _finish(self, error: Exception | None) -> None:
        with self._lock:
            status, self._status = self._status, None
        if status is None:
            return
        if error is None:
            status.set_finished()
        else:
            # Before anything reacts: the log then tells how long the reaction took.
            logger.warning("%s: %s", self.name, error)
            status.set_exception(error)

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class SignalGuard(Guard):
    """Trips when a monitored value is not as it must be, or its IOC is gone.

    Parameters
    ----------
    name : str
        Of the guard.
    signal : ophyd signal
        Monitored; its present value counts.
    judge : callable
        Returns the error a value means, None while all is well.
    """

    def __init__(
        self, name: str, signal: Any, judge: Callable[[Any], Exception | None]
    ) -> None:
        super().__init__(name)
        self._signal = signal
        self._judge = judge

    def _begin(self) -> None:
        self._signal.subscribe(self._changed, run=True)
        self._signal.subscribe(
            self._connection, event_type=self._signal.SUB_META, run=True
        )

    def _end(self) -> None:
        self._signal.clear_sub(self._changed)
        self._signal.clear_sub(self._connection, event_type=self._signal.SUB_META)

    def _changed(self, value: Any = None, **_kwargs: Any) -> None:
        if value is None or not self.watching:
            return
        try:
            error = self._judge(value)
        except Exception as failed:  # noqa: BLE001 - a guard that fails guards nothing
            error = DeviceError(f"{self.name} cannot judge {value!r}: {failed}")
        if error is not None:
            self.trip(error)

    def _connection(self, connected: bool = True, **_kwargs: Any) -> None:
        if not connected:
            self.trip(
                DeviceError(
                    f"{self._signal.pvname} is gone: its IOC or the network stopped;"
                    " bring it back, then retake"
                )
            )


class PeriodicGuard(Guard):
    """Trips when a check made about twice a second returns an error."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._released = threading.Event()

    def _begin(self) -> None:
        self._released = released = threading.Event()

        def watch() -> None:
            while not released.wait(WATCH_PERIOD_S) and self.watching:
                try:
                    error = self.check()
                except Exception as failed:  # noqa: BLE001 - it would guard no more
                    error = DeviceError(f"{self.name}: {failed}")
                # A check that took long may belong to a phase that is over.
                if error is not None and not released.is_set():
                    self.trip(error)

        threading.Thread(target=watch, daemon=True, name=self.name).start()

    def _end(self) -> None:
        self._released.set()

    def check(self) -> Exception | None:
        """Return what is wrong, None while all is well."""
        raise NotImplementedError


class DiskGuard(PeriodicGuard):
    """Trips when the file system of `directory` has less than `free_min_bytes`.

    Attributes
    ----------
    directory : Path
        Where files are written; set before a trigger.
    """

    def __init__(self, directory: Path, free_min_bytes: int) -> None:
        super().__init__("disk_guard")
        self.directory = directory
        self._free_min_bytes = free_min_bytes

    def check(self) -> Exception | None:
        """Compare the free space with the least allowed."""
        directory = self.directory
        while not directory.exists() and directory != directory.parent:
            directory = directory.parent
        free_bytes = shutil.disk_usage(directory).free
        if free_bytes >= self._free_min_bytes:
            return None
        return WriterError(
            f"{directory} has {free_bytes / 1e9:.3g} GB free, less than"
            f" {self._free_min_bytes / 1e9:.3g} GB: make room, then retake"
        )


class StallGuard(PeriodicGuard):
    """Trips when a motor that should turn stands still."""

    def __init__(self, axis: Any) -> None:
        super().__init__(f"{axis.name}_guard")
        self._axis = axis
        self._place = 0.0
        self._until_s = 0.0

    def _begin(self) -> None:
        self._place = self._axis.place()
        self._until_s = time.monotonic() + START_S
        super()._begin()

    def check(self) -> Exception | None:
        """Compare the position with the last one."""
        place = self._axis.place()
        now_s = time.monotonic()
        if place != self._place:
            self._place = place
            self._until_s = now_s + STALL_S
            return None
        if now_s < self._until_s:
            return None
        if self._axis.motor_done_move.get() == 1:
            # It stands because it has arrived, or its own status says why.
            return None
        return MoveError(
            f"{self._axis.name} has stood at {place:g} {self._axis.egu} for over"
            f" {STALL_S:g} s although it moves: free it, then retake"
        )


class RingCurrentGuard(SignalGuard):
    """Trips when the beam is lost; keeps the lowest and highest current seen.

    Parameters
    ----------
    source : Device
        A `devices.source.Source`.
    lowest_ma : float
        Less than this is a lost beam.
    """

    def __init__(self, source: Any, lowest_ma: float) -> None:
        super().__init__("beam_guard", source.ring_current, self._lost)
        self._lowest_ma = lowest_ma
        self.seen_ma: tuple[float, float] | None = None

    def _lost(self, value: Any) -> Exception | None:
        current_ma = float(value)
        low, high = self.seen_ma or (current_ma, current_ma)
        self.seen_ma = (min(low, current_ma), max(high, current_ma))
        if current_ma >= self._lowest_ma:
            return None
        return BeamLostError(
            f"the ring current fell to {current_ma:g} mA, below"
            f" {self._lowest_ma:g} mA: the scan is retaken when the beam is back"
        )

    def _begin(self) -> None:
        self.seen_ma = None
        super()._begin()


def shutter_guard(shutter: Any) -> SignalGuard:
    """Return a guard that trips when an open shutter leaves that state."""

    def judge(state: Any) -> Exception | None:
        if state == "Open":
            return None
        return BeamLostError(
            f"{shutter.name} went to {state} while frames were taken: the scan is"
            " retaken once it can be opened"
        )

    return SignalGuard("shutter_guard", shutter.state, judge)


def connection_guards(signals: Sequence[Any]) -> list[Guard]:
    """Return guards that trip when the IOC of any of `signals` is gone."""
    return [
        SignalGuard(f"{signal.name}_guard", signal, lambda _value: None)
        for signal in signals
    ]
