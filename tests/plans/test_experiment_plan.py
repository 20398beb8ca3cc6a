"""The composed experiment with a real RunEngine on the simulated beamline."""

import threading

import pytest
from bluesky.utils import RunEngineInterrupted

from devices.errors import DeviceError
from plans.experiment import experiment
from plans.schedule import schedule
from plans.settings import CyclingSettings, ScanSettings
from plans.steps import HalfCycleStep, TomogramStep

AREA_CM2 = 3.14159265 * 0.01**2 / 4
HALF_CYCLE_S = 40.0


class Journal:
    def __init__(self):
        self.notes = []

    def begin(self, step, attempt):
        self.notes.append(("begin", step.index, attempt))

    def done(self, step, attempt, outcome):
        self.notes.append(("done", step.index, attempt))

    def failed(self, step, attempt, reason):
        self.notes.append(("failed", step.index, attempt, reason))

    def decide(self, text):
        self.notes.append(("decide", text))

    def of(self, kind):
        return [note[1:] for note in self.notes if note[0] == kind]


class Wants:
    def __init__(self):
        self.stop = ""

    def stop_after_tomogram(self):
        return self.stop

    def abort_reason(self):
        return "lunch"

    def parts(self):
        return 1


class Layout:
    def __init__(self, directory):
        self.directory = directory

    def raw_files(self, scan_number, attempt):
        return {
            key: self.directory / f"scan_{scan_number:04d}_{attempt:02d}_{key}.h5"
            for key in ("darks", "flats", "projections")
        }


@pytest.fixture
def journal():
    return Journal()


@pytest.fixture
def wants():
    return Wants()


@pytest.fixture
def plan(beamline, journal, wants, tmp_path):
    def make(num_half_cycles=1, steps=None, **changes):
        scan = ScanSettings.model_validate(
            {
                "num_projections": 120,
                "exposure_time_s": 0.05,
                "pixel_size_um": 0.8,
                "sample_out_mm": 3.0,
                "num_darks": 3,
                "num_flats": 3,
            }
        )
        cycling = CyclingSettings.model_validate(
            {
                "current_density_ma_cm2": 0.15,
                "half_cycle_duration_s": HALF_CYCLE_S,
                "num_half_cycles": num_half_cycles,
                **changes,
            }
        )
        return experiment(
            beamline,
            scan,
            cycling,
            schedule(cycling, AREA_CM2) if steps is None else steps,
            journal,
            Layout(tmp_path),
            {"simulated": True},
            wishes=wants,
        )

    return make


def assert_safe(beamline):
    assert beamline.potentiostat.relay_readback.get(use_monitor=False) == "Open"
    assert beamline.shutter.state.get(use_monitor=False) == "Closed"
    assert not beamline.camera.cam.acquire.get(use_monitor=False)
    assert not beamline.camera.hdf.capture.get(use_monitor=False)
    assert beamline.rotation.motor_done_move.get(use_monitor=False) == 1


def once(signal, wanted, action):
    """Run `action` in a thread the first time `signal` is `wanted`."""

    def changed(value=None, **_kwargs):
        if value is not None and wanted(value):
            signal.clear_sub(changed)
            threading.Thread(target=action, daemon=True).start()

    signal.subscribe(changed, run=False)


def when_projections_flow(beamline, action):
    camera = beamline.camera.hdf
    once(
        camera.num_captured,
        lambda n: n > 10 and camera.num_capture.get() == 120,
        action,
    )


def test_the_whole_in_order_with_the_current_reversed(
    RE, docs, beamline, plan, journal
):
    result = RE(plan(num_half_cycles=2))

    assert result.exit_status == "success"
    outcome = result.plan_result
    assert outcome.kind == "completed"
    assert (outcome.half_cycles, outcome.tomograms) == (2, 3)
    starts = docs.of("start")
    assert [s["plan_name"] for s in starts] == [
        "tomogram",
        *["half_cycle", "tomogram"] * 2,
    ]
    charge_c = 0.15e-3 * AREA_CM2 * HALF_CYCLE_S
    assert [s["gross_charge_c"] for s in starts] == pytest.approx(
        [0, 0, charge_c, charge_c, 2 * charge_c], rel=1e-3
    )
    assert [s["net_charge_c"] for s in starts] == pytest.approx(
        [0, 0, charge_c, charge_c, 0], rel=1e-3, abs=1e-3 * charge_c
    )
    # Written ahead: each begin before its done, steps one after another.
    assert journal.of("begin") == journal.of("done") == [(i, 0) for i in range(5)]
    assert all(s["exit_status"] == "success" for s in docs.of("stop"))
    assert_safe(beamline)


def test_a_short_opens_the_cell_and_ends_with_one_last_tomogram(
    RE, docs, beamline, plan, journal, fault
):
    relay = beamline.potentiostat.relay_readback
    once(
        relay,
        lambda state: state == "Closed",
        # The guard must have seen a healthy voltage first.
        lambda: threading.Timer(0.7, fault, ("SHORT_CIRCUIT", 1)).start(),
    )
    result = RE(plan(num_half_cycles=3))

    outcome = result.plan_result
    assert outcome.kind == "short_circuit"
    assert "short circuit in half-cycle 1" in outcome.reason
    assert [s["plan_name"] for s in docs.of("start")] == [
        "tomogram",
        "half_cycle",
        "tomogram",
    ]
    assert outcome.gross_charge_c < 0.15e-3 * AREA_CM2 * HALF_CYCLE_S
    assert any("short circuit" in text for (text,) in journal.of("decide"))
    assert_safe(beamline)


def test_a_spoilt_tomogram_is_retaken_in_a_new_run_and_file(
    RE, docs, beamline, plan, journal, fault, tmp_path
):
    when_projections_flow(beamline, lambda: fault("DROPPED_FRAME", 1))
    result = RE(plan(num_half_cycles=0))

    assert result.plan_result.tomograms == 1
    assert [s["attempt"] for s in docs.of("start")] == [0, 1]
    assert [s["exit_status"] for s in docs.of("stop")] == ["fail", "success"]
    assert journal.of("begin") == [(0, 0), (0, 1)]
    assert [note[:2] for note in journal.of("failed")] == [(0, 0)]
    assert (tmp_path / "scan_0000_00_projections.h5").exists()
    assert (tmp_path / "scan_0000_01_projections.h5").exists()


def test_a_lost_beam_is_waited_for_and_the_lost_time_noted(
    RE, docs, beamline, plan, journal, fault
):
    def dump():
        fault("BEAM_DUMP", 1)
        threading.Timer(4.0, fault, ("BEAM_DUMP", 0)).start()

    when_projections_flow(beamline, dump)
    result = RE(plan(num_half_cycles=0))

    assert result.plan_result.tomograms == 1
    assert [s["exit_status"] for s in docs.of("stop")] == ["fail", "success"]
    decided = " ".join(text for (text,) in journal.of("decide"))
    assert "wait for the beam before scan 0" in decided
    assert "s lost so far" in decided


@pytest.mark.slow
def test_a_half_cycle_goes_on_through_a_beam_dump(RE, docs, beamline, plan, fault):
    relay = beamline.potentiostat.relay_readback

    def dump():
        fault("BEAM_DUMP", 1)
        threading.Timer(1.0, fault, ("BEAM_DUMP", 0)).start()

    once(relay, lambda state: state == "Closed", dump)
    result = RE(plan(num_half_cycles=1))

    assert result.plan_result.kind == "completed"
    assert [s["exit_status"] for s in docs.of("stop")] == ["success"] * 3
    charge_c = 0.15e-3 * AREA_CM2 * HALF_CYCLE_S
    assert result.plan_result.gross_charge_c == pytest.approx(charge_c, rel=1e-3)


def test_an_abort_during_a_retake_really_ends(RE, docs, beamline, plan, journal, fault):
    # A swallowed abort would go on with a whole second attempt.
    begin = journal.begin

    def begin_and_abort_the_second(step, attempt):
        begin(step, attempt)
        if attempt == 1:
            when_projections_flow(beamline, lambda: RE.abort("lunch"))

    journal.begin = begin_and_abort_the_second
    when_projections_flow(beamline, lambda: fault("DROPPED_FRAME", 1))
    with pytest.raises(RunEngineInterrupted):
        RE(plan(num_half_cycles=2))
    assert RE.state == "idle"
    assert [s["exit_status"] for s in docs.of("stop")] == ["fail", "abort"]
    assert journal.of("failed")[-1] == (0, 1, "aborted by the operator: lunch")
    assert_safe(beamline)


def test_an_abort_during_a_half_cycle_opens_the_cell(RE, docs, beamline, plan, journal):
    once(
        beamline.potentiostat.relay_readback,
        lambda state: state == "Closed",
        lambda: RE.abort("lunch"),
    )
    with pytest.raises(RunEngineInterrupted):
        RE(plan(num_half_cycles=1))
    assert_safe(beamline)
    assert journal.of("failed")[-1][:2] == (1, 0)


@pytest.mark.slow
def test_the_operator_may_stop_after_a_tomogram(RE, docs, plan, wants, journal):
    wants.stop = "Ctrl-C"
    result = RE(plan(num_half_cycles=3))
    assert result.plan_result.kind == "stopped"
    assert "Ctrl-C" in result.plan_result.reason
    assert len(docs.of("start")) == 1


@pytest.mark.slow
def test_a_scan_that_never_succeeds_ends_the_experiment_safely(
    RE, docs, beamline, plan, journal, fault
):
    fault("SHUTTER_STUCK_CLOSED", 1)
    try:
        with pytest.raises(DeviceError, match="shutter"):
            RE(plan(num_half_cycles=1))
    finally:
        fault("SHUTTER_STUCK_CLOSED", 0)
    assert [s["exit_status"] for s in docs.of("stop")] == ["fail"] * 3
    assert len(journal.of("failed")) == 3
    assert_safe(beamline)


def test_steps_that_make_no_sense_are_refused_before_anything_moves(RE, docs, plan):
    twice = [TomogramStep(0, 0, "0"), TomogramStep(0, 1, "1")]
    with pytest.raises(ValueError, match="each comes once, in order"):
        RE(plan(steps=twice))
    with pytest.raises(ValueError, match="needs a current and a positive time"):
        RE(plan(steps=[HalfCycleStep(1, 1, "1", 0.0, 10.0)]))
    assert not docs
