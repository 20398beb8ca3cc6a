"""What watches a step, fed by hand: no Channel Access, no clock but its own."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from devices import potentiostat_watch
from devices.potentiostat_driver import GalvanostaticStep
from devices.potentiostat_outcome import StepOutcome
from devices.potentiostat_watch import StepWatch
from devices.short_circuit import CellHealth, GuardSettings
from plans.half_cycle import judge

CURRENT_MA = 4.712e-3


class Bench:
    """A watch and what it did."""

    def __init__(
        self,
        *,
        guard: GuardSettings | None = None,
        beat: Any = None,
        health: CellHealth | None = None,
    ) -> None:
        self.opened = 0
        self.beats = 0
        self.outcome: StepOutcome | None = None
        self.ended = threading.Event()
        self.connected = True
        self.watch = StepWatch(
            GalvanostaticStep(1, CURRENT_MA, 100.0),
            guard or GuardSettings(),
            heartbeat_timeout_s=0.1,
            first_number=5,
            health=health or CellHealth(),
            open_relay=self._open,
            beat=self._beat,
            ended=self._end,
        )

    def _open(self) -> None:
        self.opened += 1
        if not self.connected:
            raise ConnectionError("no such PV")

    def _beat(self) -> None:
        self.beats += 1
        if not self.connected:
            raise ConnectionError("no such PV")

    def _end(self, outcome: StepOutcome) -> None:
        self.outcome = outcome
        self.ended.set()

    def feed(
        self, numbers: range, voltage_v: float = 0.08, current_ma: float = CURRENT_MA
    ) -> None:
        self.watch.samples(block(numbers, voltage_v, current_ma))


def block(
    numbers: range,
    voltage_v: float = 0.08,
    current_ma: float = CURRENT_MA,
    relay: float = 1.0,
) -> np.ndarray:
    rows = [
        (n, 1.8e9 + 0.1 * n, voltage_v, current_ma, current_ma * 1e-4 * (n - 5), relay)
        for n in numbers
    ]
    return np.array(rows, dtype=float).ravel()


def test_blocks_that_overlap_give_each_sample_once() -> None:
    bench = Bench()
    for stop in range(10, 300, 7):
        bench.feed(range(max(0, stop - 20), stop))
    bench.feed(range(290, 306))
    bench.watch.finished("Done", "Elapsed", CURRENT_MA * 0.03, 30.0)
    times_s = [sample.time_s for sample in bench.watch.take()]
    assert len(times_s) == 301
    assert np.diff(times_s) == pytest.approx(0.1, abs=1e-6)
    assert bench.outcome is not None
    assert bench.outcome.samples_missing == 0
    assert bench.outcome.warnings == ()
    assert bench.outcome.integrated_charge_c == pytest.approx(CURRENT_MA * 0.03)


def test_the_relay_is_opened_when_the_instrument_says_that_it_has_ended() -> None:
    bench = Bench()
    bench.feed(range(5, 100))
    bench.watch.finished("Running", "None", 0.0, 0.0)
    assert bench.opened == 0
    bench.watch.finished("Done", "Elapsed", CURRENT_MA * 0.1, 100.0)
    assert bench.opened == 1


def test_samples_that_never_came_are_counted_and_said() -> None:
    bench = Bench()
    bench.feed(range(5, 100))
    bench.feed(range(110, 200))
    bench.watch.finished("Done", "Elapsed", CURRENT_MA * 0.0194, 19.4)
    assert bench.outcome is not None
    assert bench.outcome.samples_missing == 10
    assert "10 of 195 samples never arrived" in bench.outcome.warnings[0]


def test_two_charges_that_differ_are_flagged() -> None:
    bench = Bench()
    bench.feed(range(5, 305))
    bench.watch.finished("Done", "Elapsed", CURRENT_MA * 0.0299 * 1.006, 29.9)
    assert bench.outcome is not None
    assert "differ by more than 0.5%" in bench.outcome.warnings[0]


def test_a_short_opens_the_relay_within_the_callback() -> None:
    bench = Bench()
    bench.feed(range(5, 100))
    assert bench.opened == 0
    bench.feed(range(100, 102), voltage_v=0.0)
    assert bench.opened > 0
    bench.watch.finished("Done", "Relay", CURRENT_MA * 0.01, 10.0)
    assert bench.outcome is not None
    judged = judge(bench.outcome)
    assert "hard_short" in judged.short_circuit
    assert not judged.resumable
    assert bench.outcome.acted_on is not None
    assert bench.outcome.acted_on.samples[-1][1] == 0.0


def test_the_resistance_of_a_cell_is_known_after_its_first_samples_at_rest() -> None:
    bench = Bench()
    bench.feed(range(5, 105))
    bench.watch.finished("Done", "Elapsed", CURRENT_MA * 0.01, 10.0)
    assert bench.watch.outcome is not None
    assert "fewer than 3 samples" in bench.watch.outcome.interrupt_resistance_missing
    bench.watch.samples(block(range(105, 110), 0.0, 0.0, relay=0.0))
    # 80 mV over the current, and not a thing that relaxes
    assert bench.watch.outcome.interrupt_resistance_ohm == pytest.approx(
        0.08 / (CURRENT_MA * 1e-3)
    )
    assert bench.watch.outcome.interrupt_resistance_missing == ""


@pytest.mark.parametrize("rest_v", [-0.044, 0.044])
def test_a_shorted_cell_has_no_resistance_and_says_why(rest_v: float) -> None:
    bench = Bench()
    bench.feed(range(5, 100))
    bench.feed(range(100, 102), voltage_v=0.0)
    bench.watch.finished("Done", "Relay", CURRENT_MA * 0.01, 10.0)
    bench.watch.samples(block(range(102, 110), rest_v, 0.0, relay=0.0))
    outcome = bench.watch.outcome
    assert outcome is not None
    assert judge(outcome).interrupt_resistance_ohm == 0.0
    missing = judge(outcome).interrupt_resistance_missing
    assert missing.startswith("no steady voltage as the relay opened: hard_short")


def test_a_short_that_is_only_noted_leaves_no_resistance_either() -> None:
    bench = Bench(guard=GuardSettings(hard_short="warn"))
    bench.feed(range(5, 100))
    bench.feed(range(100, 110), voltage_v=0.002 * 0.4)
    bench.watch.finished("Done", "Elapsed", CURRENT_MA * 0.01, 10.0)
    bench.watch.samples(block(range(110, 120), 0.0, 0.0, relay=0.0))
    outcome = bench.watch.outcome
    assert outcome is not None
    assert outcome.acted_on is None
    assert outcome.interrupt_resistance_ohm == 0.0
    assert "hard_short" in outcome.interrupt_resistance_missing


def test_a_soft_short_may_ask_for_a_tomogram() -> None:
    bench = Bench(guard=GuardSettings(soft_short="tomogram"))
    bench.feed(range(5, 205))
    bench.feed(range(205, 320), voltage_v=0.05)
    assert bench.opened > 0
    bench.watch.finished("Done", "Relay", CURRENT_MA * 0.03, 30.0)
    assert bench.outcome is not None
    judged = judge(bench.outcome)
    assert "soft_short" in judged.tomogram
    assert (judged.fault, judged.short_circuit) == ("", "")
    assert judged.resumable


def test_a_soft_short_is_by_default_only_noted() -> None:
    bench = Bench()
    bench.feed(range(5, 205))
    bench.feed(range(205, 320), voltage_v=0.05)
    assert bench.opened == 0
    bench.watch.finished("Done", "Elapsed", CURRENT_MA * 0.1, 100.0)
    assert bench.outcome is not None
    assert [alarm.kind for alarm in bench.outcome.alarms] == ["soft_short"]
    assert (bench.outcome.acted_on, bench.outcome.fault) == (None, "")


@pytest.mark.parametrize(
    ("current_ma", "tripped_at", "fault"),
    [
        # 2 % more charge than asked: after 102 s of 100
        (CURRENT_MA, 1025, "C were asked"),
        # 5 % less current, which is within its tolerance: after 105 s
        (0.95 * CURRENT_MA, 1055, "instead of ending"),
    ],
)
def test_an_instrument_that_does_not_end_is_stopped(
    current_ma: float, tripped_at: int, fault: str
) -> None:
    bench = Bench()
    bench.feed(range(5, tripped_at - 2), current_ma=current_ma)
    assert bench.opened == 0
    bench.feed(range(tripped_at - 2, tripped_at + 3), current_ma=current_ma)
    assert bench.opened > 0
    bench.watch.finished("Done", "Relay", CURRENT_MA * 0.105, 105.0)
    assert bench.outcome is not None
    assert fault in bench.outcome.fault


def test_a_guard_that_fails_opens_the_relay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.feed(range(5, 100))
    monkeypatch.setattr(bench.watch._rules, "feed", None)
    bench.feed(range(100, 101))
    assert bench.opened > 0
    bench.watch.finished("Done", "Relay", 0.0, 0.0)
    assert bench.outcome is not None
    assert "the guard failed" in bench.outcome.fault


def test_a_dead_ioc_ends_the_step_with_what_was_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(potentiostat_watch, "CONFIRM_TIMEOUT_S", 0.2)
    bench = Bench(guard=GuardSettings(stale_after_s=0.2))
    bench.feed(range(5, 105))
    bench.connected = False
    bench.watch.start()
    assert bench.ended.wait(20)
    assert bench.outcome is not None
    assert bench.opened > 1
    assert "did not confirm an open relay" in bench.outcome.fault
    assert bench.outcome.charge_c == pytest.approx(CURRENT_MA * 0.0099)
    judged = judge(bench.outcome)
    assert not bench.outcome.confirmed
    assert not judged.resumable, "what passed unseen would pass again"
    assert "check it at the cell" in judged.fault


def test_after_a_trip_no_beat_keeps_an_unconfirmed_relay_closed() -> None:
    bench = Bench(guard=GuardSettings(stale_after_s=30.0))
    bench.feed(range(5, 100))
    bench.watch.stopped()
    bench.watch.start()
    pause = threading.Event()
    for _ in range(500):
        if bench.opened >= 5:  # it goes on trying
            break
        pause.wait(0.02)
    bench.watch.finished("Done", "Relay", 0.0, 0.0)
    assert bench.opened >= 5
    assert bench.beats == 0


def test_the_heart_beats_while_samples_come() -> None:
    bench = Bench(guard=GuardSettings(stale_after_s=30.0))
    bench.watch.start()
    pause = threading.Event()
    for _ in range(500):
        if bench.beats >= 5:
            break
        pause.wait(0.02)
    bench.watch.finished("Done", "Elapsed", 0.0, 0.0)
    assert bench.beats >= 5
