"""A position compare that fires the camera: what Zebra and PandA have in common."""

import asyncio
from collections.abc import Awaitable, Callable

from sim.ioc.camera import PcoCamera
from sim.world import World

# Wall time between postings of what was latched.
_POST_PERIOD_S = 0.1


async def fire_triggers(
    world: World, camera: PcoCamera, post: Callable[[], Awaitable[None]]
) -> None:
    """Trigger the camera at each pulse of the armed gate, until none is ahead.

    Parameters
    ----------
    world : World
        Owns the compare logic and the clock.
    camera : PcoCamera
        Takes the triggers.
    post : callable
        Shows what was latched; called ten times a second, and at the end.
    """
    loop, compare = asyncio.get_running_loop(), world.position_compare
    posted_s = loop.time()
    while (due_s := compare.next_s()) is not None:
        await world.clock.sleep_until(due_s)
        pulse = compare.fire()
        if pulse is not None:
            camera.trigger(pulse[0])
        if loop.time() - posted_s > _POST_PERIOD_S:
            posted_s = loop.time()
            await post()
    await post()
