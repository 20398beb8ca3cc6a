"""IOCs that die and come back while an experiment runs."""

import logging
import threading
import time
from typing import Any

from devices.beamline import Beamline, missing_pvs, wait_for_connection
from devices.errors import NotConnectedError
from plans.safe_state import in_order

_log = logging.getLogger(__name__)

POLL_S = 0.5
VALUES_TIMEOUT_S = 30.0  # for first values once every process variable answers


class ConnectionWatch:
    """Notes which devices lose their connection, also for a moment only.

    Parameters
    ----------
    beamline : Beamline
        Connected; one process variable of each of its devices is watched.
    """

    def __init__(self, beamline: Beamline):
        self._beamline = beamline
        self._lock = threading.Lock()
        self._lost: set[str] = set()
        for device in beamline.devices():
            if device is not None:
                _served(device).subscribe(
                    self._noter(device.name), event_type="meta", run=False
                )

    def lost(self) -> list[str]:
        """Return the devices that were lost since this was last asked, or still are."""
        with self._lock:
            lost = self._lost | missing_pvs(self._beamline).keys()
            self._lost = set()
        return sorted(lost)

    def wait_until_back(self, longest_s: float, give_up: threading.Event) -> None:
        """Wait until every device answers.

        One that comes back before the others is stopped at once: its cell may be
        closed, its shutter open.

        Raises
        ------
        NotConnectedError
            Not all of them did in this time, or before `give_up` was set.
        """
        began_s = time.monotonic()
        end_s = began_s + longest_s
        missing = missing_pvs(self._beamline).keys()
        while missing and time.monotonic() < end_s and not give_up.wait(POLL_S):
            still_missing = missing_pvs(self._beamline).keys()
            self._stop(missing - still_missing)
            missing = still_missing
        if missing:
            raise NotConnectedError(
                f"{', '.join(sorted(missing))} did not come back in "
                f"{time.monotonic() - began_s:.0f} s: look at the IOC, then resume"
            )
        wait_for_connection(self._beamline, VALUES_TIMEOUT_S, give_up=give_up)

    def _stop(self, names: set[str]) -> None:
        for device in in_order(self._beamline):
            if device.name in names:
                _log.warning("%s is back: it is stopped", device.name)
                try:
                    device.stop()
                except Exception:  # all of it is made safe once more in the end
                    _log.exception("%s could not be stopped", device.name)

    def _noter(self, name: str) -> Any:
        def connection_changed(*, connected: bool = True, **_kwargs: Any) -> None:
            if not connected:
                with self._lock:
                    self._lost.add(name)

        return connection_changed


def _served(device: Any) -> Any:
    """Return a signal of the device that an IOC serves."""
    walked = device.walk_signals(include_lazy=False)
    return next(walk.item for walk in walked if hasattr(walk.item, "pvname"))
