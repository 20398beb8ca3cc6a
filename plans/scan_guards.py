"""The guards of a scan, made once for all scans of an experiment.

The RunEngine keeps every object it has seen until its plan ends, and a plan here lasts
for days.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from devices.beamline import Beamline
from devices.guards import (
    DiskGuard,
    Guard,
    RingCurrentGuard,
    SignalGuard,
    StallGuard,
    connection_guards,
    shutter_guard,
)

from .settings import ScanSettings


class ScanGuards:
    """Guards of one beamline, triggered and released scan after scan.

    Parameters
    ----------
    beamline, scan : Beamline, ScanSettings
        What is watched and what is allowed.
    """

    def __init__(self, beamline: Beamline, scan: ScanSettings) -> None:
        self._beamline = beamline
        self._scan = scan

    def whole_scan(self, directory: Path) -> Sequence[Guard]:
        """Return those of all its frames; `directory` takes the files."""
        self._disk.directory = directory
        return [self._disk, *self._connections]

    @cached_property
    def beam(self) -> RingCurrentGuard:
        """Trips when the beam is lost, and knows what current was seen."""
        return RingCurrentGuard(self._beamline.source, self._scan.ring_current_min_ma)

    @cached_property
    def shutter(self) -> SignalGuard:
        """Trips when the open shutter leaves that state."""
        return shutter_guard(self._beamline.shutter)

    @cached_property
    def turning(self) -> StallGuard:
        """Trips when the stage stands still in its sweep."""
        return StallGuard(self._beamline.rotation)

    @cached_property
    def _disk(self) -> DiskGuard:
        return DiskGuard(Path(), self._scan.free_disk_min_bytes)

    @cached_property
    def _connections(self) -> list[Guard]:
        compare = self._beamline.position_compare
        return connection_guards(
            [
                self._beamline.camera.cam.acquire,
                self._beamline.rotation.user_readback,
                self._beamline.shutter.state,
                self._beamline.sample_stage.x.user_readback,
                *([compare.armed] if compare is not None else []),
            ]
        )
