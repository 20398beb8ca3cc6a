"""The state in which a cell and a beamline may be left alone.

The order matters: the cell first, its relay opened without asking anything before;
then the beam, the stage, the camera. Each action is tried whatever happened to the
others, and what could not be confirmed is told at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bluesky.utils import MsgGenerator

from devices.beamline import Beamline
from devices.errors import DeviceError

from .failures import describe
from .tidying import CONFIRM_TIMEOUT_S, Tidying, complaint


def in_order(beamline: Beamline) -> tuple[Any, ...]:
    """Return the devices in the order in which they are made safe."""
    devices = (
        beamline.potentiostat,
        beamline.shutter,
        beamline.rotation,
        beamline.sample_stage.x,
        beamline.sample_stage.y,
        beamline.position_compare,
        beamline.camera,
    )
    return tuple(device for device in devices if device is not None)


def confirmations(beamline: Beamline) -> tuple[tuple[str, Callable[[], Any]], ...]:
    """Return what starts the status of each device that can say it is safe."""
    return (
        ("potentiostat", beamline.potentiostat.open_relay),
        ("shutter", lambda: beamline.shutter.set("Close")),
        ("rotation", beamline.rotation.stopped),
        ("camera", beamline.camera.closed),
    )


def safe_state(beamline: Beamline) -> MsgGenerator[None]:
    """Open the cell, close the shutter, stop stage and camera, close the file.

    Plan. Every device is stopped at once, then each is asked whether it is safe.
    An abort that arrives meanwhile is kept until all of it is done.

    Raises
    ------
    DeviceError
        Names what could not be confirmed, after everything was tried.
    """
    tidying = Tidying()
    for device in in_order(beamline):
        yield from tidying.stop(device)
    for name, begin in confirmations(beamline):
        yield from tidying.confirm(name, begin)
    tidying.finish("the safe state could not be confirmed")


def make_safe(beamline: Beamline) -> None:
    """Do the same without a RunEngine: for signal handlers and after a crash."""
    failures: list[str] = []
    for device in in_order(beamline):
        try:
            device.stop()
        except Exception as error:  # noqa: BLE001 - the next device comes first
            failures.append(f"{device.name}: {describe(error)}")
    for name, begin in confirmations(beamline):
        try:
            begin().wait(timeout=CONFIRM_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - the next device comes first
            failures.append(f"{name}: {describe(error)}")
    if failures:
        raise DeviceError(complaint("the safe state could not be confirmed", failures))
