"""The guard's rules on the voltage of the virtual cell, instrument included."""

from __future__ import annotations

import pytest

from devices.potentiostat_driver import GalvanostaticStep, StepState
from devices.short_circuit import Alarm, GuardSettings, ShortCircuitRules
from sim.cell import VirtualCell
from sim.cell_settings import CellSettings, ShortSettings
from sim.instrument import VirtualInstrument

DURATION_S = 600.0


class Clock:
    time_s = 1.8e9

    def now(self) -> float:
        return self.time_s


def cycle(
    short: ShortSettings, half_cycles: int, *, seed: int = 1
) -> tuple[tuple[Alarm, ...], float | None]:
    """Return the alarms of some half-cycles and when the cell first shorted."""
    settings = CellSettings(short=short)
    charge_c = 0.15e-3 * settings.area_cm2 * DURATION_S
    settings = settings.model_copy(update={"half_cycle_charge_c": charge_c})
    cell, clock = VirtualCell(settings, seed), Clock()
    instrument = VirtualInstrument(cell, clock.now)
    rules = ShortCircuitRules(GuardSettings())
    shorted_s = None
    for number in range(1, half_cycles + 1):
        current_ma = (1 if number % 2 else -1) * 0.15 * settings.area_cm2
        instrument.arm(GalvanostaticStep(number, current_ma, DURATION_S))
        rules.begin(current_ma, compliance_v=5.0)
        instrument.start()
        while instrument.status().state is StepState.RUNNING:
            clock.time_s += 0.1
            for sample in instrument.poll():
                rules.feed(
                    sample.time_s,
                    sample.voltage_v,
                    sample.current_ma,
                    sample.relay_closed,
                )
            if shorted_s is None and cell.shorted:
                shorted_s = clock.time_s
        rules.end()
        clock.time_s += 300.0
        instrument.poll()
    return rules.alarms, shorted_s


@pytest.mark.parametrize("seed", [1, 2])
def test_a_healthy_cell_raises_nothing(seed: int) -> None:
    alarms, shorted_s = cycle(ShortSettings(kind="none"), 6, seed=seed)
    assert shorted_s is None
    assert alarms == ()


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.9])
def test_a_hard_short_mid_step_is_found_where_it_happens(fraction: float) -> None:
    short = ShortSettings(kind="hard", half_cycle=2, fraction=fraction)
    alarms, shorted_s = cycle(short, 2)
    assert [alarm.kind for alarm in alarms] == ["hard_short"]
    assert shorted_s is not None
    # the cell was looked at each 0.1 s
    assert alarms[0].start_s == pytest.approx(shorted_s, abs=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_a_flickering_cell_is_a_soft_short(seed: int) -> None:
    short = ShortSettings(kind="soft", half_cycle=2, fraction=0.3)
    alarms, shorted_s = cycle(short, 2, seed=seed)
    soft = [alarm for alarm in alarms if alarm.kind == "soft_short"]
    assert shorted_s is not None
    assert soft
    assert -0.2 <= soft[0].samples[-1][0] - shorted_s <= 120.0
    assert "hard_short" not in [alarm.kind for alarm in alarms]
