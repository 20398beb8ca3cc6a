"""IOCs that die and come back while an experiment runs."""

import threading
from typing import Any

from devices.beamline import Beamline, missing_pvs


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
