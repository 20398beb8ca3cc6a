"""The rules of the file, over what a running experiment measures."""

import pytest

from orchestrator.rulebook import Rulebook
from plans.rules import Rule
from plans.wishes import NoWishes

FREE_BYTES = 500_000_000_000


class Asked(NoWishes):
    def stop_after_tomogram(self) -> str:
        return "the operator asked"


def rule(quantity: str, threshold: float, **more: object) -> Rule:
    values = {"quantity": quantity, "is": "above", "threshold": threshold, **more}
    return Rule.model_validate(values)


def row(label: str, started_s: float = 0.0, **more: object) -> dict[str, object]:
    return {"label": label, "start_time_s": started_s, **more}


def book(*rules: Rule, past=(), wishes=None, free=FREE_BYTES, documents=(), said=()):
    decided: list[str] = []
    wishes = wishes or NoWishes()

    def note(text, details):
        decided.append(text)
        notes.append(details)

    book.notes = notes = []
    rulebook = Rulebook(rules, wishes, note, lambda: free)
    rulebook.recall(documents, past, said)
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


def passed(label: str, volts: float):
    """Return the documents of a half-cycle and the start of its tomogram."""
    page = {
        "potentiostat_voltage_v": [0.0, volts, 0.0],
        "potentiostat_relay_closed": [True, True, False],
    }
    return [
        ("start", {"plan_name": "half_cycle", "label": "whatever was asked"}),
        ("event_page", {"data": page}),
        ("start", {"plan_name": "tomogram", "label": label}),
        ("event_page", {"data": {"camera_image": [1]}}),
    ]


def test_the_polarisation_comes_from_the_last_driven_sample():
    rulebook, _ = book(rule("polarisation_growth_frac", 0.49))
    for label, volts in (("1", 0.1), ("1.27", -0.15)):
        for name, document in passed(label, volts):
            rulebook.document(name, document)
        rulebook.measured(row(label))
    assert "is 0.5" in rulebook.stop_after_tomogram()


def test_the_voltage_at_the_end_is_that_of_the_last_half_cycle():
    rulebook, _ = book(rule("voltage_end_v", 0.12))
    for label, volts in (("1", 0.1), ("1.5", -0.15)):
        for name, document in passed(label, volts):
            rulebook.document(name, document)
        rulebook.measured(row(label))
    assert "voltage_end_v is 0.15" in rulebook.stop_after_tomogram()


def test_voltages_of_an_earlier_session_count():
    grown = rule("polarisation_growth_frac", 0.49, times=2)
    documents = [*passed("1", 0.1), *passed("1.5", 0.16)]
    past = [row("1"), row("1.5")]
    rulebook, _ = book(grown, documents=documents, past=past)
    for name, document in passed("2", 0.17):
        rulebook.document(name, document)
    rulebook.measured(row("2"))
    assert "is 0.6, 0.7" in rulebook.stop_after_tomogram()


MORE = rule("crack_fraction", 0.1, decide="scan more often", parts=3)
FULL = rule("crack_fraction", 0.3)


def test_a_rule_may_ask_for_more_scans_and_another_stops_later():
    rulebook, decided = book(MORE, FULL)
    assert rulebook.parts() == 1
    for label, fraction in (("1", 0.2), ("1.167", 0.25), ("1.333", 0.4)):
        rulebook.measured(row(label, crack_fraction=fraction))
    assert rulebook.parts() == 3
    assert "is 0.4" in rulebook.stop_after_tomogram()
    assert [text.split(",")[0].split(": ")[1] for text in decided] == [
        "scan more often",
        "go on",
        "stop after a tomogram",
    ]


def test_decisions_of_an_earlier_session_hold_while_their_rule_stands():
    earlier, _ = book(MORE, FULL)
    earlier.measured(row("1", crack_fraction=0.2))
    earlier.measured(row("1.5", crack_fraction=0.4))
    said = [*book.notes, {}, {"rule": ""}]
    again, decided = book(MORE, FULL, said=said)
    assert again.parts() == 3
    assert again.stop_reason == earlier.stop_reason != ""
    assert decided == []
    edited, _ = book(rule("crack_fraction", 0.9), said=said)
    assert (edited.parts(), edited.stop_reason) == (1, "")
