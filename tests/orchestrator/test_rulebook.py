"""The rules of the file, over what a running experiment measures."""

import pytest

from orchestrator.rulebook import Rulebook
from plans.rules import StopRule
from plans.wishes import NoWishes

FREE_BYTES = 500_000_000_000


class Asked(NoWishes):
    def stop_after_tomogram(self) -> str:
        return "the operator asked"


def rule(quantity: str, threshold: float, **more: object) -> StopRule:
    values = {"quantity": quantity, "is": "above", "threshold": threshold, **more}
    return StopRule.model_validate(values)


def row(label: str, started_s: float = 0.0, **more: object) -> dict[str, object]:
    return {"label": label, "start_time_s": started_s, **more}


def book(*rules: StopRule, past=(), wishes=None, free=FREE_BYTES):
    decided: list[str] = []
    wishes = wishes or NoWishes()
    rulebook = Rulebook(rules, wishes, decided.append, lambda: free, past)
    return rulebook, decided


def test_a_rule_that_holds_stops_and_says_why():
    rulebook, decided = book(rule("crack_fraction", 0.2))
    rulebook.measured(row("1", crack_fraction=0.1))
    assert rulebook.stop_after_tomogram() == ""
    rulebook.measured(row("1.5", crack_fraction=0.3))
    assert "crack_fraction is 0.3" in rulebook.stop_after_tomogram()
    assert [text.split(",")[0] for text in decided] == [
        "rules after label 1: go on",
        "rules after label 1.5: stop after a tomogram",
    ]


def test_the_operator_comes_first():
    rulebook, _ = book(rule("crack_fraction", 0.2), wishes=Asked())
    rulebook.measured(row("1", crack_fraction=0.3))
    assert rulebook.stop_after_tomogram() == "the operator asked"


def test_an_unmeasured_quantity_is_told_and_decides_nothing():
    rulebook, decided = book(rule("filling_fraction", 0.0))
    rulebook.measured(row("1", filling_fraction=None))
    assert rulebook.stop_after_tomogram() == ""
    assert "not measured: filling_fraction" in decided[0]


@pytest.mark.parametrize(
    ("asked", "free"),
    [
        (rule("elapsed_h", 1.9), FREE_BYTES),
        (rule("half_cycle", 1.5), FREE_BYTES),
        (rule("free_disk_gb", 10, **{"is": "below"}), 9_000_000_000),
    ],
)
def test_time_count_and_disk_are_known(asked, free):
    rulebook, _ = book(asked, past=[row("1")], free=free)
    rulebook.measured(row("1.5", started_s=7200.0))
    assert rulebook.stop_after_tomogram() != ""


def test_rows_of_an_earlier_session_count():
    twice = rule("crack_fraction", 0.2, times=2)
    rulebook, _ = book(twice, past=[row("1", crack_fraction=0.3)])
    rulebook.measured(row("1.5", crack_fraction=0.3))
    assert rulebook.stop_after_tomogram() != ""


def test_the_polarisation_comes_from_the_last_driven_sample():
    rulebook, _ = book(rule("polarisation_growth_frac", 0.49))
    for label, volts in (("1", 0.1), ("1.5", -0.15)):
        rulebook.document("start", {"plan_name": "half_cycle", "label": label})
        page = {
            "potentiostat_voltage_v": [0.0, volts, 0.0],
            "potentiostat_relay_closed": [True, True, False],
        }
        rulebook.document("event_page", {"data": page})
        rulebook.document("start", {"plan_name": "tomogram", "label": label})
        rulebook.measured(row(label))
    assert "is 0.5" in rulebook.stop_after_tomogram()
