"""How long a relay stays closed once its orchestrator is gone.

``python benchmarks/heartbeat.py [--trials 20] [--timeout 5]`` serves potentiostats in a
process of its own, drives half-cycles from orchestrators in theirs, and ends each at a
random moment mid-step in one of three ways:

* kill: SIGKILL of the orchestrator; the kernel closes its connection;
* freeze: SIGSTOP of it; the connection stays up and says nothing;
* cut: the network between them passes nothing on and closes nothing.

Times are those of the instrument's relay, from the strike to its opening; none may be
longer than the heartbeat timeout.
"""

import argparse
import asyncio
import json
import os
import queue
import random
import signal
import statistics
import subprocess
import threading
import time
from types import SimpleNamespace
from typing import Any

from parts import options_or_part, start_part

CURRENT_MA = 4.712e-3
AT_ONCE = 5
KINDS = ("kill", "freeze", "cut")


def prefix(number: int) -> str:
    return f"BEAT{number}:"


class Resistor:
    def advance(self, duration_s: float, current_ma: float, relay_closed: bool) -> None:
        pass

    def measure_voltage_v(self, current_ma: float, relay_closed: bool) -> float:
        return random.gauss(0, 1e-4) + (17e3 * current_ma * 1e-3 if relay_closed else 0)


def serve() -> None:
    """Serve the instruments; print when a relay closes and opens."""
    os.environ.setdefault("CAPROTO_SERVER_HIGH_LOAD_TIMEOUT_SEC", "0.002")
    from devices.potentiostat_ioc import PotentiostatIOC
    from devices.prompt_context import PromptContext
    from sim.instrument import VirtualInstrument

    class Told(VirtualInstrument):
        def start(self) -> None:
            super().start()
            say("closed", self)

    def say(what: str, instrument: VirtualInstrument) -> None:
        number = instruments.index(instrument)
        print(json.dumps([what, number, time.time()]), flush=True)

    instruments: list[VirtualInstrument] = []
    pvdb: dict[str, Any] = {}
    for number in range(AT_ONCE):
        instrument = Told(Resistor(), time.time)
        instrument.on_relay_open = lambda one=instrument: say("open", one)
        instruments.append(instrument)
        pvdb |= PotentiostatIOC(prefix(number), driver=instrument).pvdb

    async def run() -> None:
        await PromptContext(pvdb, ["127.0.0.1"]).run()

    asyncio.run(run())


def drive(number: str, timeout_s: str) -> None:
    """Pass a half-cycle: the orchestrator that is struck."""
    from bluesky import RunEngine

    from devices.potentiostat import Potentiostat
    from plans.half_cycle import half_cycle
    from plans.settings import CyclingSettings
    from plans.steps import HalfCycleStep

    potentiostat = Potentiostat(prefix(int(number)), name="potentiostat")
    potentiostat.wait_for_connection(timeout=30)
    cycling = CyclingSettings(
        current_density_ma_cm2=0.15,
        half_cycle_duration_s=1800.0,
        num_half_cycles=1,
        heartbeat_timeout_s=float(timeout_s),
    )
    step = HalfCycleStep(1, 1, "1", CURRENT_MA, 1800.0)
    beamline: Any = SimpleNamespace(potentiostat=potentiostat)
    RunEngine({}, context_managers=[])(
        half_cycle(beamline, step, cycling, attempt=0, md={})
    )


class Bench:
    """The served instruments and what their relays did."""

    def __init__(self) -> None:
        from sim.beamline import loopback_environment

        self.environment = {**os.environ, **loopback_environment()}
        self.moments: list[queue.Queue[tuple[str, float]]] = [
            queue.Queue() for _ in range(AT_ONCE)
        ]
        self.server = start_part(
            "serve", env=self.environment, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.server.stdout or ():
            what, number, time_s = json.loads(line)
            self.moments[number].put((what, time_s))

    def trial(self, kind: str, number: int, timeout_s: float) -> float:
        """Return how long the relay stayed closed after the strike (s)."""
        from channel_relay import ChannelRelay

        relay = None
        environment = dict(self.environment)
        if kind == "cut":
            relay = ChannelRelay(int(environment["EPICS_CAS_SERVER_PORT"]))
            environment["EPICS_CA_ADDR_LIST"] = relay.address
        client = start_part(
            "drive", number, timeout_s, env=environment, stdout=subprocess.DEVNULL
        )
        try:
            self._moment(number, "closed", 120.0)
            threading.Event().wait(timeout_s + random.uniform(0.0, timeout_s))
            struck_s = time.time()
            if relay is not None:
                relay.cut()
            else:
                client.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
            return self._moment(number, "open", 10 * timeout_s) - struck_s
        finally:
            client.kill()
            client.wait()
            if relay is not None:
                relay.close()

    def _moment(self, number: int, what: str, within_s: float) -> float:
        said, time_s = self.moments[number].get(timeout=within_s)
        if said != what:
            raise RuntimeError(f"the relay of instrument {number} was {said} too soon")
        return time_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20, help="of each kind")
    parser.add_argument("--timeout", type=float, default=5.0, help="heartbeat (s)")
    parser.add_argument("--seed", type=int, default=1)
    options = options_or_part(parser, serve=serve, drive=drive)
    if options is None:
        return
    random.seed(options.seed)
    bench = Bench()
    todo = queue.SimpleQueue[str]()
    for _ in range(options.trials):
        for kind in KINDS:
            todo.put(kind)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}

    def work(number: int) -> None:
        while not todo.empty():
            try:
                kind = todo.get_nowait()
            except queue.Empty:
                return
            times[kind].append(bench.trial(kind, number, options.timeout))

    workers = [threading.Thread(target=work, args=(n,)) for n in range(AT_ONCE)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        bench.server.kill()
        bench.server.wait(10)
    load_1min, _, _ = os.getloadavg()
    print(f"heartbeat timeout {options.timeout:g} s, load {load_1min:.1f}")
    for kind, closed_s in times.items():
        if len(closed_s) < options.trials:
            raise SystemExit(
                f"{kind}: {len(closed_s)} of {options.trials} trials ended"
            )
        print(
            f"{kind:6s} {len(closed_s):3d} trials: shortest {min(closed_s):.3f} s, "
            f"median {statistics.median(closed_s):.3f} s, longest {max(closed_s):.3f} s"
        )
    if max(max(closed_s) for closed_s in times.values()) > options.timeout:
        raise SystemExit("a relay stayed closed for longer than the timeout")


if __name__ == "__main__":
    main()
