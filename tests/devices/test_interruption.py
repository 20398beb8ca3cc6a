"""The resistance from a current that is cut, against what is known of the cell."""

import math

import pytest

from devices.interruption import Interruption
from devices.potentiostat_driver import GalvanostaticStep, StepState
from sim.cell import VirtualCell
from sim.cell_settings import CellSettings, VoltageSettings
from sim.instrument import VirtualInstrument

CURRENT_MA = -4.712e-3
OHM = 12_000.0


def cut(first_s: float = 0.1, period_s: float = 0.1, samples: int = 5) -> Interruption:
    """Cut a current through a resistor in series with something that relaxes."""
    interruption = Interruption()
    relaxing_v, tau_s = -0.02, 5.0
    current_a = CURRENT_MA * 1e-3
    for time_s in (9.9, 10.0):
        interruption.take(time_s, OHM * current_a + relaxing_v, CURRENT_MA, True)
    for number in range(samples):
        after_s = first_s + number * period_s
        left_v = relaxing_v * math.exp(-after_s / tau_s)
        interruption.take(10.0 + after_s, left_v, 0.0, False)
    return interruption


def test_the_resistance_is_that_of_the_ohmic_part() -> None:
    # the parabola misses the relaxing 20 mV by (0.1 s / 5 s)^3 of them, 0.2 uV of
    # 57 mV; the step alone would count 0.4 mV of them
    assert cut().resistance_ohm == pytest.approx(OHM, rel=1e-5)
    assert cut().measured()[1] == ""


@pytest.mark.parametrize(
    ("interruption", "why"),
    [
        (cut(samples=2), "fewer than 3 samples"),
        (cut(first_s=1.5), "took 1.7 s, longer than 1 s"),
        (cut(period_s=0.5), "took 1.1 s, longer than 1 s"),
        (cut(period_s=0.0), "bear one time"),
        (Interruption(), "fewer than 3 samples"),
    ],
)
def test_what_was_sampled_too_late_is_not_guessed(
    interruption: Interruption, why: str
) -> None:
    ohm, missing = interruption.measured()
    assert ohm == 0.0
    assert why in missing


def test_a_voltage_that_comes_back_as_the_current_is_cut_is_no_resistance() -> None:
    # collapsed by a short that the cut current mends: 44 mV the wrong way
    interruption = Interruption()
    interruption.take(10.0, 0.0, CURRENT_MA, True)
    for number in range(3):
        interruption.take(10.1 + 0.1 * number, -0.044, 0.0, False)
    ohm, missing = interruption.measured()
    assert ohm == 0.0
    assert (
        missing == "no step back: the voltage moved by -44 mV as -0.00471 mA were cut"
    )


def test_the_third_sample_at_rest_completes_it() -> None:
    interruption = Interruption()
    assert not interruption.take(0.0, 0.05, CURRENT_MA, True)
    assert not interruption.take(0.1, 0.0, 0.0, False)
    assert not interruption.take(0.2, 0.0, 0.0, False)
    assert interruption.take(0.3, 0.0, 0.0, False)
    assert not interruption.take(0.4, 0.0, 0.0, False)


def test_the_resistance_of_the_virtual_cell_is_found() -> None:
    settings = CellSettings(voltage=VoltageSettings(noise_v=0.0))
    cell, clock_s = VirtualCell(settings, seed=1), [1.8e9]
    current_ma = 0.15 * settings.area_cm2
    instrument = VirtualInstrument(cell, lambda: clock_s[0])
    interruption = Interruption()
    instrument.arm(GalvanostaticStep(1, current_ma, 60.0))
    instrument.start()
    truth_v, at_rest_s = 0.0, 0.0
    while at_rest_s < 0.5:
        clock_s[0] += 0.05
        if instrument.status().state is StepState.RUNNING:
            truth_v = cell.voltage_v(current_ma) - cell.voltage_v(0.0, False)
        else:
            at_rest_s += 0.05
        for sample in instrument.poll():
            interruption.take(*sample[:3], sample.relay_closed)
    # what relaxes within transfer_time_s is less than the ohmic part; of it is missed:
    missed_frac = (1 - math.exp(-0.1 / settings.voltage.transfer_time_s)) ** 3
    assert interruption.resistance_ohm == pytest.approx(
        truth_v / (current_ma * 1e-3), rel=missed_frac
    )
