"""Waiting for signals, in words: what was waited for, what came instead."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ophyd import Device
from ophyd.status import DeviceStatus

from .errors import DeviceError

REREAD_S = 1.0
SET_TIMEOUT_S = 10.0
# An IOC that is away for longer is not waited for where nothing can go on without it.
AWAY_S = 10.0

logger = logging.getLogger(__name__)


class SignalStatus(DeviceStatus):
    """Done when a monitored signal has the wanted value.

    Parameters
    ----------
    device : Device
        Named in the error.
    signal : ophyd signal
        Monitored; its present value counts.
    wanted : callable
        Tells whether a value is the wanted one.
    timeout_s : float
        Longest wait.
    what : str
        What is waited for, as in "the shutter to open".
    refused : callable, optional
        Tells whether a value means that it will never come.
    run : bool
        Whether the present value counts; else only changes that are monitored.
    away_s : float, optional
        How long the signal may be disconnected; until the end when left out.
    """

    def __init__(
        self,
        device: Device,
        signal: Any,
        wanted: Callable[[Any], bool],
        *,
        timeout_s: float,
        what: str,
        refused: Callable[[Any], bool] | None = None,
        run: bool = True,
        away_s: float | None = None,
    ) -> None:
        super().__init__(device, call_stop_on_failure=False)
        self._signal = signal
        self._wanted = wanted
        self._what = what
        self._timeout_s = timeout_s
        self._refused = refused
        self._away_s = away_s
        self._ending = threading.Lock()
        self._over = False
        self._seen: Any = "nothing"
        self._ended = threading.Event()
        signal.subscribe(self._changed, run=run)
        threading.Thread(
            target=self._reread, args=(run,), daemon=True, name=f"{device.name} waits"
        ).start()

    def finish(self) -> None:
        """End the wait because something else shows that it is over."""
        self._end(None)

    def fail(self, error: Exception) -> None:
        """End the wait because what it needs has failed."""
        self._end(error)

    def _changed(self, value: Any = None, **_kwargs: Any) -> None:
        if value is None:
            return
        self._seen = value
        if self._wanted(value):
            self._end(None)
        elif self._refused is not None and self._refused(value):
            self._end(
                DeviceError(
                    f"{self.device.name}: waited for {self._what}, but"
                    f" {self._signal.pvname} reads {value!r}: look at the device,"
                    " clear its fault, then go on"
                )
            )

    def _reread(self, run: bool) -> None:
        """Ask the IOC itself now and then: an update may be lost on its way."""
        connected_s = time.monotonic()
        deadline_s = connected_s + self._timeout_s
        while not self._ended.wait(
            max(min(REREAD_S, deadline_s - time.monotonic()), 0.01)
        ):
            if run:
                try:
                    self._changed(self._signal.get(use_monitor=False))
                except Exception as error:  # noqa: BLE001 - the deadline decides
                    logger.warning("%s: %s", self.device.name, error)
            now_s = time.monotonic()
            if self._signal.connected:
                connected_s = now_s
            elif self._away_s is not None and now_s - connected_s >= self._away_s:
                self._end(gone(self.device.name, self._signal, self._what))
            if time.monotonic() >= deadline_s:
                self._too_late()

    def _too_late(self) -> None:
        # What was seen last: to read now could block, or fail and end nothing.
        self._end(
            DeviceError(
                f"{self.device.name}: waited {self._timeout_s:g} s for {self._what};"
                f" {self._signal.pvname} reads {self._seen!r}: check the"
                " device and its IOC"
            )
        )

    def _end(self, error: Exception | None) -> None:
        with self._ending:
            if self._over:
                return
            self._over = True
        # Outside the lock: callbacks may come back here.
        if error is None:
            self.set_finished()
        else:
            self.set_exception(error)

    def _settled(self) -> None:
        self._ended.set()
        self._signal.clear_sub(self._changed)
        super()._settled()


def gone(name: str, signal: Any, what: str) -> DeviceError:
    """Return the error of a wait whose signal is disconnected."""
    return DeviceError(
        f"{name}: {signal.pvname} went away while it was waited for {what}: its IOC or"
        " the network stopped; bring it back and look at the device"
    )


def in_thread(device: Device, work: Callable[[], None], timeout_s: float) -> Any:
    """Run `work` beside the RunEngine, which must stay free to watch guards.

    Returns
    -------
    DeviceStatus
        Done when `work` has returned, failed with what it raised.
    """
    status = DeviceStatus(device, call_stop_on_failure=False, timeout=timeout_s)

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - handed on by the status
            status.set_exception(error)
        else:
            status.set_finished()

    threading.Thread(target=run, daemon=True, name=device.name).start()
    return status


def write_settings(name: str, settings: list[tuple[Any, Any]]) -> None:
    """Write all settings at once and wait until each reads back."""
    statuses = [
        (signal, value, signal.set(value, timeout=SET_TIMEOUT_S))
        for signal, value in settings
    ]
    for signal, value, status in statuses:
        try:
            status.wait(SET_TIMEOUT_S + 1)
        except Exception as error:
            raise DeviceError(
                f"{name} did not take {value!r} for {signal.setpoint_pvname} within"
                f" {SET_TIMEOUT_S:g} s; it reads {signal.get()!r}: check the IOC"
            ) from error
