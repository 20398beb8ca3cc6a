import pytest
from pydantic import ValidationError

from plans.schedule import partial_label, schedule
from plans.settings import CyclingSettings
from plans.steps import HalfCycleStep, TomogramStep


def cycling(num_half_cycles, **changes):
    return CyclingSettings.model_validate(
        {
            "current_density_ma_cm2": 0.15,
            "half_cycle_duration_s": 1800,
            "num_half_cycles": num_half_cycles,
            **changes,
        }
    )


def test_pristine_scan_then_half_cycle_and_tomogram_with_reversed_current():
    steps = schedule(cycling(3), area_cm2=0.0314)

    assert [s.index for s in steps] == list(range(7))
    assert [s.label for s in steps] == ["0", "1", "1", "1.5", "1.5", "2", "2"]
    assert [isinstance(s, TomogramStep) for s in steps] == [True, *[False, True] * 3]
    assert [s.scan_number for s in steps if isinstance(s, TomogramStep)] == [0, 1, 2, 3]
    currents = [s.current_ma for s in steps if isinstance(s, HalfCycleStep)]
    assert currents == pytest.approx([4.71e-3, -4.71e-3, 4.71e-3])


def test_sub_steps_pass_the_same_charge_with_a_tomogram_after_each():
    steps = schedule(cycling(2, sub_steps={1: 4, 2: (0.25, 0.75)}), area_cm2=0.0314)

    assert [s.index for s in steps] == list(range(len(steps)))
    scans = [s for s in steps if isinstance(s, TomogramStep)]
    assert [s.scan_number for s in scans] == list(range(7))
    assert [s.label for s in scans] == [
        "0",
        "0.625",
        "0.75",
        "0.875",
        "1",
        "1.125",
        "1.5",
    ]
    for half_cycle in (1, 2):
        parts = [s for s in steps if getattr(s, "half_cycle", 0) == half_cycle]
        assert sum(p.duration_s for p in parts) == pytest.approx(1800)
        assert len({p.current_ma for p in parts}) == 1
    # Labels are in proportion to the charge, so they rise with it.
    assert sorted(float(s.label) for s in scans) == [float(s.label) for s in scans]


@pytest.mark.parametrize(
    ("sub_steps", "message"),
    [
        ({0: 2}, "they count from 1"),
        ({1: 0}, "1 to 100 are allowed"),
        ({1: (0.5, 0.4)}, "add up to 1"),
        ({1: (1.5, -0.5)}, "must be positive"),
    ],
)
def test_sub_steps_that_make_no_sense_are_refused(sub_steps, message):
    with pytest.raises(ValidationError, match=message):
        cycling(3, sub_steps=sub_steps)


def test_a_partial_label_ends_at_the_label_of_the_half_cycle():
    assert partial_label(1, 1.0) == "1"
    assert partial_label(3, 1.0) == "2"
    assert partial_label(3, 0.0) == "1.5"
    with pytest.raises(ValueError, match="between 0 and 1"):
        partial_label(1, 1.2)
