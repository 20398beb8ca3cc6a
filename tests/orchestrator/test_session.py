"""What a session promises to the plans, without a beamline."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

import orchestrator.session
from devices.errors import NotConnectedError
from orchestrator.errors import RecordError, RefusedError
from orchestrator.history import Rest
from orchestrator.journal import Journal
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


BEAMLINE = object()
REST = Rest((STEP,), (), {}, 0.0, 0.0, "")
FAILED = Outcome("failed", "the camera's file was not closed")
DONE = Outcome("done", "all done")


class Watch:
    """A `ConnectionWatch` that tells what it was given."""

    def __init__(self, lost, back):
        self._lost, self._back = list(lost), back

    def __call__(self, beamline):
        return self

    def lost(self):
        return self._lost.pop(0) if self._lost else []

    def wait_until_back(self, longest_s, give_up):
        if not self._back:
            raise NotConnectedError("camera did not come back in 9 s")


class Driven:
    """A `Session` of which only the driving is real."""

    _drive, _are_back = Session._drive, Session._are_back

    def __init__(self, outcomes, rests=(), *, wait_max_s=9.0, stopped_by=""):
        self.experiment = SimpleNamespace(
            beamline=SimpleNamespace(ioc_wait_max_s=wait_max_s)
        )
        self.hands = SimpleNamespace(
            abort_reason=lambda: stopped_by, asked_to_end=threading.Event()
        )
        self.said, self.ran, self.made_safe, self.passed_over = [], [], 0, []
        self._outcomes, self._rests = list(outcomes), list(rests)

    def decide(self, text):
        self.said.append(text)

    _warn = decide

    def _run_plans(self, beamline, rest):
        self.ran.append(rest)
        return self._outcomes.pop(0)

    def _make_safe(self, beamline):
        self.made_safe += 1

    def _read_history(self):
        return None

    def _reconciled_rest(self, beamline, history, *, pass_over=()):
        self.passed_over.append(pass_over)
        rest = self._rests.pop(0)
        if isinstance(rest, Exception):
            raise rest
        return rest


@pytest.fixture
def lose(monkeypatch):
    def lose(*lost, back=True):
        watch = Watch(lost, back)
        monkeypatch.setattr(orchestrator.session, "ConnectionWatch", watch)

    return lose


def test_a_failure_in_which_nothing_was_lost_ends_it(lose):
    lose()
    session = Driven([FAILED])
    assert session._drive(BEAMLINE, REST) == FAILED
    assert session.ran == [REST]


def test_it_goes_on_with_what_is_left_when_the_ioc_is_back(lose):
    lose(["camera"])
    left = replace(REST, gross_charge_c=1.0)
    session = Driven([FAILED, DONE], [left])
    assert session._drive(BEAMLINE, REST) == DONE
    assert session.ran == [REST, left]
    assert session.passed_over == [("ring_current", "time")]


def test_one_that_is_lost_again_meanwhile_is_waited_for_again(lose):
    # Lost in the run; again while it was reconciled; the third time all is well.
    lose(["camera"], ["camera"])
    session = Driven([FAILED, DONE], [RefusedError("the cell is not open"), REST])
    assert session._drive(BEAMLINE, REST) == DONE
    assert len(session.ran) == 2


def test_a_beamline_that_is_refused_with_all_iocs_up_ends_it(lose):
    lose(["camera"])
    session = Driven([FAILED], [RefusedError("cell: relay Closed")])
    outcome = session._drive(BEAMLINE, REST)
    assert outcome == Outcome("failed", f"{FAILED.reason}; then cell: relay Closed")


def test_an_ioc_that_flaps_for_ever_ends_it(lose):
    lose(*[["camera"]] * 1000)
    session = Driven([FAILED] * 1000, [REST] * 1000)
    assert session._drive(BEAMLINE, REST) == FAILED
    assert len(session.ran) == 1 + orchestrator.session.RECOVERIES_MAX


@pytest.mark.parametrize(
    ("still_lost", "made_safe"), [(["camera"], 1), (["camera", "shutter"], 0)]
)
def test_what_came_back_is_made_safe_when_the_rest_does_not(
    lose, still_lost, made_safe
):
    # Where nothing came back nothing can be done, and it takes minutes to find out.
    lose(["camera", "shutter"], still_lost, back=False)
    session = Driven([FAILED])
    assert session._drive(BEAMLINE, REST) == FAILED
    assert session.made_safe == made_safe
    assert session.said[-1] == "camera did not come back in 9 s"


@pytest.mark.parametrize("wait_max_s", [0.0, 9.0])
def test_an_operator_who_stops_it_is_told_so(lose, wait_max_s):
    lose(["camera"], ["camera"])
    session = Driven([FAILED], wait_max_s=wait_max_s, stopped_by="stopped by SIGTERM")
    assert session._drive(BEAMLINE, REST) == Outcome("stopped", "stopped by SIGTERM")
    assert session.said == []  # nobody waited
    assert session.made_safe == 0


def test_a_short_circuit_of_an_earlier_session_is_how_it_ended(lose):
    lose()
    session = Driven([DONE])
    short = replace(REST, short="hard_short: 2 mV")
    outcome = session._drive(BEAMLINE, short)
    assert outcome == Outcome("short_circuit", "hard_short: 2 mV")


@pytest.mark.parametrize("failing", ["live", "tiled", "archive"])
def test_everything_is_closed_whatever_fails_meanwhile(failing):
    closed = []

    def closes(name):
        def close():
            closed.append(name)
            if name == failing:
                raise OSError("no space left on device")

        return SimpleNamespace(close=close, end=close, add=lambda *_, **__: None)

    session = SimpleNamespace(
        live=closes("live"),
        _report=closes("report"),
        _tiled=closes("tiled"),
        archive=closes("archive"),
        record=closes("record"),
        journal=closes("journal"),
    )
    with (
        pytest.raises(OSError, match="no space left"),
        Session._closed_at_the_end(session),
    ):
        pass
    assert closed == ["live", "report", "tiled", "archive", "record", "journal"]


class LastWords:
    """A `LiveAnalysis` that gives one more answer while it is closed."""

    def __init__(self, session, waiting):
        self._session = session
        self.waiting, self.failed = waiting, 0

    def close(self):
        if self.waiting:
            self.waiting -= 1
            self._session.journal.add("measured", "scan_0000_00")


@pytest.mark.parametrize(("waiting", "left"), [(0, 0), (1, 0), (3, 2)])
def test_the_end_is_the_journals_last_word(tmp_path, monkeypatch, waiting, left):
    monkeypatch.setattr(orchestrator.session, "STOPPED_DRAIN_S", 0.0)
    journal = Journal(tmp_path / "journal.sqlite")
    session = SimpleNamespace(
        journal=journal,
        state=Told("state", []),
        layout=SimpleNamespace(directory=tmp_path),
        _drain=lambda timeout_s: None,
        _warn=lambda text: journal.add("alarm", text),
    )
    session.live = LastWords(session, waiting)
    outcome = Session._finish(session, Outcome("stopped", "stopped by SIGTERM"))
    entries = journal.entries()
    journal.close()
    assert outcome.unmeasured == left
    assert [e.kind for e in entries] == [
        *(["measured"] if waiting else []),
        *(["alarm"] if left else []),
        "ended",
    ]
    if left:
        assert entries[-2].text.startswith(f"{left} tomogram(s) are not measured")
