"""The process behind the simulated beamline: ``python -m sim.server``.

It reads one line of JSON from its standard input, says ``ready`` on its standard
output once clients can connect, and ends when its standard input closes, so that no
server outlives the program that started it.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Monitors are sent at least this often under load: a guard waits for them.
os.environ.setdefault("CAPROTO_SERVER_HIGH_LOAD_TIMEOUT_SEC", "0.002")

import caproto

from devices.potentiostat_ioc import PotentiostatIOC
from devices.prompt_context import PromptContext
from devices.pvs import simulated_pvs, simulated_units
from sim.clock import Clock
from sim.darkroom import DarkroomError
from sim.ioc.camera import PcoCamera
from sim.ioc.clock import ClockIOC
from sim.ioc.faults import FaultsIOC
from sim.ioc.motor import MotorRecord
from sim.ioc.panda import PandaIOC
from sim.ioc.repeater import run_repeater
from sim.ioc.shutter import ShutterIOC
from sim.ioc.source import FiltersIOC, SourceIOC
from sim.ioc.zebra import ZebraIOC
from sim.memory import Memory
from sim.settings import SimulationSettings
from sim.world import World

log = logging.getLogger(__name__)

READY = "ready"


def stamp_with(clock: Clock) -> None:
    """Let caproto stamp every PV, puts of clients included, with the clock."""
    # caproto offers no hook: its data module asks its `time` for the time.
    data_module: Any = sys.modules[caproto.ChannelData.__module__]
    data_module.time = SimpleNamespace(time=clock.now)


class SimulatedIOC:
    """All records of the simulated beamline.

    Parameters
    ----------
    world : World
    prefix : str
        First part of every PV's name.
    """

    def __init__(self, world: World, prefix: str) -> None:
        self.world = world
        pvs = simulated_pvs(prefix)
        units = simulated_units(prefix)
        stages, source = world.settings.stages, world.settings.source
        sample_limits = (-stages.sample_limit_mm, stages.sample_limit_mm)
        self.rotation = MotorRecord(
            pvs.rotation,
            axis=world.rotation,
            world=world,
            units="deg",
            velocity=stages.rotation_speed_deg_s,
            acceleration_s=stages.rotation_acceleration_s,
            limits=(-stages.rotation_limit_deg, stages.rotation_limit_deg),
        )
        self.sample_x, self.sample_y = (
            MotorRecord(
                name,
                axis=axis,
                world=world,
                units="mm",
                velocity=stages.sample_speed_mm_s,
                acceleration_s=stages.sample_acceleration_s,
                limits=sample_limits,
            )
            for name, axis in (
                (pvs.sample_x, world.sample_x),
                (pvs.sample_y, world.sample_y),
            )
        )
        self.id_gap = MotorRecord(
            pvs.id_gap,
            axis=world.id_gap,
            world=world,
            units="mm",
            velocity=1.0,
            acceleration_s=0.2,
            limits=(4.0, max(30.0, source.id_gap_mm)),
        )
        self.camera = PcoCamera(pvs.camera, world=world)
        self.zebra = ZebraIOC(units["zebra"], world=world, camera=self.camera)
        self.panda = PandaIOC(units["panda"], world=world, camera=self.camera)
        self.shutter = ShutterIOC(pvs.shutter, world=world)
        self.source = SourceIOC(pvs, world=world)
        self.filters = FiltersIOC(pvs.filters)
        self.potentiostat = PotentiostatIOC(pvs.potentiostat, driver=world.instrument)

        self.clock = ClockIOC(f"{prefix}CLOCK:", clock=world.clock)
        self.faults = FaultsIOC(
            prefix,
            world=world,
            camera=self.camera,
            rotation=self.rotation,
            shutter=self.shutter,
            source=self.source,
        )

    async def begin(self) -> None:
        """Fill in the records; clients connect after it."""
        for motor in (self.rotation, self.sample_x, self.sample_y, self.id_gap):
            await motor.begin()

    @property
    def pvdb(self) -> dict[str, Any]:
        """Every PV by its name."""
        groups = (
            self.rotation,
            self.sample_x,
            self.sample_y,
            self.id_gap,
            self.camera,
            self.zebra,
            self.panda,
            self.shutter,
            self.source,
            self.filters,
            self.potentiostat,
            self.clock,
            self.faults,
        )
        return {name: pv for group in groups for name, pv in group.pvdb.items()}


async def serve(settings: SimulationSettings, directory: Path, prefix: str) -> None:
    """Serve the beamline until the standard input closes or SIGTERM comes."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), _read_to_end, ended)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    memory = Memory(directory / "cell.json")
    start_s = max(time.time(), memory.time_s)
    clock = Clock(settings.clock_factor, start_s=start_s)
    stamp_with(clock)
    world = World(settings, directory, clock, memory)
    ioc = SimulatedIOC(world, prefix)
    context = PromptContext(ioc.pvdb, ["127.0.0.1"])
    await ioc.begin()
    port = int(os.environ["EPICS_CAS_BEACON_PORT"])
    others = [
        asyncio.create_task(run_repeater(port)),
        asyncio.create_task(ioc.source.run()),
        asyncio.create_task(ioc.clock.run()),
        asyncio.create_task(ioc.faults.run()),
        asyncio.create_task(world.remember_always()),
        asyncio.create_task(world.watch()),
    ]
    server = asyncio.create_task(context.run())
    try:
        beginning = asyncio.create_task(_say_when_ready(world, context))
        # Of those that end, only these two do not end by failing.
        tasks = {asyncio.create_task(ended.wait()), beginning, server, *others}
        while not ended.is_set():
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        server.cancel()
        for task in others:
            task.cancel()
        await asyncio.gather(server, *others, return_exceptions=True)
        world.close()


async def _say_when_ready(world: World, context: PromptContext) -> None:
    await world.begin()
    while not context.udp_socks:
        await asyncio.sleep(0.01)
    print(READY, flush=True)


def _read_to_end(ended: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        ended.set()


def main() -> None:
    """Run the server as the request on the standard input says."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # An operator's Ctrl-C is for the program that started this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Threads that draw give way to the loop sooner than the usual 5 ms.
    sys.setswitchinterval(0.001)
    request = json.loads(_first_line())
    settings = SimulationSettings.model_validate(request["settings"])
    code = 0
    try:
        asyncio.run(serve(settings, Path(request["directory"]), request["prefix"]))
    except DarkroomError as error:
        log.error("%s", error)
        code = 1
    except Exception:
        log.exception("the simulated beamline failed")
        code = 1
    logging.shutdown()
    # Threads that still draw or prepare hold nothing worth waiting for.
    os._exit(code)


def _first_line() -> str:
    # Unbuffered: what follows must stay in the pipe for the event loop.
    line = bytearray()
    while (byte := os.read(sys.stdin.fileno(), 1)) not in {b"", b"\n"}:
        line += byte
    return line.decode()


if __name__ == "__main__":
    main()
