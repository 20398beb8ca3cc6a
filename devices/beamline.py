"""All devices of a beamline, connected before the first plan."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, fields
from typing import Any

from ophyd import Device

from .camera import Camera
from .errors import NotConnectedError
from .panda import PandA
from .position_compare import PositionCompare
from .potentiostat import Potentiostat
from .pvs import BeamlinePVs
from .rotation import Rotation
from .sample_stage import SampleStage
from .shutter import Shutter
from .source import Source
from .zebra import Zebra

UNITS = {"zebra": Zebra, "panda": PandA}

POLL_S = 0.02
SHORT_LIST = 5


@dataclass(frozen=True)
class Beamline:
    """The devices a plan may touch; some beamlines have no position compare."""

    rotation: Rotation
    sample_stage: SampleStage
    camera: Camera
    position_compare: PositionCompare | None
    shutter: Shutter
    potentiostat: Potentiostat
    source: Source

    def devices(self) -> tuple[Any, ...]:
        """Return the devices in the order they are declared."""
        devices = (getattr(self, field.name) for field in fields(self))
        return tuple(device for device in devices if device is not None)


def connect_beamline(
    pvs: BeamlinePVs,
    timeout_s: float = 10.0,
    *,
    give_up: threading.Event | None = None,
) -> Beamline:
    """Connect to every process variable at once.

    Parameters
    ----------
    pvs : BeamlinePVs
        Names of the process variables.
    timeout_s : float
        Longest wait for all of them together.
    give_up : Event, optional
        Ends the wait at once when it is set.

    Raises
    ------
    NotConnectedError
        Names every process variable that did not answer, by device.
    """
    beamline = Beamline(
        rotation=Rotation(pvs.rotation, name="rotation"),
        sample_stage=SampleStage(
            name="sample_stage", x_record=pvs.sample_x, y_record=pvs.sample_y
        ),
        camera=Camera(pvs.camera, name="camera"),
        position_compare=None
        if pvs.position_compare is None
        else UNITS[pvs.position_compare_kind](
            pvs.position_compare, name="position_compare"
        ),
        shutter=Shutter(pvs.shutter, name="shutter"),
        potentiostat=Potentiostat(pvs.potentiostat, name="potentiostat"),
        source=Source(
            name="source",
            ring_current_pv=pvs.ring_current,
            id_gap_record=pvs.id_gap,
            photon_energy_pv=pvs.photon_energy,
            filters_prefix=pvs.filters,
        ),
    )
    wait_for_connection(beamline, timeout_s, give_up=give_up)
    return beamline


def missing_pvs(beamline: Beamline) -> dict[str, list[str]]:
    """Return the process variables that are not connected now, by device."""
    missing = {
        name: [pv for signal in signals for pv in _missing_pvs(signal)]
        for name, signals in _wanted(beamline).items()
    }
    return {name: pvs for name, pvs in missing.items() if pvs}


def wait_for_connection(
    beamline: Beamline, timeout_s: float, *, give_up: threading.Event | None = None
) -> None:
    """Wait until every process variable answers, anew after its IOC was gone.

    Parameters
    ----------
    beamline : Beamline
        As `connect_beamline` made it.
    timeout_s : float
        Longest wait for all of them together.
    give_up : Event, optional
        Ends the wait at once when it is set.

    Raises
    ------
    NotConnectedError
        Names every process variable that did not answer, by device.
    """
    wanted = _wanted(beamline)
    signals = [signal for group in wanted.values() for signal in group]
    deadline_s = time.monotonic() + timeout_s
    ended = give_up or threading.Event()
    # Signals connect in Channel Access threads; waiting for them one by one, in the
    # order of the list, would add up their timeouts.
    while not all(signal.connected for signal in signals):
        if time.monotonic() > deadline_s or ended.wait(POLL_S):
            break
    if missing := missing_pvs(beamline):
        number = sum(len(pvs) for pvs in missing.values())
        tree = "; ".join(
            f"{name}: {_listed(pvs, len(wanted[name]))}"
            for name, pvs in missing.items()
        )
        waited = "" if ended.is_set() else f" within {timeout_s:g} s"
        raise NotConnectedError(
            f"{number} process variable(s) did not answer{waited}:"
            f" {tree}. Check that the IOCs run, the names, and EPICS_CA_ADDR_LIST"
        )
    for device in beamline.devices():
        # Also waits for what needs a first value, such as a motor's position.
        try:
            device.wait_for_connection(timeout=max(timeout_s, 1.0))
        except TimeoutError as error:
            raise NotConnectedError(
                f"{device.name} is connected but gave no values within"
                f" {timeout_s:g} s: {error}"
            ) from error


def _wanted(beamline: Beamline) -> dict[str, list[Any]]:
    return {device.name: _signals(device) for device in beamline.devices()}


def _listed(names: list[str], number: int) -> str:
    """Return the names, or their common start where none answered."""
    if len(names) >= number > SHORT_LIST:
        return f"all {len(names)} of {os.path.commonprefix(names)}*"
    return ", ".join(names)


def _signals(device: Device) -> list[Any]:
    used = device.used_signals() if isinstance(device, Camera) else []
    return used + [
        walk.item
        for walk in device.walk_signals(include_lazy=False)
        if walk.item not in used
    ]


def _missing_pvs(signal: Any) -> list[str]:
    """Return the PVs of a signal that are not connected."""
    if signal.connected or not hasattr(signal, "pvname"):
        return []
    names = {"read": signal.pvname, "write": getattr(signal, "setpoint_pvname", None)}
    parts = [
        getattr(signal, "_read_pv", None),
        getattr(signal, "_write_pv", None),
    ]
    dead = [pv.pvname for pv in parts if pv is not None and not pv.connected]
    return sorted(set(dead)) or [names["read"]]
