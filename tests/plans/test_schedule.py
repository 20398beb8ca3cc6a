import pytest

from plans.schedule import schedule
from plans.settings import CyclingSettings
from plans.steps import HalfCycleStep, TomogramStep


def test_pristine_scan_then_half_cycle_and_tomogram_with_reversed_current():
    cycling = CyclingSettings(
        current_density_ma_cm2=0.15, half_cycle_duration_s=1800, num_half_cycles=3
    )
    steps = schedule(cycling, area_cm2=0.0314)

    assert [s.index for s in steps] == list(range(7))
    assert [s.label for s in steps] == ["0", "1", "1", "1.5", "1.5", "2", "2"]
    assert [isinstance(s, TomogramStep) for s in steps] == [True, *[False, True] * 3]
    assert [s.scan_number for s in steps if isinstance(s, TomogramStep)] == [0, 1, 2, 3]
    currents = [s.current_ma for s in steps if isinstance(s, HalfCycleStep)]
    assert currents == pytest.approx([4.71e-3, -4.71e-3, 4.71e-3])
