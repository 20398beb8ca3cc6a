"""An orchestrator that dies leaves an open relay, and its charge can be read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import pytest

ORCHESTRATOR = """
import sys
from types import SimpleNamespace
from bluesky import RunEngine
from devices.potentiostat import Potentiostat
from plans.half_cycle import half_cycle
from plans.settings import CyclingSettings
from plans.steps import HalfCycleStep

potentiostat = Potentiostat(sys.argv[1], name="potentiostat")
potentiostat.wait_for_connection(timeout=20)
cycling = CyclingSettings(
    current_density_ma_cm2=0.15, half_cycle_duration_s=36000, num_half_cycles=1,
    heartbeat_timeout_s=1.0,
)
step = HalfCycleStep(
    index=1, half_cycle=1, label="1", current_ma=float(sys.argv[2]), duration_s=36000
)
beamline = SimpleNamespace(potentiostat=potentiostat)
RunEngine({})(half_cycle(beamline, step, cycling, attempt=0, md={}))
"""


def changed(signal: Any, wanted: str) -> threading.Event:
    seen = threading.Event()
    signal.subscribe(
        lambda value=None, **_: seen.set() if value == wanted else None, run=False
    )
    return seen


def test_a_killed_orchestrator_leaves_an_open_relay(
    simulated_beamline: Any, simulation_settings: Any
) -> None:
    from devices.potentiostat import Potentiostat

    potentiostat = Potentiostat(simulated_beamline.pvs.potentiostat, name="watching")
    potentiostat.wait_for_connection(timeout=20)
    before_c = potentiostat.gross_charge.get(use_monitor=False)
    last_id = potentiostat.last_step_id.get(use_monitor=False)
    closed = changed(potentiostat.relay_readback, "Closed")
    ended = changed(potentiostat.end_reason, "Heartbeat")
    current_ma = 0.15 * simulation_settings.cell.area_cm2
    arguments = [potentiostat.prefix, repr(current_ma)]
    orchestrator = subprocess.Popen(
        [sys.executable, "-c", ORCHESTRATOR, *arguments],
        env=dict(os.environ),
        stderr=subprocess.DEVNULL,
    )
    try:
        assert closed.wait(60), "the half-cycle did not start"
        threading.Event().wait(1.5)  # longer than the heartbeat timeout: it beats
        assert potentiostat.relay_readback.get(use_monitor=False) == "Closed"
    finally:
        orchestrator.kill()
        orchestrator.wait()
    assert ended.wait(30), "the relay stayed closed"
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"
    assert potentiostat.last_step_id.get(use_monitor=False) == last_id + 1
    # what passed can be read, and only what passed counts
    charge_c = potentiostat.charge.get(use_monitor=False)
    elapsed_s = potentiostat.elapsed.get(use_monitor=False)
    assert charge_c == pytest.approx(current_ma * 1e-3 * elapsed_s, rel=1e-6)
    assert elapsed_s > 0
    passed_c = potentiostat.gross_charge.get(use_monitor=False) - before_c
    assert passed_c == pytest.approx(charge_c, rel=1e-6)
