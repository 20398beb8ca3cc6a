"""How long from a voltage collapse to an open relay, over real Channel Access.

``python benchmarks/guard_latency.py [--trials 200] [--block] [--load]`` serves the
potentiostat IOC in a process of its own (10 Hz, real time) around a cell that shorts at
a known moment, drives half-cycles through a RunEngine, and prints median and maximum of

* drop -> open: from the physical collapse, whose place between two samples is random;
* sample -> open: from the sample that completes the rule.

``--block`` holds the RunEngine's loop for 2 s around each collapse; ``--load`` runs one
busy process per core, niced as the analysis worker is. 200 trials take some 5 minutes,
blocked ones 9.
``--persistence`` is that of the guard, by default its own; 0 trips on one sample.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

CURRENT_MA = 4.712e-3
BLOCK_S = 2.0
PREFIX = "LATENCY:"


class ShortingCell:
    """80 mV until a moment, then nothing; notes when it was first seen so."""

    def __init__(self) -> None:
        self.short_at_s = float("inf")
        self.seen_s: list[float] = []

    def advance(self, duration_s: float, current_ma: float, relay_closed: bool) -> None:
        pass

    def measure_voltage_v(self, current_ma: float, relay_closed: bool) -> float:
        noise_v = random.gauss(0, 1e-4)
        if relay_closed and time.time() >= self.short_at_s:
            self.seen_s.append(time.time())
            return noise_v
        return noise_v + (0.08 if relay_closed else 0.0)


def serve() -> None:
    """Serve the instrument; print each relay opening as JSON."""
    os.environ.setdefault("CAPROTO_SERVER_HIGH_LOAD_TIMEOUT_SEC", "0.002")
    from caproto.server import PVGroup, pvproperty

    from devices.potentiostat_ioc import PotentiostatIOC
    from devices.prompt_context import PromptContext
    from sim.instrument import VirtualInstrument

    cell = ShortingCell()

    class Trigger(PVGroup):
        short = pvproperty(name="Short", value=0)

        async def _short(self, instance: object, value: int) -> int:
            cell.seen_s.clear()
            delay_s = random.uniform(0.0, 0.1)
            cell.short_at_s = time.time() + delay_s if value else float("inf")
            return value

        short.putter(_short)

    def opened() -> None:
        print(json.dumps([cell.short_at_s, cell.seen_s[:], time.time()]), flush=True)

    instrument = VirtualInstrument(cell, time.time)
    instrument.on_relay_open = opened
    ioc = PotentiostatIOC(PREFIX, driver=instrument)
    trigger = Trigger(prefix=PREFIX)

    async def run() -> None:
        await PromptContext({**ioc.pvdb, **trigger.pvdb}, ["127.0.0.1"]).run()

    asyncio.run(run())


def burn() -> None:
    """Keep a core busy as the analysis worker does."""
    import numpy as np

    from analysis.worker import NICENESS

    os.nice(NICENESS)
    array = np.random.default_rng(0).random((700, 700))
    while True:
        np.linalg.svd(array @ array)


def trial(engine: Any, potentiostat: Any, short: Any, *, block: bool) -> None:
    """Run one half-cycle into a short, with the RunEngine held meanwhile if asked."""
    from plans.half_cycle import half_cycle
    from plans.settings import CyclingSettings
    from plans.steps import HalfCycleStep

    cycling = CyclingSettings(
        current_density_ma_cm2=0.15, half_cycle_duration_s=1800, num_half_cycles=1
    )
    step = HalfCycleStep(
        index=1, half_cycle=1, label="1", current_ma=CURRENT_MA, duration_s=1800.0
    )
    beamline = SimpleNamespace(potentiostat=potentiostat)

    def strike() -> None:
        started.wait(30)
        if block:
            engine.loop.call_soon_threadsafe(threading.Event().wait, BLOCK_S)
        threading.Event().wait(random.uniform(0.5, 1.0))
        short.put(1)

    started = threading.Event()
    subscription = potentiostat.state.subscribe(
        lambda value=None, **_: started.set() if value == "Running" else None,
        run=False,
    )
    striker = threading.Thread(target=strike)
    striker.start()
    outcome = engine(half_cycle(beamline, step, cycling, attempt=0, md={})).plan_result
    striker.join()
    potentiostat.state.unsubscribe(subscription)
    short.put(0)
    if not outcome.short_circuit:
        raise RuntimeError(f"the guard missed the short: {outcome}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--block", action="store_true")
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--persistence", type=float, default=0.01)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return

    from sim.beamline import loopback_environment

    os.environ.update(loopback_environment())
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    openings: list[list] = []

    def listen() -> None:
        for line in server.stdout:
            openings.append(json.loads(line))

    threading.Thread(target=listen, daemon=True).start()
    context = multiprocessing.get_context("spawn")
    burners = [
        context.Process(target=burn, daemon=True)
        for _ in range(os.cpu_count() if options.load else 0)
    ]
    try:
        for burner in burners:
            burner.start()
        from bluesky import RunEngine
        from ophyd import EpicsSignal

        from devices.potentiostat import Potentiostat
        from devices.short_circuit import GuardSettings

        potentiostat = Potentiostat(
            PREFIX,
            name="potentiostat",
            guard=GuardSettings(persistence_s=options.persistence),
        )
        potentiostat.wait_for_connection(timeout=20)
        short = EpicsSignal(PREFIX + "Short", name="short")
        short.wait_for_connection(timeout=20)
        engine = RunEngine({}, call_returns_result=True, context_managers=[])
        for number in range(options.trials):
            trial(engine, potentiostat, short, block=options.block)
            if number % 20 == 19:
                print(f"{number + 1} trials", file=sys.stderr, flush=True)
    finally:
        for burner in burners:
            burner.kill()
        server.terminate()
        server.wait(10)
    needed = 1 if options.persistence == 0 else None
    from_drop, from_sample = [], []
    for drop_s, seen_s, open_s in openings:
        if not seen_s:
            continue
        deciding_s = seen_s[0] if needed else seen_s[0] + options.persistence
        late = [s for s in seen_s if s >= deciding_s - 0.05]
        from_drop.append(1e3 * (open_s - drop_s))
        from_sample.append(1e3 * (open_s - (late or seen_s)[0]))
    load_1min, load_5min, _ = os.getloadavg()
    print(f"load of the last minute {load_1min:.1f}, of the last five {load_5min:.1f}")
    for name, values in (
        ("drop -> open", from_drop),
        ("sample -> open", from_sample),
    ):
        print(
            f"{name}: median {statistics.median(values):.1f} ms, "
            f"95 % {statistics.quantiles(values, n=20)[-1]:.1f} ms, "
            f"max {max(values):.1f} ms ({len(values)} trials, persistence "
            f"{options.persistence:g} s, block={options.block}, load={options.load})"
        )


if __name__ == "__main__":
    main()
