"""After a crash: what the instrument counted is what passed."""

from types import SimpleNamespace

import pytest
from ophyd.utils import DisconnectedError

import orchestrator.reconcile
from devices.errors import DeviceError
from orchestrator.errors import RefusedError
from orchestrator.history import HalfCycleRun, History
from orchestrator.journal import Journal
from orchestrator.reconcile import reconcile

CURRENT_MA, SILENCE_S = -0.02, 5.0


class Instrument:
    """A potentiostat that says which step it ran last and what passed in it."""

    def __init__(self, events, step_id, charge_c):
        self.last_step_id = self._signal(events, "step id", step_id)
        self.charge = self._signal(events, "charge", charge_c)

    @staticmethod
    def _signal(events, name, value):
        def get(*, use_monitor, timeout):
            assert not use_monitor, "a value from before the crash"
            events.append(f"read {name}")
            return value

        return SimpleNamespace(get=get)


@pytest.fixture
def events(monkeypatch):
    events = []
    monkeypatch.setattr(
        orchestrator.reconcile, "make_safe", lambda beamline: events.append("safe")
    )
    return events


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def settle(events, journal, *, step_id, charge_c, recorded_c, run_step_id=7, before=()):
    run = HalfCycleRun(
        run_uid="cut",
        step_index=3,
        attempt=0,
        current_ma=CURRENT_MA,
        gross_before_c=1.0,
        net_before_c=1.0,
        step_id=run_step_id,
        recorded_c=recorded_c,
    )
    beamline = SimpleNamespace(potentiostat=Instrument(events, step_id, charge_c))
    history = History(half_cycles=(*before, run))
    after = reconcile(beamline, history, journal, silence_s=SILENCE_S)
    assert after.cut_half_cycles == ()
    (noted,) = [e for e in journal.entries() if e.kind == "reconciled"]
    assert noted.details["run_uid"] == "cut"
    assert noted.details["charge_c"] == after.half_cycles[-1].charge_c
    alarms = [e.text for e in journal.entries() if e.kind == "alarm"]
    assert bool(alarms) != noted.details["certain"]
    return after.half_cycles[-1].charge_c, noted


def test_everything_is_made_safe_before_anything_is_read(events, journal):
    settle(events, journal, step_id=7, charge_c=-1e-3, recorded_c=-1e-3)
    assert events == ["safe", "read step id", "read charge"]


def test_the_instruments_own_count_is_taken(events, journal):
    charge_c, noted = settle(
        events, journal, step_id=7, charge_c=-1.1e-3, recorded_c=-1.0e-3
    )
    assert charge_c == -1.1e-3
    assert noted.details["certain"]


def test_the_count_of_another_step_is_not(events, journal):
    charge_c, noted = settle(
        events, journal, step_id=9, charge_c=-1.1e-3, recorded_c=-1.0e-3
    )
    assert charge_c == -1.0e-3
    assert not noted.details["certain"]
    # What may have passed unseen: the current until the heartbeat's silence ends it.
    assert f"{abs(CURRENT_MA) * 1e-3 * SILENCE_S:.3g} C more" in noted.text


def test_a_count_below_what_was_recorded_is_not(events, journal):
    charge_c, noted = settle(
        events, journal, step_id=7, charge_c=0.0, recorded_c=-1.0e-3
    )
    assert charge_c == -1.0e-3
    assert not noted.details["certain"]


@pytest.mark.parametrize(
    "error", [TimeoutError("no answer"), DisconnectedError("it is gone")]
)
def test_an_instrument_that_dies_again_meanwhile_refuses(events, journal, error):
    def get(**_):
        raise error

    run = HalfCycleRun("cut", 3, 0, CURRENT_MA, 0.0, 0.0, step_id=7)
    potentiostat = SimpleNamespace(last_step_id=SimpleNamespace(get=get))
    with pytest.raises(RefusedError, match="look at its IOC, then resume"):
        reconcile(
            SimpleNamespace(potentiostat=potentiostat),
            History(half_cycles=(run,)),
            journal,
            silence_s=SILENCE_S,
        )
    assert [entry.kind for entry in journal.entries()] == ["reconciled_hardware"]


def test_a_step_that_never_began_passed_nothing(events, journal):
    charge_c, noted = settle(events, journal, step_id=6, charge_c=2e-3, recorded_c=0.0)
    assert charge_c == 0.0
    assert noted.details["certain"]


@pytest.mark.parametrize("ran_before", [False, True])
def test_an_instrument_started_anew_cannot_say_that_nothing_passed(
    events, journal, ran_before
):
    earlier = HalfCycleRun(
        run_uid="earlier",
        step_index=1,
        attempt=0,
        current_ma=-CURRENT_MA,
        gross_before_c=0.0,
        net_before_c=0.0,
        step_id=6,
        charge_c=1.0,
    )
    charge_c, noted = settle(
        events,
        journal,
        step_id=0,
        charge_c=0.0,
        recorded_c=0.0,
        before=(earlier,) if ran_before else (),
    )
    assert charge_c == 0.0
    assert noted.details["certain"] is not ran_before


def test_a_step_that_began_and_recorded_nothing_passed_what_it_counted(events, journal):
    charge_c, noted = settle(events, journal, step_id=7, charge_c=-5e-6, recorded_c=0.0)
    assert charge_c == -5e-6
    assert noted.details["certain"]


def test_a_beamline_that_cannot_be_made_safe_is_refused(events, journal, monkeypatch):
    def cannot(beamline):
        raise DeviceError("shutter: stuck open")

    monkeypatch.setattr(orchestrator.reconcile, "make_safe", cannot)
    with pytest.raises(RefusedError, match="stuck open"):
        settle(events, journal, step_id=7, charge_c=0.0, recorded_c=0.0)
    assert events == []
    assert journal.entries() == []
