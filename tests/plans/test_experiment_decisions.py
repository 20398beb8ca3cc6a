"""What the experiment decides, with half-cycles and scans that end as told."""

from dataclasses import replace
from types import SimpleNamespace

import bluesky.plan_stubs as bps
import pytest
from ophyd import Signal

from devices.errors import BeamLostError, DeviceError, FramesLostError
from plans import experiment as module
from plans.half_cycle import HalfCycleOutcome
from plans.schedule import schedule
from plans.settings import CyclingSettings, ScanSettings
from plans.steps import EXTRA_STEP_INDEX, TomogramStep

AREA_CM2 = 0.0314
CURRENT_MA = 0.15 * AREA_CM2
SCAN = ScanSettings.model_validate(
    {
        "num_projections": 120,
        "exposure_time_s": 0.05,
        "pixel_size_um": 0.8,
        "sample_out_mm": 3.0,
    }
)


def ended(elapsed_s=100.0, sign=1, **changes):
    values = {
        "charge_c": sign * CURRENT_MA * 1e-3 * elapsed_s,
        "elapsed_s": elapsed_s,
        "end_reason": "Elapsed",
        "short_circuit": "",
        "fault": "",
        "tomogram": "",
        "resumable": True,
        "alarms": (),
        "warnings": (),
        **changes,
    }
    return HalfCycleOutcome(**values)


@pytest.fixture
def play(RE, monkeypatch, tmp_path):
    """Run an experiment in which runs end as given; return what it did."""

    def run(
        half_cycles=(),
        scans=(),
        num_half_cycles=1,
        wish="",
        parts=lambda: 1,
        left=None,
        **changes,
    ):
        cycles, failures = list(half_cycles), list(scans)
        did, notes, known = [], [], []

        def half_cycle(beamline, step, cycling, *, attempt, md, wishes):
            yield from bps.null()
            did.append(("half_cycle", attempt, step.duration_s, md["gross_charge_c"]))
            return cycles.pop(0) if cycles else ended(step.duration_s)

        def tomogram(beamline, scan, step, raw_files, *, attempt, **kwargs):
            yield from bps.null()
            did.append(("tomogram", attempt, step.scan_number, step.label))
            known.append({k: v for k, v in kwargs["md"].items() if "interrupt" in k})
            error = failures.pop(0) if failures else None
            if error is not None:
                raise error
            return "uid"

        def safe_state(beamline):
            yield from bps.null()
            did.append(("safe",))

        for name, stub in (
            ("half_cycle", half_cycle),
            ("tomogram", tomogram),
            ("safe_state", safe_state),
        ):
            monkeypatch.setattr(module, name, stub)
        ring_current = Signal(name="ring_current", value=300.0)
        beamline = SimpleNamespace(
            shutter=Signal(name="shutter", value="Closed"),
            source=SimpleNamespace(ring_current=ring_current),
        )
        journal = SimpleNamespace(
            begin=lambda step, attempt: notes.append(("begin", step.index, attempt)),
            done=lambda step, attempt, _out: notes.append(
                ("done", step.index, attempt)
            ),
            failed=lambda step, attempt, why: notes.append(("failed", step.index, why)),
            decide=lambda text: notes.append(("decide", text)),
        )
        files = SimpleNamespace(
            raw_files=lambda number, attempt: {
                "projections": tmp_path / f"scan_{number:04d}_{attempt:02d}.h5"
            }
        )
        cycling = CyclingSettings.model_validate(
            {
                "current_density_ma_cm2": 0.15,
                "half_cycle_duration_s": 100.0,
                "num_half_cycles": num_half_cycles,
                **changes,
            }
        )
        wishes = SimpleNamespace(
            stop_after_tomogram=wish if callable(wish) else lambda: wish,
            abort_reason=lambda: "",
            parts=parts,
        )
        steps = schedule(cycling, AREA_CM2)
        if left is not None:
            steps = left(steps)
        error, outcome = None, None
        try:
            outcome = RE(
                module.experiment(
                    beamline, SCAN, cycling, steps, journal, files, wishes=wishes
                )
            ).plan_result
        except Exception as raised:
            error = raised
        assert did[-1] == ("safe",), "the safe state is always the last thing"
        return SimpleNamespace(
            did=did[:-1],
            notes=notes,
            known=known,
            outcome=outcome,
            error=error,
            steps=steps,
        )

    return run


def test_an_interrupted_half_cycle_goes_on_with_the_time_that_is_left(play):
    played = play([ended(30.0, fault="heartbeat", end_reason="Heartbeat"), ended(70.0)])

    cycles = [d for d in played.did if d[0] == "half_cycle"]
    assert [d[1:3] for d in cycles] == [(0, 100.0), (1, 70.0)]
    assert cycles[1][3] == pytest.approx(CURRENT_MA * 1e-3 * 30)
    assert played.outcome.gross_charge_c == pytest.approx(CURRENT_MA * 1e-3 * 100)
    assert played.outcome.half_cycles == 1


def test_a_half_cycle_that_may_not_go_on_ends_the_experiment(play):
    played = play([ended(30.0, fault="compliance", resumable=False)])
    assert isinstance(played.error, DeviceError)
    assert "cannot be continued: compliance" in str(played.error)
    assert len([d for d in played.did if d[0] == "half_cycle"]) == 1


def test_a_half_cycle_is_not_taken_up_for_ever(play):
    played = play([ended(1.0, fault="relay")] * 10, attempts_max=3)
    assert "was interrupted 3 times" in str(played.error)
    assert len([d for d in played.did if d[0] == "half_cycle"]) == 3


def test_a_voltage_event_asks_for_an_extra_tomogram_and_passes_the_rest(play):
    played = play([ended(25.0, tomogram="dV"), ended(75.0)], num_half_cycles=2)

    assert [d[0] for d in played.did] == [
        "tomogram",
        *["half_cycle", "tomogram", "half_cycle", "tomogram"],
        *["half_cycle", "tomogram"],
    ]
    # Two half-cycles give scans 0 to 2; the extra one comes after them in number.
    assert played.did[2] == ("tomogram", 0, 3, "0.625")
    assert [d[2] for d in played.did if d[0] == "half_cycle"] == [100.0, 75.0, 100.0]
    assert played.outcome.tomograms == 4
    done = [note[1] for note in played.notes if note[0] == "done"]
    assert len(done) == len(set(done))


def test_what_the_guard_noticed_is_journaled(play):
    played = play([ended(alarms=("soft_short: flickers",), warnings=("2 lost",))])
    texts = [note[1] for note in played.notes if note[0] == "decide"]
    assert "half-cycle 1: soft_short: flickers" in texts
    assert "half-cycle 1: 2 lost" in texts


def test_a_short_ends_with_the_tomogram_of_its_half_cycle(play):
    played = play([ended(40.0, short_circuit="0 V")], num_half_cycles=3)
    assert [d[0] for d in played.did] == ["tomogram", "half_cycle", "tomogram"]
    assert played.did[-1][3] == "1"
    assert played.outcome.kind == "short_circuit"
    assert played.outcome.reason == "short circuit in half-cycle 1: 0 V"


def test_a_tomogram_is_told_the_resistance_of_its_state_or_why_there_is_none(play):
    short = {"short_circuit": "0 V", "interrupt_resistance_missing": "hard_short"}
    played = play(
        [ended(interrupt_resistance_ohm=16e3), ended(40.0, sign=-1, **short)],
        num_half_cycles=2,
    )
    assert played.known == [
        {},
        {"interrupt_resistance_ohm": 16e3},
        {"interrupt_resistance_missing": "hard_short"},
    ]


def test_the_last_tomogram_after_a_short_can_be_left_out(play):
    played = play([ended(40.0, short_circuit="0 V")], tomogram_after_short=False)
    assert [d[0] for d in played.did] == ["tomogram", "half_cycle"]


def test_a_scan_is_retaken_after_a_safe_state_up_to_a_limit(play):
    played = play(scans=[FramesLostError("lost")] * 9, num_half_cycles=0)
    assert [d[0] for d in played.did] == [
        *["tomogram", "safe"],
        *["tomogram", "safe"],
        "tomogram",
    ]
    assert [d[1] for d in played.did if d[0] == "tomogram"] == [0, 1, 2]
    assert isinstance(played.error, FramesLostError)


def test_scans_spoilt_by_a_lost_beam_do_not_count(play):
    lost = [BeamLostError("dump")] * 5
    played = play(scans=[*lost, None], num_half_cycles=0)
    assert played.outcome.tomograms == 1
    assert [d[1] for d in played.did if d[0] == "tomogram"] == list(range(6))


def test_a_fault_of_the_program_is_not_retaken(play):
    played = play(scans=[KeyError("bug")], num_half_cycles=0)
    assert isinstance(played.error, KeyError)
    assert len(played.did) == 1


def test_a_wish_to_stop_is_met_after_the_tomogram(play):
    played = play(num_half_cycles=3, wish="Ctrl-C")
    assert [d[0] for d in played.did] == ["tomogram"]
    assert played.outcome.kind == "stopped"


def test_every_step_is_begun_before_it_is_done(play):
    played = play(num_half_cycles=2)
    kinds = [note[:2] for note in played.notes if note[0] != "decide"]
    expected = [
        (kind, step.index) for step in played.steps for kind in ("begin", "done")
    ]
    assert kinds == expected
    assert isinstance(played.steps[-1], TomogramStep)


def cycles(played):
    return [d[1:3] for d in played.did if d[0] == "half_cycle"]


def labels(played):
    return [d[3] for d in played.did if d[0] == "tomogram"]


def test_a_rule_that_wants_more_scans_cuts_the_half_cycles_from_then_on(play):
    asked = iter([1, 4, 4, 4, 4])
    played = play(num_half_cycles=2, parts=lambda: next(asked))

    assert cycles(played) == [
        (0, 100.0),
        *[(attempt, pytest.approx(25.0)) for attempt in range(4)],
    ]
    assert labels(played) == ["0", "1", "1.125", "1.25", "1.375", "1.5"]
    assert [d[2] for d in played.did if d[0] == "tomogram"] == [0, 1, 3, 4, 5, 2]
    charge_c = CURRENT_MA * 1e-3 * 200
    assert played.outcome.gross_charge_c == pytest.approx(charge_c)
    assert (played.outcome.half_cycles, played.outcome.tomograms) == (2, 6)
    assert [note[:2] for note in played.notes if note[0] == "failed"] == []


def test_parts_that_are_planned_and_parts_that_are_wished_for_meet(play):
    played = play(parts=lambda: 4, sub_steps={1: (0.3, 0.7)})
    assert [duration for _, duration in cycles(played)] == pytest.approx(
        [25.0, 5.0, 20.0, 25.0, 25.0]
    )
    assert labels(played) == ["0", "0.625", "0.65", "0.75", "0.875", "1"]


def test_an_event_within_a_sub_step_is_labelled_by_the_whole_half_cycle(play):
    half = [ended(50.0), ended(10.0, tomogram="dV"), ended(40.0)]
    played = play(half, sub_steps={1: 2})
    assert labels(played) == ["0", "0.75", "0.8", "1"]


def test_a_resumed_half_cycle_keeps_its_labels_and_its_cuts(play):
    def left(steps):
        return [replace(steps[1], duration_s=60.0), *steps[2:]]

    # 40 % had passed: 10 % were due to the cut, the event comes at 75 %
    played = play(
        [ended(10.0), ended(25.0, tomogram="dV"), ended(25.0)],
        left=left,
        parts=lambda: 2,
    )
    assert [d for _, d in cycles(played)] == pytest.approx([10.0, 50.0, 25.0])
    assert labels(played) == ["0.75", "0.875", "1"]


def test_a_scan_that_was_owed_comes_before_the_rest(play):
    extra = TomogramStep(EXTRA_STEP_INDEX + 7, 7, "0.75")

    def left(steps):
        return [extra, replace(steps[1], duration_s=50.0), *steps[2:]]

    played = play(left=left, num_half_cycles=2)
    assert played.did[0] == ("tomogram", 0, 7, "0.75")
    assert played.did[1][:3] == ("half_cycle", 0, 50.0)


def test_a_voltage_limit_in_a_part_ends_the_half_cycle(play):
    played = play([ended(20.0, end_reason="Voltage")], parts=lambda: 2)
    assert labels(played) == ["0", "1"]


def test_a_wish_to_stop_is_met_between_the_parts_of_a_half_cycle(play):
    said = iter(["", "the rules", "the rules"])
    played = play(parts=lambda: 4, wish=lambda: next(said))
    assert labels(played) == ["0", "0.625"]
    assert played.outcome.kind == "stopped"
    assert played.outcome.reason == "stopped after scan 0.625: the rules"
    assert played.outcome.gross_charge_c == pytest.approx(CURRENT_MA * 1e-3 * 25)
