"""What a session promises to the plans, without a beamline."""

from types import SimpleNamespace

import pytest

from orchestrator.errors import RecordError
from orchestrator.outcome import Outcome
from orchestrator.session import Session
from plans.steps import TomogramStep

STEP = TomogramStep(index=0, scan_number=0, label="0")
NOTES = {
    "begin": (STEP, 0),
    "done": (STEP, 0, {}),
    "failed": (STEP, 0, "why"),
    "decide": ("a decision",),
}


class Told:
    """Takes every call and keeps its name; may refuse."""

    def __init__(self, name, calls, *, refuses=False):
        self._name, self._calls, self._refuses = name, calls, refuses

    def __getattr__(self, method):
        def take(*args, **kwargs):
            self._calls.append(self._name)
            if self._refuses:
                raise RecordError("the disk is full")

        return take


@pytest.mark.parametrize(("method", "arguments"), NOTES.items())
def test_nothing_is_shown_before_it_is_in_the_journal(method, arguments):
    calls = []
    session = SimpleNamespace(
        journal=Told("journal", calls), state=Told("state", calls)
    )
    getattr(Session, method)(session, *arguments)
    assert calls == ["journal", "state"]


@pytest.mark.parametrize(("method", "arguments"), NOTES.items())
def test_what_the_journal_cannot_take_ends_the_plan(method, arguments):
    calls = []
    session = SimpleNamespace(
        journal=Told("journal", calls, refuses=True), state=Told("state", calls)
    )
    with pytest.raises(RecordError):
        getattr(Session, method)(session, *arguments)
    assert calls == ["journal"]


@pytest.mark.parametrize(
    ("kind", "succeeded"),
    [
        ("done", True),
        ("done_by_rule", True),
        ("short_circuit", True),
        ("stopped", False),
        ("failed", False),
    ],
)
def test_an_experiment_succeeded_when_it_ended_as_meant(kind, succeeded):
    assert Outcome(kind, "why").succeeded is succeeded
