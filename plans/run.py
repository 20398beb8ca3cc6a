"""A run whose stop document tells the truth, whatever ended it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import FailedPause, MsgGenerator, RequestStop

from .failures import cause, describe
from .requests import REQUESTS
from .wishes import NoWishes, Wishes


def in_run(
    plan: MsgGenerator[Any], md: Mapping[str, Any], wishes: Wishes | None = None
) -> MsgGenerator[str]:
    """Run `plan` in a run of its own; return the run's uid.

    bluesky's own wrapper drops the reason of an abort, names a failed status instead
    of what failed, and calls a run ``success`` that `RE.stop` cut short.

    Parameters
    ----------
    plan : generator
        Messages of the run.
    md : mapping
        Start document.
    wishes : Wishes, optional
        Knows why the operator aborted.
    """
    uid = yield from bps.open_run(dict(md))
    try:
        yield from plan
    except REQUESTS as request:
        reason = why_ended(request, wishes or NoWishes())
        yield from bps.close_run(exit_status="abort", reason=reason)
        raise
    except Exception as error:
        yield from bps.close_run(exit_status="fail", reason=describe(error))
        inner = cause(error)
        if inner is error:
            raise
        raise inner from error
    yield from bps.close_run(exit_status="success")
    return uid


def why_ended(request: BaseException, wishes: Wishes) -> str:
    """Return in one line what ended a plan that was asked to end."""
    said = wishes.abort_reason()
    if isinstance(request, FailedPause):
        return f"ended by a pause, which a scan cannot resume from{_because(said)}"
    if isinstance(request, RequestStop):
        return f"stopped by the operator{_because(said)}"
    return f"aborted by the operator{_because(said)}"


def _because(said: str) -> str:
    return f": {said}" if said else ""
