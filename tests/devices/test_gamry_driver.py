"""The Gamry driver against a stand-in for the vendor's toolkit.

The stand-in is no mock: it keeps a state and refuses calls out of order, in wrong
units, out of range, or from another thread, as the real toolkit documents them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from devices.gamry import GamryInstrument
from devices.gamry_driver import GamryDriver
from devices.potentiostat_driver import EndReason, GalvanostaticStep, StepState

CURRENT_MA = 4.712e-3
RANGES_A = [1e-8 * 10**n for n in range(9)]  # 10 nA … 1 A, as the 1000E has them


class ToolkitError(RuntimeError):
    """A call that the instrument would not take."""


class Pstat:
    def __init__(self, toolkit: Toolkit, section: str) -> None:
        self.toolkit = toolkit
        self.section = section
        self.log: list[str] = []
        self.cell = False
        self.signal: tuple[float, ...] | None = None
        self.initialised = False
        self.mode: str | None = None
        self.ie_range: int | None = None
        self.settings: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("set_"):
            raise AttributeError(name)

        def setter(value: Any) -> None:
            self.toolkit.check_thread()
            if self.cell:
                raise ToolkitError(f"{name} while the cell is on")
            self.settings[name[4:]] = value
            self.log.append(name)

        return setter

    def label(self) -> str:
        return self.section

    def serial_no(self) -> str:
        return "31415"

    def set_cell(self, on: bool) -> None:
        self.toolkit.check_thread()
        if on and not self.initialised:
            raise ToolkitError("cell on before init_signal")
        if on and self.ie_range is None:
            raise ToolkitError("cell on without a current range")
        if on and self.settings.get("ie_range_mode") is not False:
            raise ToolkitError("cell on with an automatic current range")
        self.cell = on
        self.log.append(f"set_cell({on})")

    def set_ctrl_mode(self, mode: str) -> None:
        self.toolkit.check_thread()
        if self.cell:
            raise ToolkitError("control mode changed while the cell is on")
        self.mode = mode

    def test_ie_range(self, current_a: float) -> int:
        if not 0 < current_a <= RANGES_A[-1]:
            raise ToolkitError(f"no range for {current_a} A")
        return next(n for n, limit in enumerate(RANGES_A) if current_a <= limit)

    def set_ie_range(self, number: int) -> None:
        self.toolkit.check_thread()
        self.ie_range = number

    def signal_d_step_new(self, *values: Any) -> tuple[float, ...]:
        *numbers, mode = values
        if mode != self.mode:
            raise ToolkitError(f"signal for {mode} in mode {self.mode}")
        if len(numbers) != 7:
            raise ToolkitError("a double step has seven numbers")
        currents, times = numbers[0:6:2], numbers[1:6:2]
        if any(t < numbers[6] for t in times):
            raise ToolkitError("a part of a signal is shorter than a sample")
        if self.ie_range is None or max(map(abs, currents)) > RANGES_A[self.ie_range]:
            raise ToolkitError("the signal does not fit the current range")
        return tuple(numbers)

    def set_signal_d_step(self, signal: tuple[float, ...]) -> None:
        self.toolkit.check_thread()
        self.signal, self.initialised = signal, False

    def init_signal(self) -> None:
        if self.signal is None:
            raise ToolkitError("init_signal without a signal")
        self.initialised = True

    def measure_v(self) -> float:
        self.toolkit.check_thread()
        return self.toolkit.rest_v


class Curve:
    """Rows as the instrument's processor takes them, by the stand-in's clock."""

    TYPE = np.dtype([("time", float), ("vf", float), ("im", float), ("overload", int)])

    def __init__(self, pstat: Pstat, rows: int) -> None:
        self.pstat, self.rows = pstat, rows
        self.begun_s: float | None = None
        self.stopped = False
        self.freed = False

    def run(self, from_now: bool) -> None:
        self.pstat.toolkit.check_thread()
        if not self.pstat.cell:
            raise ToolkitError("run with the cell off")
        self.begun_s = self.pstat.toolkit.now_s
        self.pstat.log.append("run")

    def _elapsed_s(self) -> float:
        return self.pstat.toolkit.now_s - self.begun_s

    def _length_s(self) -> float:
        return sum(self.pstat.signal[1:6:2])

    def running(self) -> bool:
        if self.freed:
            raise ToolkitError("running of a curve that was freed")
        return not self.stopped and self._elapsed_s() < self._length_s()

    def acq_data(self) -> np.ndarray:
        period_s = self.pstat.signal[6]
        count = int(min(self._elapsed_s(), self._length_s()) / period_s + 1e-6)
        if count > self.rows:
            raise ToolkitError("the curve is full: samples were lost")
        time_s = period_s * np.arange(1, count + 1)
        first_a, first_s, second_a, second_s, third_a, _, _ = self.pstat.signal
        current_a = np.where(time_s <= first_s + second_s + 1e-9, second_a, third_a)
        data = np.zeros(count, dtype=self.TYPE)
        data["time"], data["im"] = time_s, current_a
        data["vf"] = self.pstat.toolkit.voltage_v(time_s, current_a)
        data["overload"] = self.pstat.toolkit.overload
        return data

    def stop(self) -> None:
        self.pstat.log.append("stop")
        self.stopped = True

    def free(self) -> None:
        self.freed = True


class Toolkit:
    CELL_ON, CELL_OFF = True, False
    GSTATMODE, FLOAT, IRUPTOFF = "GSTATMODE", "FLOAT", "IRUPTOFF"
    STABILITY_NORM, CASPEED_NORM = "STABILITY_NORM", "CASPEED_NORM"
    ICONVENTION = SimpleNamespace(ANODIC="ANODIC", CATHODIC="CATHODIC")

    def __init__(self) -> None:
        self.thread: int | None = None
        self.now_s = 1.8e9
        self.rest_v = 1e-4
        self.resistance_ohm = 20e3
        self.overload = 0
        self.valid = True
        self.closed = False
        self.pstat: Pstat | None = None
        self.sections = ["IFC1000-31415"]

    def check_thread(self) -> None:
        if threading.get_ident() != self.thread:
            raise ToolkitError("called from another thread")

    def toolkitpy_init(self, name: str) -> None:
        self.thread = threading.get_ident()

    def toolkitpy_close(self) -> None:
        self.closed = True

    def enum_sections(self) -> list[str]:
        return self.sections

    def Pstat(self, section: str) -> Pstat:  # noqa: N802 - the vendor's name
        self.check_thread()
        self.pstat = Pstat(self, section)
        return self.pstat

    def ChronoCurve(self, pstat: Pstat, rows: int) -> Curve:  # noqa: N802 - theirs
        return Curve(pstat, rows)

    def pstat_is_valid(self, pstat: Pstat) -> bool:
        return self.valid

    def voltage_v(self, time_s: np.ndarray, current_a: np.ndarray) -> np.ndarray:
        return current_a * self.resistance_ohm


@pytest.fixture
def toolkit() -> Toolkit:
    return Toolkit()


@pytest.fixture
def instrument(toolkit: Toolkit) -> GamryInstrument:
    return GamryInstrument(toolkit, now_s=lambda: toolkit.now_s)


def run(
    instrument: GamryInstrument, toolkit: Toolkit, *, poll_s: float = 0.7
) -> list[Any]:
    samples = []
    while instrument.status().state is StepState.RUNNING:
        toolkit.now_s += poll_s
        samples += instrument.service()
    return samples


@pytest.mark.parametrize("current_ma", [CURRENT_MA, -CURRENT_MA, 5e-5, 100.0])
def test_a_step_passes_its_charge_and_leaves_the_cell_off(
    instrument: GamryInstrument, toolkit: Toolkit, current_ma: float
) -> None:
    toolkit.resistance_ohm = 0.1 / abs(current_ma * 1e-3)
    instrument.arm(GalvanostaticStep(1, current_ma, 1800.0))
    assert not toolkit.pstat.cell
    instrument.start()
    assert toolkit.pstat.cell
    samples = run(instrument, toolkit)
    status = instrument.status()
    assert not toolkit.pstat.cell
    assert status.end_reason is EndReason.ELAPSED
    assert status.elapsed_s == pytest.approx(1800.0)
    assert status.charge_c == pytest.approx(current_ma * 1.8, rel=1e-9)
    assert len(samples) == 18000
    assert samples[-1].current_ma == pytest.approx(current_ma)
    assert np.sign(samples[0].voltage_v) == np.sign(current_ma)


def test_the_signal_is_in_amperes_and_ends_at_zero(
    instrument: GamryInstrument, toolkit: Toolkit
) -> None:
    instrument.arm(GalvanostaticStep(1, CURRENT_MA, 60.0))
    first_a, first_s, second_a, second_s, third_a, _, period_s = toolkit.pstat.signal
    assert first_a == second_a == pytest.approx(4.712e-6)
    assert first_s + second_s == pytest.approx(60.0)
    assert third_a == 0.0
    assert period_s == 0.1
    # 10 uA is the smallest range that holds 4.712 uA
    assert RANGES_A[toolkit.pstat.ie_range] == pytest.approx(1e-5)
    assert toolkit.pstat.settings["i_convention"] == "ANODIC"
    assert toolkit.pstat.settings["vch_range"] == 12.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"charge_limit_c": 1e-4}, EndReason.CHARGE),
        ({"voltage_max_v": 0.05}, EndReason.VOLTAGE),
        ({"compliance_v": 0.05}, EndReason.COMPLIANCE),
    ],
)
def test_limits_end_a_step(
    instrument: GamryInstrument,
    toolkit: Toolkit,
    changes: dict[str, float],
    reason: EndReason,
) -> None:
    instrument.arm(GalvanostaticStep(1, CURRENT_MA, 600.0, **changes))
    instrument.start()
    run(instrument, toolkit)
    assert instrument.status().end_reason is reason
    assert not toolkit.pstat.cell


def test_an_overload_that_lasts_is_compliance(
    instrument: GamryInstrument, toolkit: Toolkit
) -> None:
    instrument.arm(GalvanostaticStep(1, CURRENT_MA, 600.0))
    instrument.start()
    toolkit.overload = 4
    run(instrument, toolkit)
    assert instrument.status().end_reason is EndReason.COMPLIANCE


def test_open_relay_turns_the_cell_off_before_anything_else(
    instrument: GamryInstrument, toolkit: Toolkit
) -> None:
    instrument.arm(GalvanostaticStep(1, CURRENT_MA, 600.0))
    instrument.start()
    toolkit.now_s += 30
    instrument.service()
    toolkit.pstat.log.clear()
    instrument.open_relay(EndReason.HEARTBEAT)
    assert toolkit.pstat.log == ["set_cell(False)", "stop"]
    assert instrument.status().end_reason is EndReason.HEARTBEAT
    assert instrument.status().charge_c == pytest.approx(CURRENT_MA * 0.03, rel=1e-6)


def test_the_rest_is_sampled_fast_at_first_then_once_a_second(
    instrument: GamryInstrument, toolkit: Toolkit
) -> None:
    instrument.arm(GalvanostaticStep(1, CURRENT_MA, 600.0))
    instrument.start()
    toolkit.now_s += 30
    instrument.service()
    instrument.open_relay(EndReason.RELAY)

    def samples_in(seconds: int) -> int:
        count = 0
        for _ in range(20 * seconds):
            toolkit.now_s += 0.05
            count += len(instrument.service())
        return count

    # each 0.1 s, give or take the step of the clock
    assert samples_in(10) == pytest.approx(100, rel=0.35)
    samples_in(25)
    assert samples_in(10) == pytest.approx(10, abs=1)


@pytest.mark.parametrize(
    ("step", "match"),
    [
        (GalvanostaticStep(1, 1001.0, 60.0), "at most 1000 mA"),
        (GalvanostaticStep(1, CURRENT_MA, 0.1), "plays 0.2 to"),
        (GalvanostaticStep(1, CURRENT_MA, 60.0, compliance_v=15.0), "at most 12 V"),
    ],
)
def test_what_the_instrument_cannot_do_is_refused(
    instrument: GamryInstrument, step: GalvanostaticStep, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        instrument.arm(step)


def test_an_id_runs_once(instrument: GamryInstrument, toolkit: Toolkit) -> None:
    instrument.arm(GalvanostaticStep(1, CURRENT_MA, 1.0))
    instrument.start()
    run(instrument, toolkit)
    with pytest.raises(ValueError, match="has run before"):
        instrument.arm(GalvanostaticStep(1, CURRENT_MA, 1.0))


def test_an_instrument_that_is_unplugged_is_a_fault(
    instrument: GamryInstrument, toolkit: Toolkit
) -> None:
    instrument.arm(GalvanostaticStep(1, CURRENT_MA, 600.0))
    instrument.start()
    toolkit.valid = False
    instrument.service()
    status = instrument.status()
    assert status.state is StepState.FAULT
    assert "USB" in status.message


def test_the_open_circuit_is_read_once_a_second(
    instrument: GamryInstrument, toolkit: Toolkit
) -> None:
    samples = []
    for _ in range(50):
        toolkit.now_s += 0.1
        samples += instrument.service()
    assert len(samples) in (5, 6)
    assert samples[0].voltage_v == toolkit.rest_v
    assert not samples[0].relay_closed


def test_two_instruments_must_be_told_apart(toolkit: Toolkit) -> None:
    toolkit.sections = ["A", "B"]
    with pytest.raises(ValueError, match="name the one to use"):
        GamryInstrument(toolkit)
    with pytest.raises(ValueError, match="no Gamry instrument C"):
        GamryInstrument(toolkit, "C")


def test_without_the_toolkit_the_error_says_where_it_comes_from() -> None:
    with pytest.raises(RuntimeError, match="comes with the Gamry software"):
        GamryDriver.connect()


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it never came")


def test_the_driver_keeps_the_toolkit_in_one_thread(toolkit: Toolkit) -> None:
    driver = GamryDriver(lambda: GamryInstrument(toolkit, now_s=lambda: toolkit.now_s))
    try:
        assert driver.identity.serial == "31415"
        driver.arm(GalvanostaticStep(1, CURRENT_MA, 60.0))
        driver.start()
        samples: list[Any] = []

        def ended() -> bool:
            toolkit.now_s += 0.5
            samples.extend(driver.poll())
            return driver.status().state is StepState.DONE

        wait_until(ended)
        samples.extend(driver.poll())
        assert sum(sample.relay_closed for sample in samples) == 600
        with pytest.raises(ValueError, match="has run before"):
            driver.arm(GalvanostaticStep(1, CURRENT_MA, 60.0))
    finally:
        driver.close()
    assert toolkit.closed
    assert not toolkit.pstat.cell


def test_a_driver_that_nobody_polls_turns_the_cell_off(toolkit: Toolkit) -> None:
    driver = GamryDriver(
        lambda: GamryInstrument(toolkit, now_s=lambda: toolkit.now_s), dead_man_s=0.2
    )
    try:
        driver.arm(GalvanostaticStep(1, CURRENT_MA, 60.0))
        driver.poll()
        driver.start()
        wait_until(lambda: driver.status().end_reason is EndReason.HEARTBEAT)
        assert not toolkit.pstat.cell
    finally:
        driver.close()
