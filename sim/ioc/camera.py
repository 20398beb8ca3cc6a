"""The PCO camera: exposes by its own clock or by trigger, and sees the world."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from caproto import SkipWrite
from caproto.server import PVGroup, pvproperty
from ophyd.areadetector.cam import PcoDetectorCam

from sim.ioc.area_detector import area_detector_group
from sim.ioc.hdf5_plugin import Hdf5Plugin
from sim.world import FrozenCell, World

log = logging.getLogger(__name__)

_EXTERNAL_MODES = {"Ext + Soft", "Ext Pulse", "Ext Only"}
# Frames being drawn while the clock runs on to the end of the next exposure.
_DEPTH = 2
_POST_PERIOD_S = 0.05
# A trigger this early still starts an exposure: it is within the rounding of a double
# of Unix time and the slack of a real camera.
_SLACK_S = 1e-5


class LostTriggers(PVGroup):
    """What no real camera tells: the triggers that came too early."""

    number: Any = pvproperty(value=0, name="LostTriggers", read_only=True)


class PcoCamera:
    """PVs of ``cam1:`` and ``HDF1:`` and the exposures behind them.

    The clock never passes the end of the next exposure before the frames ahead of it
    are drawn and written.

    Parameters
    ----------
    prefix : str
        Prefix of the camera; ``cam1:`` and ``HDF1:`` follow.
    world : World
    """

    def __init__(self, prefix: str, *, world: World) -> None:
        camera = world.settings.camera
        self._world = world
        self._clock = world.clock
        self._readout_s = camera.readout_time_s
        shape = (camera.num_rows, camera.num_columns)
        self.group = area_detector_group(PcoDetectorCam, _first_values(shape))(
            f"{prefix}cam1:"
        )
        self.plugin = Hdf5Plugin(f"{prefix}HDF1:", world.darkroom, shape)
        self.lost = LostTriggers(prefix)
        self.pvdb = {
            **self.group.pvdb,
            **self.plugin.group.pvdb,
            **self.lost.pvdb,
        }
        self.drop_next = 0
        self.on_frame: Callable[[str, float], Awaitable[None]] | None = None
        self._hangs = False
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._external = False
        self._exposure_s = 0.0
        self._busy_until_s = -math.inf
        self._wanted = 0.0
        self._due: deque[float] = deque()
        self._due_came = asyncio.Event()
        self._lost = 0
        self._counter = 0
        self._taken = 0
        self._frame_index = 0
        self._posted_s = -math.inf
        self.group.channel("Acquire").putter = self._put_acquire
        self.group.channel("ArrayCounter").putter = self._put_array_counter
        world.on_schedule_change(self._hold)

    @property
    def acquiring(self) -> bool:
        """Whether exposures are going on or awaited."""
        return self._task is not None and not self._task.done()

    @property
    def hangs(self) -> bool:
        """Whether the camera delivers nothing until it is stopped."""
        return self._hangs

    def hang(self, hangs: bool) -> None:
        """Begin or end delivering nothing."""
        self._hangs = hangs
        if not hangs:
            self._due_came.set()
        self._hold()

    def trigger(self, at_s: float) -> None:
        """Take a trigger; one that comes while the camera is busy is lost."""
        if not self.acquiring or not self._external or self._wanted <= 0:
            return
        if self._hangs or at_s < self._busy_until_s - _SLACK_S:
            self._lost += 1
        else:
            self._wanted -= 1
            self._busy_until_s = at_s + self._exposure_s + self._readout_s
            self._due.append(at_s)
            self._due_came.set()
        self._hold()

    def _hold(self) -> None:
        """Set the clock's limit: the end of the next exposure, if one is planned."""
        next_s: float | None = None
        if self.acquiring and not self._hangs:
            if self._due:
                next_s = self._due[0]
            elif self._external and self._wanted > 0:
                next_s = self._world.position_compare.next_s()
        limit_s = math.inf if next_s is None else next_s + self._exposure_s
        self._clock.set_limit(limit_s)

    async def _put_array_counter(self, instance: Any, value: int) -> int:
        self._counter = int(value)
        await self.group.post("ArrayCounter_RBV", value)
        return value

    async def _put_acquire(self, instance: Any, value: str) -> None:
        if value == "Acquire":
            if not self.acquiring:
                self._task = asyncio.create_task(self._acquire())
        elif self._task is not None and not self._ending:
            self._ending = True
            self._task.cancel()
        if self._task is not None:
            # As with a busy record, a put is complete when the acquisition has ended.
            await asyncio.wait({self._task})
        raise SkipWrite

    async def _acquire(self) -> None:
        group = self.group
        self._exposure_s = max(group.value("AcquireTime"), 1e-6)
        self._external = group.value("TriggerMode") in _EXTERNAL_MODES
        self._busy_until_s = -math.inf
        self._due.clear()
        self._ending = False
        self._lost = 0
        self._taken = 0
        self._wanted = self._number_wanted()
        await group.post("NumImagesCounter_RBV", 0)
        await group.post("ARM_MODE_RBV", "Armed")
        await group.post("DetectorState_RBV", "Acquire")
        await group.post("Acquire", "Acquire")
        await group.post("Acquire_RBV", "Acquire")
        pending: deque[asyncio.Task[None]] = deque()
        try:
            self._world.begin_imaging()
            await self._expose(self._world.frozen, pending)
        except asyncio.CancelledError:
            pass  # Acquire was put to 0: end in order
        except Exception:
            log.exception("the simulated camera failed")
            await group.post("StatusMessage_RBV", "simulation failed, see the IOC log")
        finally:
            self._ending = True  # a stop that comes now must not cut this short
            self._hangs = False
            self._wanted = 0
            self._due.clear()
            await asyncio.gather(*pending, return_exceptions=True)
            self._clock.set_limit(math.inf)
            await self._post_counters()
            await group.post("ARM_MODE_RBV", "Disarmed")
            await group.post("DetectorState_RBV", "Idle")
            await group.post("Acquire_RBV", "Done")
            await group.channel("Acquire").write("Done", verify_value=False)

    def _number_wanted(self) -> float:
        mode = self.group.value("ImageMode")
        if mode == "Single":
            return 1
        return math.inf if mode == "Continuous" else self.group.value("NumImages")

    async def _expose(
        self, frozen: FrozenCell, pending: "deque[asyncio.Task[None]]"
    ) -> None:
        loop = asyncio.get_running_loop()
        number = self._wanted
        next_s = self._clock.now()
        shortest_s = self._exposure_s + self._readout_s
        period_s = max(self.group.value("AcquirePeriod"), shortest_s)
        while self._taken < number:
            if not self._external:
                self._due.append(next_s)
                next_s += period_s
            self._hold()
            start_s = await self._next_exposure()
            await self._clock.sleep_until(start_s + self._exposure_s)
            await self._tell_progress(self._taken / number)
            self._taken += 1
            self._counter += 1
            self._frame_index += 1
            if self.drop_next > 0:
                self.drop_next -= 1
            else:
                exposure = self._world.exposure(
                    self._counter, self._frame_index, start_s, self._exposure_s
                )
                taken = self.plugin.take(exposure, frozen.number)
                pending.append(asyncio.create_task(taken))
            while len(pending) >= _DEPTH:
                await _first(pending)
            self._due.popleft()
            if loop.time() - self._posted_s > _POST_PERIOD_S:
                await self._post_counters()
        while pending:
            await _first(pending)

    async def _tell_progress(self, fraction: float) -> None:
        stem = self.plugin.file_stem
        if self.on_frame is not None and stem is not None:
            await self.on_frame(stem, fraction)

    async def _next_exposure(self) -> float:
        while self._hangs or not self._due:
            self._due_came.clear()
            await self._due_came.wait()
        return self._due[0]

    async def _post_counters(self) -> None:
        self._posted_s = asyncio.get_running_loop().time()
        group = self.group
        await group.post("ArrayCounter_RBV", self._counter)
        await group.post("ArrayCounter", self._counter)
        await group.post("NumImagesCounter_RBV", self._taken)
        await self.plugin.show()
        if self.lost.number.value != self._lost:
            await self.lost.number.write(self._lost)


async def _first(pending: "deque[asyncio.Task[None]]") -> None:
    """Wait for the first of some frames, which goes on if the wait is cancelled."""
    await asyncio.wait({pending[0]})
    pending.popleft().result()


def _first_values(shape: tuple[int, int]) -> dict[str, Any]:
    rows, columns = shape
    return {
        "PortName": "PCO",
        "Manufacturer": "PCO",
        "Model": "PCO.edge 5.5 (simulated)",
        "ADCoreVersion": "3.12.1",
        "DriverVersion": "2.0.0",
        "ArraySizeX": columns,
        "ArraySizeY": rows,
        "ArraySize": 2 * rows * columns,
        "MaxSizeX": columns,
        "MaxSizeY": rows,
        "SizeX": columns,
        "SizeY": rows,
        "BinX": 1,
        "BinY": 1,
        "NumImages": 1,
        "NumExposures": 1,
        "AcquireTime": 0.2,
        "AcquirePeriod": 0.2,
        "DataType": "UInt16",
        "ArrayCallbacks": "Enable",
        "CAMERA_SETUP": "Rolling Shutter",
        "PIX_RATE": "286000000Hz",
    }
