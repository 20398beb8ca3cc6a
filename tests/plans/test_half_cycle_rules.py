"""Rules over what was measured."""

import pytest
from pydantic import ValidationError

from plans.rules import Decision, Rule, decide, unmeasured


def rule(**changes: object) -> Rule:
    values = {"quantity": "filling_fraction", "is": "above", "threshold": 0.08}
    return Rule.model_validate({**values, **changes})


def test_the_first_rule_that_holds_decides() -> None:
    rules = [
        rule(threshold=0.5),
        rule(decide="go on"),
        rule(quantity="half_cycle", threshold=1),
    ]
    decision = decide(rules, [{"filling_fraction": 0.09, "half_cycle": 3.0}])
    assert decision.decide == "go on"
    assert decision.reason == (
        "filling_fraction above 0.08: go on (filling_fraction is 0.09)"
    )


def test_without_a_rule_that_holds_it_goes_on() -> None:
    assert decide([rule()], [{"filling_fraction": 0.08}]) == Decision(
        "go on", "no rule holds"
    )
    assert decide([], []).decide == "go on"


def test_what_was_not_measured_decides_nothing() -> None:
    below = rule(**{"is": "below"})
    assert decide([below], [{"filling_fraction": None}]).decide == "go on"
    assert decide([below], [{}]).decide == "go on"
    assert decide([below], []).decide == "go on"
    assert unmeasured([below], {"filling_fraction": None}) == ("filling_fraction",)
    assert unmeasured([below], {"filling_fraction": 0.0}) == ()


def test_a_rule_may_want_several_steps_in_a_row() -> None:
    twice = rule(times=2)
    low, high = {"filling_fraction": 0.01}, {"filling_fraction": 0.1}
    assert decide([twice], [high]).decide == "go on"
    assert decide([twice], [high, low, high]).decide == "go on"
    assert decide([twice], [low, high, high]).decide == "stop after a tomogram"


def test_an_unknown_quantity_is_refused() -> None:
    with pytest.raises(ValidationError, match="filling_fraction"):
        rule(quantity="filling")


MORE = {"quantity": "crack_fraction", "threshold": 0.1, "decide": "scan more often"}


def test_scanning_more_often_is_decided_once_and_hides_no_later_rule() -> None:
    more, stop = rule(**MORE, parts=4), rule(threshold=0.3)
    cracked = {"crack_fraction": 0.2, "filling_fraction": 0.1}
    decision = decide([more, stop], [cracked])
    assert (decision.decide, decision.rule) == ("scan more often", more)
    assert decision.reason == (
        "crack_fraction above 0.1: scan more often, in 4 parts (crack_fraction is 0.2)"
    )
    assert decide([more, stop], [cracked], parts=4).decide == "go on"
    full = {"crack_fraction": 0.2, "filling_fraction": 0.4}
    assert decide([more, stop], [full], parts=4).rule == stop
    finer = rule(**MORE, parts=5)
    assert decide([finer], [cracked], parts=4).rule == finer


@pytest.mark.parametrize(
    "wrong", [MORE, {**MORE, "parts": 1}, {"parts": 3}, {"decide": "go on", "parts": 3}]
)
def test_parts_belong_to_scanning_more_often(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="parts"):
        rule(**wrong)
