"""The potentiostat's device and IOC over real Channel Access."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from devices.errors import DeviceError

DENSITY_MA_CM2 = 0.15
DURATION_S = 20.0  # simulated
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def connected(simulated_beamline: Any) -> Any:
    from devices.potentiostat import Potentiostat

    device = Potentiostat(simulated_beamline.pvs.potentiostat, name="potentiostat")
    device.wait_for_connection(timeout=20)
    return device


@pytest.fixture(scope="module")
def current_ma(simulation_settings: Any) -> float:
    return DENSITY_MA_CM2 * simulation_settings.cell.area_cm2


@pytest.fixture
def potentiostat(connected: Any) -> Iterator[Any]:
    yield connected
    connected.open_relay().wait(TIMEOUT_S)


@pytest.fixture
def armed(potentiostat: Any, current_ma: float) -> Callable[..., Any]:
    """Return a maker of steps that were never run."""
    from devices.potentiostat import ArmedStep
    from devices.potentiostat_driver import GalvanostaticStep

    def make(*, heartbeat_timeout_s: float = 5.0, **changes: Any) -> Any:
        values = {
            "id": int(potentiostat.last_step_id.get(use_monitor=False)) + 1,
            "current_ma": current_ma,
            "duration_s": DURATION_S,
        }
        step = GalvanostaticStep(**{**values, **changes})
        return ArmedStep(step, heartbeat_timeout_s)

    return make


def run(potentiostat: Any, value: Any) -> Any:
    potentiostat.prepare(value).wait(TIMEOUT_S)
    potentiostat.kickoff().wait(TIMEOUT_S)
    potentiostat.complete().wait(TIMEOUT_S)
    return potentiostat.step_outcome


def wait_for(signal: Any, wanted: Any, timeout_s: float = TIMEOUT_S) -> None:
    seen = threading.Event()

    def check(value: Any = None, **_: Any) -> None:
        if value == wanted:
            seen.set()

    subscription = signal.subscribe(check, run=True)
    try:
        assert seen.wait(timeout_s), (
            f"{signal.name} is {signal.get()!r}, not {wanted!r}"
        )
    finally:
        signal.unsubscribe(subscription)


def test_a_step_passes_its_charge_and_ends_by_itself(
    potentiostat: Any, armed: Callable[..., Any], current_ma: float
) -> None:
    before_c = potentiostat.net_charge.get(use_monitor=False)
    outcome = run(potentiostat, armed(current_ma=-current_ma))
    asked_c = -current_ma * 1e-3 * DURATION_S
    assert outcome.end_reason == "Elapsed"
    assert outcome.fault == ""
    # the step ends at its exact instant in simulated time; clock stamps of today
    # resolve 0.24 us of 20 s
    assert outcome.charge_c == pytest.approx(asked_c, rel=1e-6)
    assert outcome.elapsed_s == pytest.approx(DURATION_S, rel=1e-6)
    assert outcome.integrated_charge_c == pytest.approx(asked_c, rel=1e-3)
    assert outcome.samples_missing == 0
    passed_c = potentiostat.net_charge.get(use_monitor=False) - before_c
    assert passed_c == pytest.approx(asked_c, rel=1e-6)
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"


def test_every_sample_is_collected_once(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    lengths: set[int] = set()
    subscription = potentiostat.samples_block.subscribe(
        lambda value, **_: lengths.add(len(value)), run=False
    )
    run(potentiostat, armed())
    potentiostat.samples_block.unsubscribe(subscription)
    # few lengths of blocks, of which a client keeps each for ever
    assert lengths
    assert all(length % (16 * 6) == 0 for length in lengths)
    (page,) = list(potentiostat.collect_pages())
    times_s = page["data"]["potentiostat_time_s"]
    assert times_s == sorted(set(times_s))
    closed = page["data"]["potentiostat_relay_closed"]
    # at the start, then each 0.1 s, at the end, and some at the jump of the start
    assert 10 * DURATION_S <= sum(closed) <= 10 * DURATION_S + 110
    assert list(potentiostat.collect_pages()) == []
    assert set(page["data"]) == set(potentiostat.describe_collect())


def test_a_second_kickoff_passes_nothing(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    value = armed()
    before_c = potentiostat.gross_charge.get(use_monitor=False)
    run(potentiostat, value)
    run(potentiostat, value)
    passed_c = potentiostat.gross_charge.get(use_monitor=False) - before_c
    assert passed_c == pytest.approx(value.step.charge_c, rel=1e-6)


def test_an_id_is_refused_the_second_time(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    value = armed()
    run(potentiostat, value)
    potentiostat._kicked_off = None  # as a second orchestrator would come
    with pytest.raises(DeviceError, match="has run before"):
        potentiostat.prepare(value).wait(TIMEOUT_S)


def test_a_current_beyond_the_instrument_is_refused(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    with pytest.raises(DeviceError, match="at most 1000 mA"):
        potentiostat.prepare(armed(current_ma=2000.0)).wait(TIMEOUT_S)


def test_the_relay_cannot_be_closed_by_hand(potentiostat: Any) -> None:
    potentiostat.relay.put("Closed", wait=True)
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"
    assert "closes only with a step" in potentiostat.message.get(use_monitor=False)


def test_start_wants_the_id_that_is_armed(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    value = armed()
    potentiostat.prepare(value).wait(TIMEOUT_S)
    potentiostat.start.put(value.step.id + 1, wait=True)
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"
    assert "not the armed one" in potentiostat.message.get(use_monitor=False)


def test_stop_opens_the_relay_and_says_so(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    potentiostat.prepare(armed(duration_s=36000.0)).wait(TIMEOUT_S)
    potentiostat.kickoff().wait(TIMEOUT_S)
    assert potentiostat.relay_readback.get(use_monitor=False) == "Closed"
    potentiostat.stop()
    potentiostat.complete().wait(TIMEOUT_S)
    outcome = potentiostat.step_outcome
    assert outcome.end_reason == "Relay"
    assert outcome.fault == "stopped by the orchestrator"
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"


def test_stop_opens_before_it_reads_anything(
    potentiostat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ophyd.signal import EpicsSignalBase

    did: list[Any] = []
    monkeypatch.setattr(
        potentiostat.relay, "put", lambda value, **how: did.append((value, how))
    )
    monkeypatch.setattr(EpicsSignalBase, "get", lambda *_, **__: did.append("read"))
    potentiostat.stop()
    assert did == [("Open", {"wait": False})]


def test_the_end_of_the_step_before_is_not_that_of_the_next(
    potentiostat: Any, armed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = armed()
    run(potentiostat, value)
    ends: list[Any] = []

    def conclude(step_id: int) -> None:
        watch = SimpleNamespace(
            step=SimpleNamespace(id=step_id),
            outcome=None,
            finished=lambda *end: ends.append(end),
        )
        monkeypatch.setattr(potentiostat, "_watch", watch)
        potentiostat._conclude(watch)

    # a monitor of "Done" that arrives late, when the next step is about to start
    conclude(value.step.id + 1)
    assert ends == []
    conclude(value.step.id)
    assert [end[:2] for end in ends] == [("Done", "Elapsed")]


def late(potentiostat: Any, signal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next read of `signal` be answered too late."""
    read, left = potentiostat._read, [signal]

    def read_late(asked: Any) -> Any:
        if asked in left:
            left.remove(asked)
            raise TimeoutError("no answer")
        return read(asked)

    monkeypatch.setattr(potentiostat, "_read", read_late)


def test_an_end_that_is_answered_late_is_asked_for_again(
    potentiostat: Any, armed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    late(potentiostat, potentiostat.charge, monkeypatch)
    outcome = run(potentiostat, armed())
    assert (outcome.end_reason, outcome.confirmed) == ("Elapsed", True)


def test_a_start_that_is_not_answered_opens_the_relay_and_ends(
    potentiostat: Any, armed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = armed(duration_s=36000.0)
    potentiostat.prepare(value).wait(TIMEOUT_S)
    late(potentiostat, potentiostat.last_step_id, monkeypatch)
    with pytest.raises(DeviceError, match="no answer to the start of step"):
        potentiostat.kickoff().wait(TIMEOUT_S)
    # it runs, nobody knows: what passed until the relay opened is still counted
    potentiostat.complete().wait(TIMEOUT_S)
    outcome = potentiostat.step_outcome
    assert (outcome.end_reason, outcome.confirmed) == ("Relay", True)
    assert outcome.fault == "stopped by the orchestrator"
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"


def test_a_start_that_is_never_answered_is_given_up_by_the_watchdog(
    potentiostat: Any, armed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.potentiostat_watch.CONFIRM_TIMEOUT_S", 0.3)
    monkeypatch.setattr(potentiostat, "_conclude", lambda _watch: None)
    value = armed(duration_s=36000.0, heartbeat_timeout_s=1.0)
    potentiostat.prepare(value).wait(TIMEOUT_S)
    late(potentiostat, potentiostat.last_step_id, monkeypatch)
    with pytest.raises(DeviceError, match="no answer to the start of step"):
        potentiostat.kickoff().wait(TIMEOUT_S)
    potentiostat.complete().wait(TIMEOUT_S)
    assert not potentiostat.step_outcome.confirmed
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"


def test_a_step_that_did_not_start_ends_and_leaves_room_for_the_next(
    potentiostat: Any, armed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    potentiostat.prepare(armed()).wait(TIMEOUT_S)
    with monkeypatch.context() as patch:
        patch.setattr(potentiostat.start, "put", lambda *_, **__: None)
        with pytest.raises(DeviceError, match="did not start"):
            potentiostat.kickoff().wait(TIMEOUT_S)
    with pytest.raises(DeviceError, match="did not start"):
        potentiostat.complete().wait(TIMEOUT_S)
    assert run(potentiostat, armed()).end_reason == "Elapsed"


def test_an_instrument_that_falls_silent_before_the_start_ends_the_step(
    potentiostat: Any, armed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    potentiostat.prepare(armed()).wait(TIMEOUT_S)
    late(potentiostat, potentiostat.samples_number, monkeypatch)
    with pytest.raises(TimeoutError):
        potentiostat.kickoff().wait(TIMEOUT_S)
    with pytest.raises(TimeoutError, match="no answer"):
        potentiostat.complete().wait(TIMEOUT_S)
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"


def test_the_relay_is_told_to_open_again_where_the_first_put_is_lost(
    potentiostat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def put(value: Any, **how: Any) -> None:
        told.append((value, how["wait"]))
        if len(told) == 1:
            raise TimeoutError("not connected")

    monkeypatch.setattr(potentiostat.relay, "put", put)
    potentiostat.open_relay().wait(TIMEOUT_S)
    assert told == [("Open", False), ("Open", True)]


def test_silence_opens_the_relay(potentiostat: Any, armed: Callable[..., Any]) -> None:
    value = armed(duration_s=36000.0, heartbeat_timeout_s=1.0)
    potentiostat.prepare(value).wait(TIMEOUT_S)
    # started past the device: nothing beats
    potentiostat.start.put(value.step.id, wait=True)
    assert potentiostat.relay_readback.get(use_monitor=False) == "Closed"
    wait_for(potentiostat.end_reason, "Heartbeat")
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"


def test_a_stop_without_a_connection_ends_the_heartbeat(
    potentiostat: Any, armed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any, **__: Any) -> None:
        raise TimeoutError("not connected")

    value = armed(duration_s=36000.0, heartbeat_timeout_s=1.0)
    potentiostat.prepare(value).wait(TIMEOUT_S)
    potentiostat.kickoff().wait(TIMEOUT_S)
    monkeypatch.setattr(potentiostat.relay, "put", lost)
    with pytest.raises(TimeoutError):
        potentiostat.stop()
    potentiostat.complete().wait(TIMEOUT_S)
    assert potentiostat.step_outcome.end_reason == "Heartbeat"
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"


def test_a_heartbeat_keeps_a_step_alive(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    value = armed(duration_s=60.0, heartbeat_timeout_s=1.0)
    outcome = run(potentiostat, value)  # longer than the timeout
    assert outcome.end_reason == "Elapsed"


def test_a_voltage_outside_the_window_ends_the_step(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    value = armed(voltage_min_v=-1.0, voltage_max_v=0.01)
    outcome = run(potentiostat, value)
    assert outcome.end_reason == "Voltage"
    assert outcome.fault == ""


def test_the_charge_limit_ends_the_step(
    potentiostat: Any, armed: Callable[..., Any], current_ma: float
) -> None:
    limit_c = 0.5 * current_ma * 1e-3 * DURATION_S
    outcome = run(potentiostat, armed(charge_limit_c=limit_c))
    assert outcome.end_reason == "Charge"
    assert outcome.charge_c == pytest.approx(limit_c, rel=1e-6)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("SHORT_CIRCUIT", "hard_short"), ("WRONG_POLARITY", "wrong_polarity")],
)
def test_the_guard_opens_the_relay(
    potentiostat: Any, fault: str, kind: str, armed: Callable[..., Any]
) -> None:
    from ophyd import EpicsSignal

    signal = EpicsSignal(f"SIM:FAULT:{fault}", name="fault")
    signal.wait_for_connection(timeout=10)
    potentiostat.prepare(armed(duration_s=36000.0)).wait(TIMEOUT_S)
    potentiostat.kickoff().wait(TIMEOUT_S)
    wait_for(potentiostat.state, "Running")
    try:
        signal.put(1, wait=True)
        potentiostat.complete().wait(TIMEOUT_S)
    finally:
        signal.put(0, wait=True)
    outcome = potentiostat.step_outcome
    assert outcome.acted_on is not None
    assert outcome.acted_on.kind == kind
    assert outcome.end_reason == "Relay"
    assert potentiostat.relay_readback.get(use_monitor=False) == "Open"


def test_a_short_that_formed_at_rest_is_seen_as_the_current_begins(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    from ophyd import EpicsSignal

    signal = EpicsSignal("SIM:FAULT:SHORT_CIRCUIT", name="fault")
    signal.wait_for_connection(timeout=10)
    # the guard learns what this cell's voltage does when its current begins
    assert run(potentiostat, armed()).acted_on is None
    try:
        signal.put(1, wait=True)
        outcome = run(potentiostat, armed(duration_s=36000.0))
    finally:
        signal.put(0, wait=True)
    assert outcome.acted_on.kind == "hard_short"
    (page,) = list(potentiostat.collect_pages())
    closed = page["data"]["potentiostat_relay_closed"]
    began_s = page["data"]["potentiostat_time_s"][closed.index(True)]
    # two samples at 10 Hz, not the 5 s that a cell has to settle
    assert outcome.acted_on.samples[-1][0] - began_s <= 0.3


def test_a_voltage_that_stands_still_opens_the_relay(
    potentiostat: Any, armed: Callable[..., Any]
) -> None:
    from ophyd import EpicsSignal

    from devices.short_circuit import GuardSettings

    signal = EpicsSignal("SIM:FAULT:STALE_VOLTAGE", name="fault")
    signal.wait_for_connection(timeout=10)
    potentiostat.guard = GuardSettings(stale_after_s=1.0)
    potentiostat.prepare(armed(duration_s=36000.0)).wait(TIMEOUT_S)
    potentiostat.kickoff().wait(TIMEOUT_S)
    try:
        signal.put(1, wait=True)
        potentiostat.complete().wait(TIMEOUT_S)
        with pytest.raises(DeviceError, match="silent"):
            potentiostat.heard(timeout_s=0.5).wait(TIMEOUT_S)
    finally:
        signal.put(0, wait=True)
        potentiostat.guard = GuardSettings()
    assert potentiostat.step_outcome.acted_on.kind == "stale"
    potentiostat.heard().wait(TIMEOUT_S)
