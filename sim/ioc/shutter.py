"""The fast shutter, Diamond style: a command and a state."""

from typing import Any

from caproto import SkipWrite
from caproto.server import PVGroup, pvproperty

from sim.ioc.channel_types import ENUM
from sim.world import World

COMMANDS = ["Open", "Close", "Reset"]
STATES = ["Fault", "Open", "Opening", "Closed", "Closing"]


class ShutterIOC(PVGroup):
    """Shutter that takes a set time to travel.

    Parameters
    ----------
    prefix : str
    world : World
        Told when light passes and when it does not.
    """

    command: Any = pvproperty(
        value="Close", dtype=ENUM, enum_strings=COMMANDS, name="CON"
    )
    state: Any = pvproperty(
        value="Closed",
        dtype=ENUM,
        enum_strings=STATES,
        name="STA",
        read_only=True,
    )

    def __init__(self, prefix: str, *, world: World) -> None:
        super().__init__(prefix)
        self._world = world
        self._orders = 0
        self._faulty = False
        self.stuck_closed = False
        self.stuck_open = False
        self.command.putter = self._put_command

    async def _put_command(self, instance: Any, value: str) -> None:
        # The put is complete when the shutter has arrived.
        if value == "Reset":
            faulty, self._faulty = self._faulty, False
            await instance.write(value, verify_value=False)
            if faulty:
                await self._show(self._world.shutter_open.latest)
            raise SkipWrite
        self._orders += 1
        order = self._orders
        await instance.write(value, verify_value=False)
        opens = value == "Open"
        arrived = "Open" if opens else "Closed"
        if not self._faulty and self.state.value != arrived:
            await self._travel(opens, order)
        raise SkipWrite

    async def _travel(self, opens: bool, order: int) -> None:
        clock = self._world.clock
        await self.state.write("Opening" if opens else "Closing")
        await clock.sleep(self._world.settings.source.shutter_travel_s)
        if order != self._orders:  # ordered back on the way
            return
        is_open = self._world.shutter_open.latest
        stuck = self.stuck_closed if opens else self.stuck_open
        if stuck and is_open != opens:
            self._faulty = True
            await self.state.write("Fault")
            return
        if is_open != opens:
            self._world.shutter_open.set(opens, clock.now())
        await self._show(opens)

    async def _show(self, is_open: bool) -> None:
        await self.state.write("Open" if is_open else "Closed")
