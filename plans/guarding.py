"""Run a piece of plan under guards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator, short_uid

from devices.guards import Guard


def guarded(
    guards: Sequence[Guard], plan: Callable[[Sequence[str]], MsgGenerator[Any]]
) -> MsgGenerator[Any]:
    """Run `plan` while `guards` watch; a guard that trips ends it at once.

    Parameters
    ----------
    guards : sequence of Guard
        Triggered before the plan, released after it.
    plan : callable
        Takes the groups to watch, returns the messages.
    """
    # New each time: a failure left in a used group would end the next wait.
    group = short_uid("guards")
    try:
        for guard in guards:
            triggerable: Any = guard
            yield from bps.trigger(triggerable, group=group)
        result = yield from plan([group])
    finally:
        # No message is needed, so this also runs when the RunEngine halts.
        for guard in guards:
            guard.release()
    # The RunEngine keeps a group until somebody waits for it.
    yield from bps.wait(group=group)
    return result
