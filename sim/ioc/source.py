"""Ring current, photon energy and filters."""

import asyncio
from typing import Any

from caproto.server import PVGroup, pvproperty

from devices.pvs import BeamlinePVs
from sim.ioc.channel_types import ENUM
from sim.world import World

_POST_PERIOD_S = 0.2
_FILTER_TEXT = ["In", "Out"]


class SourceIOC(PVGroup):
    """What the storage ring and the optics report.

    Parameters
    ----------
    pvs : BeamlinePVs
        Names of the PVs.
    world : World
    """

    ring_current: Any = pvproperty(
        value=0.0, name="{ring_current}", units="mA", precision=3, read_only=True
    )
    photon_energy: Any = pvproperty(
        value=0.0, name="{photon_energy}", units="keV", precision=4, read_only=True
    )

    def __init__(self, pvs: BeamlinePVs, *, world: World) -> None:
        super().__init__(
            "",
            macros={
                "ring_current": pvs.ring_current,
                "photon_energy": pvs.photon_energy,
            },
        )
        self._world = world

    async def run(self) -> None:
        """Report the energy once and the stored current for ever."""
        energy_kev = self._world.settings.source.photon_energy_kev
        await self.photon_energy.write(energy_kev)
        while True:
            await self.post()
            await asyncio.sleep(_POST_PERIOD_S)

    async def post(self) -> None:
        """Report the stored current now."""
        now_s = self._world.clock.now()
        await self.ring_current.write(self._world.ring.current_ma_at(now_s))


class FiltersIOC(PVGroup):
    """Four filters of the beamline: graphite, Al, Ag and Pd."""

    graphite: Any = pvproperty(
        value="In", dtype=ENUM, enum_strings=_FILTER_TEXT, name="1"
    )
    aluminium: Any = pvproperty(
        value="In", dtype=ENUM, enum_strings=_FILTER_TEXT, name="2"
    )
    silver: Any = pvproperty(
        value="In", dtype=ENUM, enum_strings=_FILTER_TEXT, name="3"
    )
    palladium: Any = pvproperty(
        value="In", dtype=ENUM, enum_strings=_FILTER_TEXT, name="4"
    )
