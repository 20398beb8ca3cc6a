"""The half-cycle plan with a real RunEngine on the simulated instrument."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

DURATION_S = 30.0  # simulated: a second or two of wall time


@pytest.fixture(scope="module")
def connected(simulated_beamline: Any) -> Any:
    from devices.potentiostat import Potentiostat

    device = Potentiostat(simulated_beamline.pvs.potentiostat, name="potentiostat")
    device.wait_for_connection(timeout=20)
    return device


@pytest.fixture
def potentiostat(connected: Any) -> Iterator[Any]:
    yield connected
    connected.open_relay().wait(30)


@pytest.fixture
def plan(potentiostat: Any, simulation_settings: Any) -> Callable[..., Any]:
    """Return a maker of half-cycle plans at the paper's current density."""
    from plans.half_cycle import half_cycle
    from plans.settings import CyclingSettings
    from plans.steps import HalfCycleStep

    def make(
        half_cycle_number: int = 1,
        *,
        duration_s: float = DURATION_S,
        rest_s: float = 0.0,
    ) -> Any:
        cycling = CyclingSettings(
            current_density_ma_cm2=0.15,
            half_cycle_duration_s=duration_s,
            num_half_cycles=3,
            rest_s=rest_s,
        )
        area_cm2 = simulation_settings.cell.area_cm2
        step = HalfCycleStep(
            index=2 * half_cycle_number - 1,
            half_cycle=half_cycle_number,
            label="1",
            current_ma=cycling.current_ma(half_cycle_number, area_cm2),
            duration_s=duration_s,
        )
        beamline = SimpleNamespace(potentiostat=potentiostat)
        return half_cycle(beamline, step, cycling, attempt=0, md={"experiment_id": "x"})

    return make


def charges_c(potentiostat: Any) -> tuple[float, float]:
    return (
        potentiostat.gross_charge.get(use_monitor=False),
        potentiostat.net_charge.get(use_monitor=False),
    )


def once_driven(potentiostat: Any, action: Callable[[], Any]) -> None:
    """Act from another thread soon after the relay has closed."""
    acted = threading.Event()

    def closed(value: Any = None, **_: Any) -> None:
        if value == "Closed" and not acted.is_set():
            acted.set()
            threading.Timer(0.5, action).start()

    potentiostat.relay_readback.subscribe(closed, run=False)


def asked_c(simulation_settings: Any, duration_s: float = DURATION_S) -> float:
    return 0.15e-3 * simulation_settings.cell.area_cm2 * duration_s


def test_charge_and_discharge_pass_opposite_charges(
    RE: Any, docs: Any, plan: Any, potentiostat: Any, simulation_settings: Any
) -> None:
    asked = asked_c(simulation_settings)
    gross_c, net_c = charges_c(potentiostat)
    charge = RE(plan(1)).plan_result
    discharge = RE(plan(2)).plan_result
    assert charge.charge_c == pytest.approx(asked, rel=1e-6)
    assert discharge.charge_c == pytest.approx(-asked, rel=1e-6)
    assert charge.end_reason == discharge.end_reason == "Elapsed"
    assert (charge.fault, charge.short_circuit, charge.tomogram) == ("", "", "")
    passed = charges_c(potentiostat)
    assert passed[0] - gross_c == pytest.approx(2 * asked, rel=1e-6)
    assert passed[1] - net_c == pytest.approx(0.0, abs=1e-6 * asked)


def test_the_documents_hold_the_samples_and_the_outcome(
    RE: Any, docs: Any, plan: Any, simulation_settings: Any
) -> None:
    result = RE(plan(1))
    assert result.exit_status == "success"
    (start,) = docs.of("start")
    assert start["plan_name"] == "half_cycle"
    assert start["half_cycle"] == 1
    assert start["attempt"] == 0
    samples = docs.events("electrochemistry")
    data = [sample["data"] for sample in samples]
    times_s = [row["potentiostat_time_s"] for row in data]
    assert times_s == sorted(set(times_s))
    closed = [row for row in data if row["potentiostat_relay_closed"]]
    assert 10 * DURATION_S <= len(closed) <= 10 * DURATION_S + 110
    asked = asked_c(simulation_settings)
    assert closed[-1]["potentiostat_charge_c"] == pytest.approx(asked, rel=1e-6)
    (outcome,) = docs.events("outcome")
    assert outcome["data"]["potentiostat_end_reason"] == "Elapsed"
    assert json.loads(outcome["data"]["potentiostat_alarms"]) == []
    assert docs.of("stop")[0]["num_events"]["electrochemistry"] == len(samples)


def test_the_rest_after_a_half_cycle_is_recorded(
    RE: Any, docs: Any, plan: Any, potentiostat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plans.half_cycle.COLLECT_PERIOD_S", 0.05)
    result = RE(plan(1, rest_s=20.0))
    assert result.exit_status == "success"
    # of some sixty waits the RunEngine keeps nothing until the experiment ends
    assert not RE._groups
    assert not RE._status_objs
    assert not RE._seen_wait_and_move_on_keys
    data = [sample["data"] for sample in docs.events("electrochemistry")]
    opened = [row for row in data if not row["potentiostat_relay_closed"]]
    ended_s = max(
        row["potentiostat_time_s"] for row in data if row["potentiostat_relay_closed"]
    )
    times_s = [row["potentiostat_time_s"] for row in opened]
    assert times_s[-1] >= ended_s + 20.0
    assert times_s == sorted(set(times_s))
    assert all(row["potentiostat_current_ma"] == 0.0 for row in opened)
    # the polarisation is gone: what is left of some 70 mV
    assert abs(opened[-1]["potentiostat_voltage_v"]) < 0.03
    # its step as the current was cut gives the resistance of the cell
    driven = [row for row in data if row["potentiostat_relay_closed"]]
    last_v = driven[-1]["potentiostat_voltage_v"]
    least_v = last_v - opened[-1]["potentiostat_voltage_v"]
    (outcome,) = docs.events("outcome")
    ohm = outcome["data"]["potentiostat_interrupt_resistance_ohm"]
    assert result.plan_result.interrupt_resistance_ohm == ohm
    assert 0 < ohm * driven[-1]["potentiostat_current_ma"] * 1e-3 < least_v


def test_a_pause_changes_neither_charge_nor_records(
    RE: Any, docs: Any, plan: Any, potentiostat: Any, simulation_settings: Any
) -> None:
    from bluesky.utils import RunEngineInterrupted

    gross_c, _ = charges_c(potentiostat)
    once_driven(potentiostat, RE.request_pause)
    with pytest.raises(RunEngineInterrupted):
        RE(plan(1))
    result = RE.resume()
    assert result.exit_status == "success"
    asked = asked_c(simulation_settings)
    assert charges_c(potentiostat)[0] - gross_c == pytest.approx(asked, rel=1e-6)
    samples = docs.events("electrochemistry")
    numbers = [sample["seq_num"] for sample in samples]
    assert numbers == sorted(set(numbers))
    times_s = [sample["data"]["potentiostat_time_s"] for sample in samples]
    assert times_s == sorted(set(times_s))
    assert len(docs.of("descriptor")) == 3


def test_an_abort_leaves_an_open_relay_and_its_record(
    RE: Any, docs: Any, plan: Any, potentiostat: Any
) -> None:
    from bluesky.utils import RunEngineInterrupted

    gross_c, _ = charges_c(potentiostat)
    once_driven(potentiostat, lambda: RE.abort("the operator says so"))
    try:
        result = RE(plan(1, duration_s=36000.0))
    except RunEngineInterrupted:
        result = None
    assert result is None or result.exit_status == "abort"
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"
    (outcome,) = docs.events("outcome")
    passed = charges_c(potentiostat)[0] - gross_c
    assert outcome["data"]["potentiostat_charge_c"] == pytest.approx(passed, rel=1e-6)
    assert "stopped by the orchestrator" in outcome["data"]["potentiostat_fault"]
    assert docs.of("stop")[0]["exit_status"] == "abort"


def test_a_halt_opens_the_relay(RE: Any, plan: Any, potentiostat: Any) -> None:
    from bluesky.utils import RunEngineInterrupted

    once_driven(potentiostat, RE.halt)
    try:
        RE(plan(1, duration_s=36000.0))
    except RunEngineInterrupted:
        pass
    potentiostat.complete().wait(10)
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"
