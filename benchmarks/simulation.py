"""Frame rate, loop latency and memory of the simulated beamline.

One scan of the given scale is taken through the simulated records in this process,
without clients: the rotation turns, the Zebra triggers, frames are drawn and written.
Reported are the time to start and to prepare the cell, the frames per second of wall
time, how late the event loop woke (what a potentiostat's safety would wait for) beside
how late a process woke that does nothing but sleep, which is the machine's share of it,
and memory and CPU of both processes.

    python benchmarks/simulation.py --scale dry-run
    python benchmarks/simulation.py --scale paper --frames 100
"""

import argparse
import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from sim.clock import Clock
from sim.instrument import VirtualInstrument
from sim.memory import Memory
from sim.server import SimulatedIOC
from sim.settings import SimulationSettings
from sim.world import World

SCALES: dict[str, dict[str, Any]] = {
    "dry-run": {
        "clock_factor": 300.0,
        "cell": {
            "pellet_diameter_mm": 0.2,
            "pellet_thickness_mm": 0.06,
            "lithium_thickness_mm": 0.05,
        },
        "camera": {"num_columns": 320, "num_rows": 224},
    },
    "paper": {"clock_factor": 1.0},
}
TICK_S = 0.005
EXPOSURE_S = 0.19
STEP_DEG = 180 / 2400
PERIOD_S = 0.2


async def measure_lateness(late_s: list[float]) -> None:
    """Note for ever how much later than asked the loop wakes."""
    while True:
        asked_s = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        late_s.append(time.perf_counter() - asked_s)


class Sleeper:
    """A process that only sleeps, and knows how late it woke."""

    def __init__(self) -> None:
        self._pipe, other = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        spawn.Process(target=sleep_only, args=(other,), daemon=True).start()
        self._pipe.recv()  # it has begun

    def wake(self) -> str:
        """Return how late it woke, in words; it ends."""
        self._pipe.send(None)
        return self._pipe.recv()


def sleep_only(pipe: Connection) -> None:
    """Sleep until something comes, and send how late this process woke."""
    pipe.send(None)
    late_s: list[float] = []
    while not pipe.poll():
        asked_s = time.perf_counter() + TICK_S
        if not pipe.poll(TICK_S):
            late_s.append(time.perf_counter() - asked_s)
    pipe.send(lateness(late_s))


async def scan(ioc: SimulatedIOC, directory: Path, frames: int) -> float:
    """Take one scan; return its wall time from first trigger to last frame."""
    camera, writer, zebra = ioc.camera.group, ioc.camera.plugin.group, ioc.zebra
    await writer.channel("EnableCallbacks").write("Enable")
    await camera.channel("AcquireTime").write(EXPOSURE_S)
    await camera.channel("Acquire").write("Acquire")  # one frame: the size is known
    await writer.channel("FilePath").write(f"{directory}/")
    await writer.channel("FileName").write("scan_0000_00_projections")
    await writer.channel("FileTemplate").write("%s%s.h5")
    await writer.channel("SWMRMode").write("On")
    await writer.channel("NumCapture").write(frames)
    await writer.channel("Capture").write("Capture")
    await camera.channel("ImageMode").write("Multiple")
    await camera.channel("NumImages").write(frames)
    await camera.channel("TriggerMode").write("Ext Only")
    await ioc.shutter.command.write("Open")
    await ioc.rotation.motor.write(-1.0)
    await ioc.rotation.motor.field_inst.velocity.write(STEP_DEG / PERIOD_S)
    await zebra.pulse_step.write(STEP_DEG)
    await zebra.pulse_max.write(frames)
    await zebra.arm.write(1)
    acquiring = asyncio.create_task(camera.channel("Acquire").write("Acquire"))
    turning = asyncio.create_task(ioc.rotation.motor.write(STEP_DEG * (frames + 20)))
    while ioc.camera.plugin.number_captured == 0:
        await asyncio.sleep(0.001)
    began_s = time.perf_counter()
    await acquiring
    wall_s = time.perf_counter() - began_s
    turning.cancel()
    return wall_s


def lateness(late_s: list[float]) -> str:
    """Return in words how late something woke."""
    late_ms = 1e3 * np.array(late_s or [0.0])
    woke_s = (1e-3 * late_ms + TICK_S).cumsum()
    median, most = np.percentile(late_ms, (50, 99))
    return (
        f"{median:.2f} ms median, {most:.2f} ms 99 %, {late_ms.max():.2f} ms most, "
        f"after {woke_s[late_ms.argmax()]:.0f} s"
    )


def report_lateness(phase: str, late_s: list[float], sleeper: Sleeper) -> None:
    """Print how late the event loop woke, and how late the sleeper did."""
    print(f"loop late while {phase} by {lateness(late_s)}")
    print(f"  a process that only sleeps: {sleeper.wake()}")
    late_ms = 1e3 * np.array(late_s or [0.0])
    edges_ms = [0, 1, 2, 5, 10, 20, 50, np.inf]
    for low, high, number in zip(
        edges_ms, edges_ms[1:], np.histogram(late_ms, edges_ms)[0], strict=False
    ):
        print(f"  {low:>3} to {high:>3} ms: {number}")


async def benchmark(settings: SimulationSettings, directory: Path, frames: int) -> None:
    """Run the scan and print what was measured."""
    clock = Clock(settings.clock_factor)
    memory = Memory(directory / "cell.json")
    # A cell with cracks is the hard one: two half-cycles have passed.
    cell = memory.cell(settings)
    cell.advance(1000.0, 2.2 * settings.cell.half_cycle_charge_c, True)
    memory.write(memory.text(cell, VirtualInstrument(cell, clock.now), clock.now()))
    late_s: list[float] = []
    sleeper = Sleeper()
    ticker = asyncio.create_task(measure_lateness(late_s))
    began_s = time.perf_counter()
    world = World(settings, directory, clock, Memory(directory / "cell.json"))
    await world.begin()
    print(f"prepared in {time.perf_counter() - began_s:.1f} s", flush=True)
    report_lateness("preparing", late_s, sleeper)
    ioc = SimulatedIOC(world, "BENCH:")
    await ioc.begin()
    sleeper = Sleeper()
    await asyncio.sleep(2 * TICK_S)  # making the records was not drawing
    late_s.clear()
    wall_s = await scan(ioc, directory, frames)
    ticker.cancel()
    size_mb = (directory / "scan_0000_00_projections.h5").stat().st_size / 1e6
    rate = (frames - 1) / wall_s
    print(f"{frames} frames, {rate:.1f} frames/s, {size_mb / wall_s:.0f} MB/s written")
    report_lateness("drawing", late_s, sleeper)
    world.close()
    for who, whom in (
        ("records", resource.RUSAGE_SELF),
        ("darkroom", resource.RUSAGE_CHILDREN),
    ):
        usage = resource.getrusage(whom)
        print(
            f"{who}: {usage.ru_maxrss / 2**20:.2f} GiB at most, "
            f"{usage.ru_utime + usage.ru_stime:.0f} CPU-s"
        )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="dry-run")
    parser.add_argument("--frames", type=int, default=360)
    parser.add_argument("--directory", type=Path, help="where frames are written")
    arguments = parser.parse_args()
    sys.setswitchinterval(0.001)  # as the server has it
    settings = SimulationSettings.model_validate(SCALES[arguments.scale])
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        asyncio.run(benchmark(settings, Path(directory), arguments.frames))


if __name__ == "__main__":
    main()
