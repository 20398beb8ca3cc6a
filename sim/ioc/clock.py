"""The simulated clock as PVs."""

import asyncio
from typing import Any

from caproto.server import PVGroup, pvproperty

from sim.clock import Clock

_POST_PERIOD_S = 0.5


class ClockIOC(PVGroup):
    """How fast simulated time runs, and what it is.

    Parameters
    ----------
    prefix : str
    clock : Clock
    """

    factor: Any = pvproperty(value=1.0, name="FACTOR", precision=3)
    time: Any = pvproperty(value=0.0, name="TIME", units="s", precision=3)

    def __init__(self, prefix: str, *, clock: Clock) -> None:
        super().__init__(prefix)
        self._clock = clock
        self.factor.putter = self._put_factor

    async def _put_factor(self, instance: Any, value: float) -> float:
        self._clock.factor = value
        return value

    async def run(self) -> None:
        """Post the simulated time for ever."""
        await self.factor.write(self._clock.factor)
        while True:
            await self.time.write(self._clock.now())
            await asyncio.sleep(_POST_PERIOD_S)
