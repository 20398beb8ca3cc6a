"""Charge, half-cycles and voltage of the virtual cell."""

import json
from math import log

import pytest

from sim.cell import LITHIUM_UM3_PER_C, VirtualCell
from sim.cell_settings import CellSettings, ShortSettings

CHARGE_C = 8.482e-3
CURRENT_MA = CHARGE_C / 1800 * 1e3


def run_half_cycles(cell, number, steps=90):
    for index in range(number):
        sign = 1 if index % 2 == 0 else -1
        for _ in range(steps):
            cell.advance(1800 / steps, sign * CURRENT_MA)
        cell.advance(600, 0.0, relay_closed=False)


def test_a_half_cycle_of_the_experiment_plates_the_volume_faraday_says():
    # 8.482 mC: Q M / (F rho) by hand, 1.1425e6 um3.
    assert CHARGE_C * LITHIUM_UM3_PER_C == pytest.approx(1.1425e6, rel=2e-4)


def test_gross_charge_counts_half_cycles_and_net_charge_keeps_its_sign():
    cell = VirtualCell(CellSettings(half_cycle_charge_c=CHARGE_C), seed=1)
    run_half_cycles(cell, 3)
    assert cell.half_cycles == pytest.approx(3, rel=1e-9)
    assert cell.gross_charge_c == pytest.approx(3 * CHARGE_C, rel=1e-9)
    assert cell.net_charge_c == pytest.approx(CHARGE_C, rel=1e-9)
    assert cell.state().directions == (1, -1, 1)
    assert cell.state().label == pytest.approx(2)


@pytest.mark.parametrize("excess_s", [-5.0, 0.0, 5.0])
def test_a_step_that_ends_early_or_late_does_not_change_where_cracks_start(excess_s):
    cell = VirtualCell(CellSettings(half_cycle_charge_c=CHARGE_C), seed=1)
    cell.advance(1800 + excess_s, CURRENT_MA)
    after_charge = cell.state()
    assert after_charge.directions == (1,)
    cell.advance(1800 - excess_s, -CURRENT_MA)
    assert cell.state().directions == (1, -1)


def test_wrong_polarity_starts_cracks_at_the_cathode():
    cell = VirtualCell(CellSettings(half_cycle_charge_c=CHARGE_C), seed=1)
    cell.advance(1800, -CURRENT_MA)
    assert cell.state().directions == (-1,)
    assert cell.net_charge_c == pytest.approx(-CHARGE_C)


def test_an_open_relay_passes_no_charge_and_lets_the_voltage_relax():
    settings = CellSettings(half_cycle_charge_c=CHARGE_C)
    cell = VirtualCell(settings, seed=1)
    cell.advance(900, CURRENT_MA)
    driven = cell.voltage_v(CURRENT_MA)
    charge = cell.gross_charge_c
    relaxing = cell.voltage_v(CURRENT_MA, relay_closed=False)
    assert settings.voltage.rest_v < relaxing < driven
    cell.advance(600, CURRENT_MA, relay_closed=False)
    assert cell.gross_charge_c == charge
    relaxed = cell.voltage_v(CURRENT_MA, relay_closed=False)
    assert relaxed == pytest.approx(settings.voltage.rest_v, abs=1e-6)


def test_polarisation_has_the_ohmic_and_interface_parts_and_the_sign_of_current():
    settings = CellSettings(half_cycle_charge_c=CHARGE_C)
    cell = VirtualCell(settings, seed=1)
    cell.advance(300, CURRENT_MA)
    # 0.06 cm / 1.6e-4 S/cm + 300 + 150 ohm cm2 at 0.15 mA/cm2, and the excess of a
    # first charge one sixth done.
    expected = 0.15e-3 * (0.06 / 1.6e-4 + 450)
    sixth = 1 / 6
    expected *= 1 + 0.35 * (1 - sixth / 2) + 3.0 * 0.0146 * sixth
    voltage = cell.voltage_v(CURRENT_MA) - settings.voltage.rest_v
    assert voltage == pytest.approx(expected, rel=2e-3)
    cell.advance(600, -CURRENT_MA)
    assert cell.voltage_v(-CURRENT_MA) < 0


def test_the_first_charge_polarises_more_than_the_next():
    cell = VirtualCell(CellSettings(half_cycle_charge_c=CHARGE_C), seed=1)
    cell.advance(1790, CURRENT_MA)
    first = cell.voltage_v(CURRENT_MA)
    cell.advance(10, CURRENT_MA)
    cell.advance(1790, -CURRENT_MA)
    second = -cell.voltage_v(-CURRENT_MA)
    assert 1.02 < first / second < 1.2


def test_polarisation_grows_with_the_cracks():
    cell = VirtualCell(CellSettings(half_cycle_charge_c=CHARGE_C), seed=1)
    magnitudes = []
    for index in range(10):
        sign = 1 if index % 2 == 0 else -1
        cell.advance(1800, sign * CURRENT_MA)
        magnitudes.append(abs(cell.voltage_v(sign * CURRENT_MA)))
    assert magnitudes[1:] == sorted(magnitudes[1:])
    # Label 5.5 against 1.5 by the law of the crack volume, the rest voltage aside.
    growth = 1 + 3.0 * (0.0146 + 0.0743 * log(5.5))
    growth /= 1 + 3.0 * (0.0146 + 0.0743 * log(1.5))
    assert magnitudes[-1] / magnitudes[1] == pytest.approx(growth, rel=0.01)


def test_a_hard_short_comes_at_its_charge_and_stays():
    settings = CellSettings(
        half_cycle_charge_c=CHARGE_C,
        short=ShortSettings(kind="hard", half_cycle=2, fraction=0.5),
    )
    cell = VirtualCell(settings, seed=1)
    cell.advance(1800, CURRENT_MA)
    cell.advance(899, -CURRENT_MA)
    before = cell.voltage_v(-CURRENT_MA)
    assert not cell.shorted
    cell.advance(2, -CURRENT_MA)
    assert cell.shorted
    assert abs(cell.voltage_v(-CURRENT_MA)) < 0.02 * abs(before)
    cell.advance(5000, 0.0, relay_closed=False)
    assert cell.state().shorted


def test_no_short_when_none_is_asked_for():
    settings = CellSettings(
        half_cycle_charge_c=CHARGE_C, short=ShortSettings(kind="none", half_cycle=1)
    )
    cell = VirtualCell(settings, seed=1)
    run_half_cycles(cell, 40, steps=1)
    assert not cell.state().path_complete


def test_readings_scatter_by_the_instruments_noise():
    settings = CellSettings()
    cell = VirtualCell(settings, seed=3)
    readings = [cell.measure_voltage_v(0.0, relay_closed=False) for _ in range(4000)]
    mean = sum(readings) / len(readings)
    spread = (sum((r - mean) ** 2 for r in readings) / len(readings)) ** 0.5
    # Standard error of a deviation from 4000 readings is 1.1 %; four of them.
    assert spread == pytest.approx(settings.voltage.noise_v, rel=0.045)


def test_time_does_not_run_backwards():
    with pytest.raises(ValueError, match="backwards"):
        VirtualCell(CellSettings(), seed=1).advance(-1.0, 0.0)


def test_a_soft_short_flickers_and_recovers():
    short = ShortSettings(
        kind="soft", half_cycle=1, fraction=0.2, soft_span_fraction=0.3
    )
    settings = CellSettings(half_cycle_charge_c=CHARGE_C, short=short)
    cell = VirtualCell(settings, seed=1)
    healthy = VirtualCell(
        settings.model_copy(update={"short": ShortSettings(kind="none")}), seed=1
    )
    left = []
    while cell.half_cycles < 0.9:
        cell.advance(0.1, CURRENT_MA)
        healthy.advance(0.1, CURRENT_MA)
        part = cell.voltage_v(CURRENT_MA) / healthy.voltage_v(CURRENT_MA)
        left.append((cell.half_cycles, part))
    window = [part for passed, part in left if 0.21 < passed < 0.5]
    low = [part for part in window if part < 0.99]
    # On for 1 s, off for 5 s on average: a sixth of the time; some 90 spells.
    assert len(low) / len(window) == pytest.approx(1 / 6, abs=0.06)
    assert min(low) > 0.14
    assert max(low) < 0.71
    outside = [part for passed, part in left if passed < 0.2 or passed > 0.501]
    assert min(outside) == pytest.approx(1.0)
    assert cell.state().path_complete
    assert not cell.state().shorted


def test_a_cell_goes_on_from_its_memory_as_if_nothing_had_happened():
    settings = CellSettings(half_cycle_charge_c=CHARGE_C)
    cell = VirtualCell(settings, seed=1)
    cell.advance(2000, CURRENT_MA)
    cell.advance(7, -CURRENT_MA)
    memory = json.loads(json.dumps(cell.memory()))
    again = VirtualCell.from_memory(settings, 1, memory)
    for one in (cell, again):
        one.advance(11, -CURRENT_MA)
    assert again.state() == cell.state()
    assert again.voltage_v(-CURRENT_MA) == cell.voltage_v(-CURRENT_MA)
