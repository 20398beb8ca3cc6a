"""The virtual instrument on a clock that the test turns."""

import random

import pytest

from devices.potentiostat_driver import EndReason, GalvanostaticStep, StepState
from sim.instrument import VirtualInstrument

CURRENT_MA = 4.712e-3


class Cell:
    """Counts its own charge, the truth that the instrument is held against."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.net_c = 0.0

    def advance(self, duration_s: float, current_ma: float, relay_closed: bool) -> None:
        assert duration_s > 0
        self.time_s += duration_s
        if relay_closed:
            self.net_c += current_ma * 1e-3 * duration_s

    def measure_voltage_v(self, current_ma: float, relay_closed: bool) -> float:
        return 20.0 * current_ma if relay_closed else 0.0


class Clock:
    def __init__(self) -> None:
        self.time_s = 1.8e9

    def now(self) -> float:
        return self.time_s


@pytest.fixture
def cell() -> Cell:
    return Cell()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def instrument(cell: Cell, clock: Clock) -> VirtualInstrument:
    return VirtualInstrument(cell, clock.now)


def start(instrument: VirtualInstrument, step: GalvanostaticStep) -> None:
    instrument.arm(step)
    instrument.start()


@pytest.mark.parametrize("poll_s", [0.003, 0.1, 7.0, 300.0, 4000.0])
def test_charge_does_not_depend_on_how_often_it_is_polled(
    instrument: VirtualInstrument, cell: Cell, clock: Clock, poll_s: float
) -> None:
    duration_s = 18.0 if poll_s < 0.01 else 1800.0
    begun_s = clock.time_s
    start(instrument, GalvanostaticStep(1, -CURRENT_MA, duration_s))
    samples = []
    while instrument.status().state is StepState.RUNNING:
        clock.time_s += poll_s
        samples += instrument.poll()
    instrument.catch_up()
    status = instrument.status()
    asked_c = -CURRENT_MA * 1e-3 * duration_s
    assert status.charge_c == pytest.approx(asked_c, rel=1e-9)
    assert cell.net_c == pytest.approx(asked_c, rel=1e-9)
    assert status.elapsed_s == duration_s
    assert status.end_reason is EndReason.ELAPSED
    # the cell lived exactly as long as the clock ran
    assert cell.time_s == pytest.approx(clock.time_s - begun_s, abs=1e-5)
    closed = [sample for sample in samples if sample.relay_closed]
    # each 0.1 s, and up to every 5 ms for the half second after the jump at the start
    assert 10 * duration_s <= len(closed) <= 10 * duration_s + 110
    assert closed[-1].time_s - closed[0].time_s == pytest.approx(duration_s, abs=1e-5)


def test_random_interruptions_are_counted_as_the_cell_counts_them(
    instrument: VirtualInstrument, cell: Cell, clock: Clock
) -> None:
    rng = random.Random(1)
    for step_id in range(1, 51):
        step = GalvanostaticStep(step_id, rng.choice([1, -1]) * CURRENT_MA, 100.0)
        start(instrument, step)
        for _ in range(rng.randrange(1, 6)):
            clock.time_s += rng.uniform(0, 30)
            instrument.poll()
        instrument.open_relay(EndReason.STOPPED)
        clock.time_s += rng.uniform(0, 50)
    instrument.catch_up()
    assert instrument.status().net_charge_c == pytest.approx(cell.net_c, rel=1e-9)


def test_a_held_clock_passes_no_charge(
    instrument: VirtualInstrument, cell: Cell, clock: Clock
) -> None:
    start(instrument, GalvanostaticStep(1, CURRENT_MA, 100.0))
    for _ in range(100):
        instrument.poll()
        instrument.catch_up()
    assert cell.net_c == 0.0
    assert instrument.relay_closed


def test_an_id_runs_once(instrument: VirtualInstrument, clock: Clock) -> None:
    start(instrument, GalvanostaticStep(3, CURRENT_MA, 1.0))
    with pytest.raises(RuntimeError, match="running"):
        instrument.arm(GalvanostaticStep(4, CURRENT_MA, 1.0))
    clock.time_s += 2
    instrument.poll()
    with pytest.raises(ValueError, match="has run before"):
        instrument.arm(GalvanostaticStep(3, CURRENT_MA, 1.0))
    with pytest.raises(RuntimeError, match="no step is armed"):
        instrument.start()


def test_opening_forgets_an_armed_step(instrument: VirtualInstrument) -> None:
    instrument.arm(GalvanostaticStep(1, CURRENT_MA, 1.0))
    instrument.open_relay(EndReason.HEARTBEAT)
    with pytest.raises(RuntimeError, match="no step is armed"):
        instrument.start()


def test_a_lost_lead_passes_nothing_and_ends_at_compliance(
    instrument: VirtualInstrument, cell: Cell, clock: Clock
) -> None:
    start(instrument, GalvanostaticStep(1, CURRENT_MA, 100.0))
    clock.time_s += 10
    instrument.poll()
    instrument.faults.open_circuit = True
    passed_c = cell.net_c
    clock.time_s += 10
    instrument.poll()
    assert instrument.status().end_reason is EndReason.COMPLIANCE
    assert cell.net_c == passed_c


def test_memory_survives_a_restart(
    instrument: VirtualInstrument, cell: Cell, clock: Clock
) -> None:
    start(instrument, GalvanostaticStep(5, CURRENT_MA, 100.0))
    clock.time_s += 40
    instrument.catch_up()
    after = VirtualInstrument(cell, clock.now)
    after.restore(instrument.memory())
    status = after.status()
    assert not status.relay_closed
    assert (status.state, status.end_reason) == (StepState.DONE, EndReason.STOPPED)
    assert status.step_id == 5
    assert status.charge_c == pytest.approx(CURRENT_MA * 0.04, rel=1e-6)
    with pytest.raises(ValueError, match="has run before"):
        after.arm(GalvanostaticStep(5, CURRENT_MA, 1.0))
