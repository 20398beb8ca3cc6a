"""Is charge passed exactly once, whatever interrupts a half-cycle?

``python benchmarks/charge_once.py [--interruptions 50]`` serves the virtual instrument
in a process of its own around a cell that counts its charge, then passes half-cycles of
equal charge through random pauses, aborts and kills (SIGKILL of a whole orchestrator
process), each time going on with what the instrument says is left. At the end the
cell's own count is held against what was asked.
"""

import argparse
import asyncio
import os
import random
import subprocess
import threading
import time
from types import SimpleNamespace
from typing import Any

from parts import options_or_part, start_part

CURRENT_MA = 4.712e-3
DURATION_S = 60.0
FACTOR = 20.0
HEARTBEAT_TIMEOUT_S = 1.0
PREFIX = "CHARGE:"


class CountingCell:
    def __init__(self) -> None:
        self.net_c = 0.0
        self.gross_c = 0.0

    def advance(self, duration_s: float, current_ma: float, relay_closed: bool) -> None:
        if relay_closed:
            self.net_c += current_ma * 1e-3 * duration_s
            self.gross_c += abs(current_ma) * 1e-3 * duration_s

    def measure_voltage_v(self, current_ma: float, relay_closed: bool) -> float:
        sign = (current_ma > 0) - (current_ma < 0)
        return random.gauss(0, 1e-4) + (0.08 * sign if relay_closed else 0.0)


def serve() -> None:
    from caproto.server import PVGroup, pvproperty

    from devices.potentiostat_ioc import PotentiostatIOC
    from devices.prompt_context import PromptContext
    from sim.clock import Clock
    from sim.instrument import VirtualInstrument

    cell = CountingCell()

    class Count(PVGroup):
        async def _read(self, instance: Any) -> list[float]:
            return [cell.net_c, cell.gross_c]

        count = pvproperty(name="Cell", value=[0.0, 0.0], get=_read)

    instrument = VirtualInstrument(cell, Clock(FACTOR).now)
    ioc = PotentiostatIOC(PREFIX, driver=instrument)

    async def run() -> None:
        pvdb = {**ioc.pvdb, **Count(prefix=PREFIX).pvdb}
        await PromptContext(pvdb, ["127.0.0.1"]).run()

    asyncio.run(run())


def connect() -> Any:
    from devices.potentiostat import Potentiostat

    potentiostat = Potentiostat(PREFIX, name="potentiostat")
    potentiostat.wait_for_connection(timeout=20)
    return potentiostat


def plan(potentiostat: Any, sign: int, duration_s: float) -> Any:
    from plans.half_cycle import half_cycle
    from plans.settings import CyclingSettings
    from plans.steps import HalfCycleStep

    cycling = CyclingSettings(
        current_density_ma_cm2=0.15,
        half_cycle_duration_s=DURATION_S,
        num_half_cycles=1,
        heartbeat_timeout_s=HEARTBEAT_TIMEOUT_S,
    )
    step = HalfCycleStep(
        index=1,
        half_cycle=1 if sign > 0 else 2,
        label="1",
        current_ma=sign * CURRENT_MA,
        duration_s=duration_s,
    )
    beamline = SimpleNamespace(potentiostat=potentiostat)
    return half_cycle(beamline, step, cycling, attempt=0, md={})


def engine() -> Any:
    from bluesky import RunEngine

    return RunEngine({}, call_returns_result=True, context_managers=[])


def drive(sign: str, duration_s: str) -> None:
    """Pass one half-cycle: the orchestrator that is killed."""
    potentiostat = connect()
    print("connected", flush=True)
    engine()(plan(potentiostat, int(sign), float(duration_s)))


def interrupt(
    kind: str, potentiostat: Any, run: Any, sign: int, left_s: float, after_s: float
) -> None:
    from bluesky.utils import RunEngineInterrupted

    if kind == "kill":
        with start_part(
            "drive", sign, left_s, stdout=subprocess.PIPE, text=True
        ) as client:
            client.stdout.readline()
            threading.Event().wait(after_s)
            client.kill()
        wait_open(potentiostat)
        return
    timer = threading.Timer(
        after_s,
        run.request_pause if kind == "pause" else lambda: abort(run),
    )
    timer.start()
    try:
        run(plan(potentiostat, sign, left_s))
    except RunEngineInterrupted:
        if run.state == "paused":
            threading.Event().wait(random.uniform(0, 1.0))
            run.resume()
    timer.cancel()


def abort(run: Any) -> None:
    if run.state == "running":
        run.abort("at random")


def wait_open(potentiostat: Any) -> float:
    """Return how long the relay took to open (s)."""
    begun_s = time.monotonic()
    while potentiostat.relay_readback.get(use_monitor=False) != "Open":
        threading.Event().wait(0.02)
        if time.monotonic() - begun_s > 10 * HEARTBEAT_TIMEOUT_S:
            raise RuntimeError("the relay stays closed")
    return time.monotonic() - begun_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interruptions", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = options_or_part(parser, serve=serve, drive=drive)
    if options is None:
        return

    from sim.beamline import loopback_environment

    os.environ.update(loopback_environment())
    random.seed(options.seed)
    server = start_part("serve")
    try:
        from ophyd import EpicsSignalRO

        potentiostat = connect()
        counted = EpicsSignalRO(PREFIX + "Cell", name="counted")
        counted.wait_for_connection(timeout=20)
        run = engine()
        done = {"pause": 0, "abort": 0, "kill": 0}
        half_cycles = 0
        while sum(done.values()) < options.interruptions:
            sign = 1 if half_cycles % 2 == 0 else -1
            left_s = DURATION_S
            while left_s > 1e-6:
                before = int(potentiostat.last_step_id.get(use_monitor=False))
                kind = random.choice(list(done))
                interrupt(
                    kind, potentiostat, run, sign, left_s, random.uniform(0.0, 3.0)
                )
                done[kind] += 1
                after = int(potentiostat.last_step_id.get(use_monitor=False))
                if after > before:
                    left_s -= potentiostat.elapsed.get(use_monitor=False)
            half_cycles += 1
        net_c, gross_c = counted.get(use_monitor=False)
        asked_c = half_cycles * CURRENT_MA * 1e-3 * DURATION_S
        asked_net_c = (half_cycles % 2) * CURRENT_MA * 1e-3 * DURATION_S
        print(
            f"{half_cycles} half-cycles through {done}: asked {asked_c:.9g} C, the "
            f"cell counted {gross_c:.9g} C, error {gross_c / asked_c - 1:+.2e}; net "
            f"{net_c:.3e} C where {asked_net_c:.3e} C were asked"
        )
        if abs(gross_c / asked_c - 1) > 1e-3:
            raise SystemExit("charge was not passed exactly once")
    finally:
        server.kill()
        server.wait(10)


if __name__ == "__main__":
    main()
