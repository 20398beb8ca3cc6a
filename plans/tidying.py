"""Clean-up that is done whatever happens, and never hides what happened."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import bluesky.plan_stubs as bps
from bluesky.utils import FailedStatus, MsgGenerator

from devices.errors import DeviceError

from .failures import describe
from .requests import REQUESTS

CONFIRM_TIMEOUT_S = 70.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


def tidied(
    plan: MsgGenerator[T],
    tidy: Callable[[], MsgGenerator[Any]],
    tell: Callable[[str], None] = logger.error,
) -> MsgGenerator[T]:
    """Run `plan`, then `tidy`, however the plan ended.

    What ended the plan is what is raised: an abort stays an abort though the clean-up
    fails as well. Such a failure is added to the error as a note and told.

    Parameters
    ----------
    plan : generator
        Messages.
    tidy : callable
        Returns the messages of the clean-up.
    tell : callable
        Takes one line about a clean-up that failed.
    """
    try:
        result = yield from plan
    except GeneratorExit:
        raise
    except Exception as error:
        logger.warning("it ends: %s", describe(error))
        try:
            yield from tidy()
        except REQUESTS:
            raise
        except Exception as failed:
            error.add_note(describe(failed))
            tell(describe(failed))
        raise
    try:
        yield from tidy()
    except Exception as failed:
        tell(describe(failed))
        raise
    return result


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
            raise DeviceError(complaint(what, self._failures))


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


def complaint(what: str, failures: list[str]) -> str:
    """Return one line that names every clean-up step that failed."""
    return (
        f"{what}: {'; '.join(failures)}. Look at these devices yourself before"
        " anything else"
    )
