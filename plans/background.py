"""Work that takes a while, beside the RunEngine instead of in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

T = TypeVar("T")


def in_background(work: Callable[[], T]) -> MsgGenerator[T]:
    """Run `work` in a thread and return what it returns, or raise what it raises.

    Guards, aborts and documents go on meanwhile.
    """

    async def run() -> T:
        return await asyncio.to_thread(work)

    tasks = yield from bps.wait_for([run])
    return tasks[0].result()
