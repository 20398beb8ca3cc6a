"""Faults on command PVs, and those planned in the settings.

A fault's PV reads 1 while the fault lasts, however it began, and 0 again when it has
struck or has been cleared.
"""

import asyncio
import logging
import os
from typing import Any

from caproto import SkipWrite
from caproto.server import PVGroup, pvproperty

from sim.faults import FAULTS, PROGRAM_FAULTS, STRIKE, PlannedFault, parse_fault
from sim.ioc.camera import PcoCamera
from sim.ioc.hdf5_plugin import Hdf5Plugin
from sim.ioc.motor import MotorRecord
from sim.ioc.shutter import ShutterIOC
from sim.ioc.source import SourceIOC
from sim.world import World

log = logging.getLogger(__name__)

_LOOK_PERIOD_S = 0.02
# Rounding of a half-cycle's charge must not delay a fault by a half-cycle.
_HALF_CYCLE_SLACK = 1e-6
DEATH_EXIT_CODE = 70

# Faults of the instrument: name of the fault and of its switch.
_INSTRUMENT = {
    "compliance": "compliance",
    "wrong_polarity": "wrong_polarity",
    "stale_voltage": "stale",
    "open_circuit": "open_circuit",
    "short_circuit": "short",
    "soft_short": "soft_short",
}


class FaultsIOC:
    """One PV for each fault, ``…FAULT:<NAME>``.

    Parameters
    ----------
    prefix : str
        Prefix of all PVs of the simulation.
    world : World
    camera : PcoCamera
    rotation : MotorRecord
    shutter : ShutterIOC
    source : SourceIOC
    """

    def __init__(
        self,
        prefix: str,
        *,
        world: World,
        camera: PcoCamera,
        rotation: MotorRecord,
        shutter: ShutterIOC,
        source: SourceIOC,
    ) -> None:
        self._world = world
        self._camera = camera
        self._plugin: Hdf5Plugin = camera.plugin
        self._rotation = rotation
        self._shutter = shutter
        self._source = source
        self._planned = [
            parse_fault(text)
            for text in world.settings.faults
            if text not in world.memory.struck_faults
        ]
        self._group = _fault_group()(f"{prefix}FAULT:")
        for name in FAULTS:
            self._channel(name).putter = self._put
        camera.on_frame = self._see_frame
        camera.plugin.on_open = self._see_file

    @property
    def pvdb(self) -> dict[str, Any]:
        """Every PV by its name."""
        return self._group.pvdb

    def _channel(self, name: str) -> Any:
        return getattr(self._group, name)

    async def _put(self, instance: Any, value: int) -> None:
        name = instance.pvname.removeprefix(self._group.prefix).lower()
        await (self._inject(name) if value else self._clear(name))
        await self._show(name)
        raise SkipWrite

    async def _show(self, name: str) -> None:
        channel, active = self._channel(name), int(self.is_active(name))
        if channel.value != active:
            await channel.write(active, verify_value=False)

    def is_active(self, name: str) -> bool:
        """Return whether a fault waits to strike or lasts."""
        if name in _INSTRUMENT:
            return bool(getattr(self._world.instrument.faults, _INSTRUMENT[name]))
        match name:
            case "dropped_frame":
                return self._camera.drop_next > 0
            case "camera_hang":
                return self._camera.hangs
            case "hdf5_write_error":
                return bool(self._plugin.fail_next)
            case "disk_full":
                return self._plugin.disk_full
            case "stage_stall":
                return self._world.rotation.stalled
            case "limit_hit":
                return self._rotation.on_limit
            case "shutter_stuck_closed":
                return self._shutter.stuck_closed
            case "shutter_stuck_open":
                return self._shutter.stuck_open
            case "beam_dump":
                return self._world.ring.is_dumped_at(self._world.clock.now())
            case _:  # top_up, ioc_death, …: over as soon as they strike
                return False

    async def _inject(self, name: str) -> None:
        log.warning("fault injected: %s", name)
        if name in _INSTRUMENT:
            setattr(self._world.instrument.faults, _INSTRUMENT[name], True)
            return
        if name in PROGRAM_FAULTS:
            print(f"{STRIKE} {name}", flush=True)
            return
        now_s = self._world.clock.now()
        match name:
            case "dropped_frame":
                self._camera.drop_next = 1
            case "camera_hang":
                self._camera.hang(True)
            case "hdf5_write_error":
                self._plugin.fail_next = "H5Dwrite failed: simulated write error"
            case "disk_full":
                self._plugin.disk_full = True
            case "stage_stall":
                self._world.rotation.stall(now_s)
                self._world.schedule_changed()
            case "limit_hit":
                await self._rotation.hit_limit()
            case "shutter_stuck_closed":
                self._shutter.stuck_closed = True
            case "shutter_stuck_open":
                self._shutter.stuck_open = True
            case "beam_dump":
                self._world.ring.dump(now_s)
                await self._source.post()
            case "top_up":
                self._world.ring.fill(now_s)
                await self._source.post()
            case "ioc_death":
                self._world.instrument.catch_up()
                self._world.remember()  # the cell itself does not die
                os._exit(DEATH_EXIT_CODE)

    async def _clear(self, name: str) -> None:
        if name in _INSTRUMENT:
            setattr(self._world.instrument.faults, _INSTRUMENT[name], False)
            return
        match name:
            case "dropped_frame":
                self._camera.drop_next = 0
            case "camera_hang":
                self._camera.hang(False)
            case "hdf5_write_error":
                self._plugin.fail_next = ""
            case "disk_full":
                self._plugin.disk_full = False
            case "stage_stall":
                self._world.rotation.free()
            case "limit_hit":
                await self._rotation.leave_limit()
            case "shutter_stuck_closed":
                self._shutter.stuck_closed = False
            case "shutter_stuck_open":
                self._shutter.stuck_open = False
            case "beam_dump":
                self._world.ring.fill(self._world.clock.now())
                await self._source.post()

    async def run(self) -> None:
        """Let planned faults strike and the PVs show what lasts, for ever."""
        while True:
            await asyncio.sleep(_LOOK_PERIOD_S)
            await self._strike([f for f in self._planned if self._has_come(f)])
            for name in FAULTS:
                await self._show(name)

    def _has_come(self, fault: PlannedFault) -> bool:
        if fault.kind == "t":
            passed_s = self._world.clock.now() - self._world.start_s
            return passed_s >= fault.seconds
        if fault.kind == "half_cycle" and self._world.instrument.relay_closed:
            due = fault.number - 1 + fault.fraction
            return self._world.cell.half_cycles >= due - _HALF_CYCLE_SLACK
        return False

    async def _see_file(self, file_stem: str) -> None:
        """Let a shutter stick before the first file of its scan has any light."""
        await self._strike(
            [
                fault
                for fault in self._of_scan(file_stem)
                if fault.name.startswith("shutter") and fault.fraction == 0
            ]
        )

    async def _see_frame(self, file_stem: str, fraction: float) -> None:
        """Let the faults of a scan strike before the projection they are for."""
        if file_stem.endswith("projections"):
            planned = self._of_scan(file_stem)
            await self._strike([f for f in planned if fraction >= f.fraction])

    def _of_scan(self, file_stem: str) -> list[PlannedFault]:
        words = file_stem.split("_")  # scan_0007_00_projections
        number = int(words[1]) if len(words) > 1 and words[1].isdigit() else None
        return [f for f in self._planned if f.kind == "scan" and f.number == number]

    async def _strike(self, faults: list[PlannedFault]) -> None:
        for fault in faults:
            self._planned.remove(fault)
            self._world.memory.struck_faults.append(fault.text)
            await self._inject(fault.name)


def _fault_group() -> type[PVGroup]:
    namespace: dict[str, Any] = {
        name: pvproperty(value=0, name=name.upper(), doc=text)
        for name, text in FAULTS.items()
    }
    return type("FaultGroup", (PVGroup,), namespace)
