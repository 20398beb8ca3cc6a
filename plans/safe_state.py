"""The state in which a cell and a beamline may be left alone.

The order matters: the cell first, its relay opened without asking anything before;
then the beam, the stage, the camera. Each action is tried whatever happened to the
others, and what could not be confirmed is told at the end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import FailedStatus, MsgGenerator

from devices.beamline import Beamline
from devices.errors import DeviceError

from .failures import describe
from .requests import REQUESTS

CONFIRM_TIMEOUT_S = 70.0

logger = logging.getLogger(__name__)


def in_order(beamline: Beamline) -> tuple[Any, ...]:
    """Return the devices in the order in which they are made safe."""
    return (
        beamline.potentiostat,
        beamline.shutter,
        beamline.rotation,
        beamline.sample_stage.x,
        beamline.sample_stage.y,
        beamline.position_compare,
        beamline.camera,
    )


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
        raise DeviceError(_complaint("the safe state could not be confirmed", failures))


class Tidying:
    """Clean-up steps of which none can keep the next from being taken.

    The RunEngine throws the failure of any status it knows into whatever the plan
    does next, and an operator may abort twice. Such exceptions do not belong to the
    step they arrive in: failures of other statuses are logged, a request to end the
    plan is raised by `finish`.
    """

    def __init__(self) -> None:
        self._failures: list[str] = []
        self._request: Exception | None = None

    def stop(self, device: Any) -> MsgGenerator[None]:
        """Stop a device at once."""
        try:
            yield from bps.stop(device)
        except REQUESTS as request:
            self._request = request
        except FailedStatus as error:
            logger.info("while %s stopped: %s", device.name, describe(error))
        except Exception as error:  # noqa: BLE001 - the next device comes first
            self.note(device.name, error)

    def confirm(self, name: str, begin: Callable[[], Any]) -> MsgGenerator[None]:
        """Wait for the status that `begin` returns, whatever is thrown meanwhile."""
        try:
            status = begin()
        except Exception as error:  # noqa: BLE001 - the next device comes first
            self.note(name, error)
            return
        deadline_s = time.monotonic() + CONFIRM_TIMEOUT_S
        while not status.done:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                self.note(name, TimeoutError(f"silent for {CONFIRM_TIMEOUT_S:g} s"))
                return
            try:
                yield from bps.wait_for([lambda: ended(status)], timeout=left_s)
            except REQUESTS as request:
                self._request = request
            except Exception as error:  # noqa: BLE001 - belongs to another status
                logger.info("while %s was confirmed: %s", name, describe(error))
        error = status.exception()
        if error is not None:
            self.note(name, error)

    def note(self, name: str, error: Exception) -> None:
        """Keep a failure for the end."""
        logger.error("%s: %s", name, describe(error))
        self._failures.append(f"{name}: {describe(error)}")

    def finish(self, what: str) -> None:
        """Raise what was kept: a request to end the plan, else the failures."""
        if self._request is not None:
            raise self._request
        if self._failures:
            raise DeviceError(_complaint(what, self._failures))


def until(status: Any) -> MsgGenerator[None]:
    """Wait for a status that no message returned; raise its failure."""
    yield from bps.wait_for([lambda: ended(status)])
    error = status.exception()
    if error is not None:
        raise error


async def ended(status: Any) -> None:
    """Return when a status that the RunEngine does not know is done."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def tell(_status: Any) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(over.set)

    status.add_callback(tell)
    await over.wait()


def _complaint(what: str, failures: list[str]) -> str:
    return (
        f"{what}: {'; '.join(failures)}. Look at these devices yourself before"
        " anything else"
    )
