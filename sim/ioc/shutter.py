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
        self.stuck_closed = False
        self.stuck_open = False
        self.command.putter = self._put_command

    async def _put_command(self, instance: Any, value: str) -> None:
        """Travel; the put is complete when the shutter has arrived."""
        await instance.write(value, verify_value=False)
        if value == "Reset":
            if self.state.value == "Fault":
                await self._show(self._world.shutter_open.latest)
            raise SkipWrite
        opens = value == "Open"
        if opens != self._world.shutter_open.latest or "ing" in self.state.value:
            await self._travel(opens)
        raise SkipWrite

    async def _travel(self, opens: bool) -> None:
        self._orders += 1
        order = self._orders
        clock = self._world.clock
        await self.state.write("Opening" if opens else "Closing")
        await clock.sleep(self._world.settings.source.shutter_travel_s)
        if order != self._orders:  # ordered back on the way
            return
        if self.stuck_closed if opens else self.stuck_open:
            await self.state.write("Fault")
            return
        self._world.shutter_open.set(opens, clock.now())
        await self._show(opens)

    async def _show(self, is_open: bool) -> None:
        await self.state.write("Open" if is_open else "Closed")
