"""What an interrupted experiment has done, wherever the power went."""

from dataclasses import replace

import pytest

from orchestrator.history import read_history, what_is_left
from orchestrator.journal import Journal
from plans.schedule import schedule
from plans.settings import CyclingSettings
from plans.steps import HalfCycleStep, TomogramStep

CYCLING = CyclingSettings(
    current_density_ma_cm2=0.15, half_cycle_duration_s=1800, num_half_cycles=4
)
STEPS = schedule(CYCLING, area_cm2=0.0314159)
CHARGE_C = 0.15e-3 * 0.0314159 * 1800
GUARD = {"hard_short": "stop", "soft_short": "warn", "stale": "stop"}


class Teller:
    """Write journal and documents of an experiment, up to any point."""

    def __init__(self, path):
        self.journal = Journal(path / "journal.sqlite")
        self.journal.add("session", "begun")
        self.documents = []
        self.gross_c = self.net_c = 0.0

    def scan(self, step, attempt=0, until="done"):
        self.journal.begin(step, attempt)
        uid = f"scan-{step.index}-{attempt}"
        start = {"plan_name": "tomogram", "scan_number": step.scan_number}
        self._start(uid, step, attempt, **start)
        if until == "projections":
            return
        status = "fail" if until == "failed" else "success"
        self._stop(uid, status)
        if until == "failed":
            self.journal.failed(step, attempt, "frames lost")
        elif until == "done":
            self.journal.done(step, attempt, {})

    def cycle(
        self, step, attempt=0, until="done", passed=1.0, acted_on="", ended="Elapsed"
    ):
        """Pass a fraction of the step's charge."""
        self.journal.begin(step, attempt)
        if until == "begin":
            return
        uid = f"cycle-{step.index}-{attempt}"
        charge_c = step.current_ma * 1e-3 * step.duration_s * passed
        self._start(
            uid,
            step,
            attempt,
            plan_name="half_cycle",
            label=step.label,
            current_ma=step.current_ma,
            duration_s=step.duration_s,
            potentiostat_step_id=17,
        )
        if until == "start":
            return
        self._event(uid, "electrochemistry", potentiostat_charge_c=[0.0, charge_c / 2])
        if until == "samples":
            return
        self._event(
            uid,
            "outcome",
            potentiostat_end_reason=ended,
            potentiostat_charge_c=charge_c,
            potentiostat_acted_on=acted_on,
        )
        self.gross_c += abs(charge_c)
        self.net_c += charge_c
        if until == "outcome":
            return
        self._stop(uid, "success")
        if until == "failed":
            self.journal.failed(step, attempt, "compliance")
        elif until == "done":
            self.journal.done(step, attempt, {"charge_c": charge_c})
        elif until == "part":
            self.journal.done(step, attempt, {"charge_c": charge_c, "left_s": 1.0})

    def _start(self, uid, step, attempt, **more):
        document = {
            "uid": uid,
            "step_index": step.index,
            "attempt": attempt,
            "gross_charge_c": self.gross_c,
            "net_charge_c": self.net_c,
            **more,
        }
        self.documents.append(("start", document))

    def _event(self, uid, stream, **data):
        descriptor = {"uid": f"{uid}-{stream}", "run_start": uid, "name": stream}
        self.documents.append(("descriptor", descriptor))
        self.documents.append(
            ("event_page", {"descriptor": descriptor["uid"], "data": data})
        )

    def _stop(self, uid, status):
        self.documents.append(("stop", {"run_start": uid, "exit_status": status}))

    def history(self):
        return read_history(self.journal.entries(), self.documents)

    def rest(self, steps=STEPS, guard=GUARD, **known):
        history = self.history()
        for uid, charge_c in known.items():
            history = history.with_charge(uid.replace("_", "-"), charge_c)
        return what_is_left(history, steps, guard)


@pytest.fixture
def told(tmp_path):
    teller = Teller(tmp_path)
    yield teller
    teller.journal.close()


def test_nothing_was_done(told):
    rest = told.rest()
    assert rest.steps == STEPS
    assert (rest.gross_charge_c, rest.net_charge_c) == (0, 0)


def test_what_is_done_is_not_done_again(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1])
    told.scan(STEPS[2])
    rest = told.rest()
    assert rest.steps == STEPS[3:]
    assert rest.gross_charge_c == pytest.approx(CHARGE_C)
    assert rest.completed == ()


def test_charge_adds_up_with_its_sign(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1])
    told.scan(STEPS[2])
    told.cycle(STEPS[3])
    rest = told.rest()
    assert rest.gross_charge_c == pytest.approx(2 * CHARGE_C)
    assert rest.net_charge_c == pytest.approx(0, abs=1e-15)
    assert rest.steps[0] == STEPS[4]


def test_an_unfinished_tomogram_is_retaken_as_a_new_attempt(told):
    told.scan(STEPS[0], until="projections")
    rest = told.rest()
    assert rest.steps == STEPS
    assert rest.attempts == {0: 1}


def test_attempts_that_failed_count(told):
    told.scan(STEPS[0], 0, until="failed")
    told.scan(STEPS[0], 1, until="projections")
    assert told.rest().attempts == {0: 2}


def test_a_tomogram_whose_end_was_recorded_but_not_noted_is_done(told):
    told.scan(STEPS[0], until="recorded")
    rest = told.rest()
    assert rest.steps == STEPS[1:]
    assert rest.completed == (STEPS[0],)


@pytest.mark.parametrize(("passed", "left"), [(0.999, 1e-3), (0.9996, 0.0)])
def test_only_a_rest_within_the_accuracy_asked_for_is_left_out(told, passed, left):
    # Each half-cycle's charge is to pass to 0.1 %.
    told.scan(STEPS[0])
    told.cycle(STEPS[1], passed=passed, until="failed")
    steps = told.rest().steps
    if left:
        assert steps[0].index == STEPS[1].index
        assert steps[0].duration_s == pytest.approx(left * STEPS[1].duration_s)
    else:
        assert STEPS[1].index not in [step.index for step in steps]


def test_the_rest_of_a_half_cycle_keeps_its_direction(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1])
    told.scan(STEPS[2])
    told.cycle(STEPS[3], until="samples", passed=0.5)
    assert [run.run_uid for run in told.history().cut_half_cycles] == ["cycle-3-0"]
    rest = told.rest(cycle_3_0=-0.4 * CHARGE_C)
    first = rest.steps[0]
    assert isinstance(first, HalfCycleStep)
    assert first.current_ma == STEPS[3].current_ma < 0
    assert first.duration_s == pytest.approx(0.6 * 1800)
    assert rest.gross_charge_c == pytest.approx(1.4 * CHARGE_C)
    assert rest.net_charge_c == pytest.approx(0.6 * CHARGE_C)
    assert rest.attempts[3] == 1


def test_the_least_that_passed_is_known_from_the_samples(told):
    told.cycle(STEPS[1], until="samples", passed=0.5)
    (cut,) = told.history().cut_half_cycles
    assert cut.recorded_c == pytest.approx(0.25 * CHARGE_C)
    assert cut.step_id == 17


def test_a_half_cycle_cut_twice(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], 0, until="outcome", passed=0.3)
    told.cycle(STEPS[1], 1, until="outcome", passed=0.3)
    rest = told.rest()
    assert rest.steps[0].duration_s == pytest.approx(0.4 * 1800)
    assert rest.gross_charge_c == pytest.approx(0.6 * CHARGE_C)


def test_charge_found_by_an_earlier_resume_is_taken_from_the_journal(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], until="samples", passed=0.5)
    told.journal.add(
        "reconciled",
        "as the instrument counted",
        details={"run_uid": "cycle-1-0", "charge_c": 0.45 * CHARGE_C},
    )
    assert told.history().cut_half_cycles == ()
    assert told.rest().steps[0].duration_s == pytest.approx(0.55 * 1800)


def test_a_half_cycle_whose_end_was_recorded_but_not_noted_is_done(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], until="recorded", passed=0.9999)
    rest = told.rest()
    assert rest.steps == STEPS[2:]
    assert rest.completed == (STEPS[1],)


def test_a_half_cycle_noted_as_done_is_not_topped_up(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], passed=0.7)  # it ended at its voltage limit, say
    assert told.rest().steps[0] == STEPS[2]


def test_a_half_cycle_begun_but_never_opened_as_a_run(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], until="begin")
    rest = told.rest()
    assert rest.steps == STEPS[1:]
    assert rest.attempts[1] == 1


@pytest.mark.parametrize("until", ["outcome", "recorded", "done"])
def test_after_a_short_only_the_last_tomogram_is_left(told, until):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], until=until, passed=0.5, acted_on="hard_short: |V| below …")
    rest = told.rest()
    assert rest.steps == (STEPS[2],)
    assert rest.short.startswith("hard_short")
    assert rest.completed == (() if until == "done" else (STEPS[1],))


def test_after_the_last_tomogram_nothing_is_left(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], passed=0.5, acted_on="hard_short: |V| below …")
    told.scan(STEPS[2])
    rest = told.rest()
    assert rest.steps == ()
    assert rest.short


def test_a_warning_of_the_guard_ends_nothing(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], acted_on="soft_short: dropped by 20 %")
    rest = told.rest()
    assert rest.steps == STEPS[2:]
    assert rest.short == ""


def test_no_tomogram_after_a_short_if_none_is_wanted(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], passed=0.5, acted_on="hard_short: x")
    rest = what_is_left(told.history(), STEPS, GUARD, tomogram_after_short=False)
    assert rest.steps == ()


def test_how_the_last_session_ended(told):
    assert told.history().ended is None
    told.journal.add("ended", "stopped by SIGINT", details={"outcome": "stopped"})
    assert told.history().ended == "stopped"
    told.journal.add("session", "resumed")
    assert told.history().ended is None


def test_measured_scans_are_known_by_their_attempt(told):
    told.scan(STEPS[0], 0, until="failed")
    told.scan(STEPS[0], 1)
    told.journal.add("measured", "scan_0000_01")
    history = told.history()
    assert history.scans[0].scan_id == "scan_0000_01"
    assert history.measured == {"scan_0000_01"}


QUARTER = replace(STEPS[1], label="0.625", duration_s=450.0, end_frac=0.25)
EVENT = {**GUARD, "soft_short": "tomogram"}


@pytest.mark.parametrize("until", ["part", "outcome", "stop"])
def test_a_part_is_followed_by_its_tomogram(told, until):
    told.scan(STEPS[0])
    told.cycle(QUARTER, until=until)
    owed, rest, *planned = told.rest().steps
    assert owed == TomogramStep(1_000_005, scan_number=5, label="0.625")
    assert rest == replace(STEPS[1], duration_s=pytest.approx(1350.0))
    assert tuple(planned) == STEPS[2:]


def test_a_part_that_ended_while_nobody_watched_is_followed_by_its_tomogram(told):
    told.scan(STEPS[0])
    told.cycle(QUARTER, until="samples")
    owed, rest, *_ = told.rest(cycle_1_0=CHARGE_C / 4).steps
    assert owed.label == "0.625"
    assert rest.duration_s == pytest.approx(1350.0)


def test_a_part_that_was_cut_goes_on_without_a_tomogram(told):
    told.scan(STEPS[0])
    told.cycle(QUARTER, until="samples")
    rest = told.rest(cycle_1_0=CHARGE_C / 5).steps[0]
    assert rest == replace(STEPS[1], duration_s=pytest.approx(1440.0))


@pytest.mark.parametrize("until", ["projections", "failed"])
def test_an_extra_scan_that_was_cut_is_taken_again_under_its_number(told, until):
    told.scan(STEPS[0])
    told.cycle(QUARTER, until="part")
    extra = TomogramStep(1_000_007, scan_number=7, label="0.625")
    told.scan(extra, until=until)
    rest = told.rest()
    assert rest.steps[0] == extra
    assert rest.attempts[extra.index] == 1


def test_an_extra_scan_is_not_owed_twice(told):
    told.scan(STEPS[0])
    told.cycle(QUARTER, until="part")
    told.scan(TomogramStep(1_000_005, scan_number=5, label="0.625"))
    assert isinstance(told.rest().steps[0], HalfCycleStep)
    told.cycle(replace(QUARTER, label="0.75"), attempt=1, until="part")
    assert told.rest().steps[0] == TomogramStep(1_000_006, 6, "0.75")


@pytest.mark.parametrize(("guard", "label"), [(EVENT, "0.7"), (GUARD, None)])
def test_a_voltage_event_is_followed_by_its_tomogram(told, guard, label):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], until="failed", passed=0.4, acted_on="soft_short: flickers")
    first = told.rest(guard=guard).steps[0]
    assert getattr(first, "scan_number", None) == (5 if label else None)
    assert label is None or first.label == label


def test_the_label_of_an_event_counts_the_sub_steps_before(told):
    cut = CyclingSettings(
        current_density_ma_cm2=0.15,
        half_cycle_duration_s=1800,
        num_half_cycles=1,
        sub_steps={1: (0.25, 0.75)},
    )
    steps = schedule(cut, area_cm2=0.0314159)
    for step in steps[:3]:
        told.cycle(step) if isinstance(step, HalfCycleStep) else told.scan(step)
    told.cycle(steps[3], until="failed", passed=1 / 3, acted_on="soft_short: drop")
    assert told.rest(steps, EVENT).steps[0].label == "0.75"


def test_a_half_cycle_that_met_its_voltage_limit_is_not_topped_up(told):
    told.scan(STEPS[0])
    told.cycle(STEPS[1], until="outcome", passed=0.5, ended="Voltage")
    assert told.rest().steps == STEPS[2:]


def test_every_place_where_the_power_may_go_leaves_a_consistent_rest(tmp_path):
    """Whatever was written last, done and left make up the whole experiment."""
    ends = ["begin", "start", "samples", "outcome", "recorded", "done"]
    for number, until in enumerate(ends):
        folder = tmp_path / str(number)
        folder.mkdir()
        told = Teller(folder)
        told.scan(STEPS[0])
        told.cycle(STEPS[1], until=until)
        cut = {run.run_uid: 0.25 * CHARGE_C for run in told.history().cut_half_cycles}
        rest = told.rest(**{uid.replace("-", "_"): c for uid, c in cut.items()})
        left_c = sum(
            abs(s.current_ma) * 1e-3 * s.duration_s
            for s in rest.steps
            if isinstance(s, HalfCycleStep)
        )
        assert left_c + rest.gross_charge_c == pytest.approx(4 * CHARGE_C), until
        assert sum(isinstance(s, TomogramStep) for s in rest.steps) == 4
        told.journal.close()
