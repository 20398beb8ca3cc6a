"""Scans without a Zebra, by a real RunEngine on the simulated beamline."""

from dataclasses import replace

import epics
import h5py
import numpy as np
import pytest

from devices.camera import DATASETS
from devices.errors import BeamLostError, DeviceError, FramesLostError
from devices.panda import PandA
from devices.position_compare import TriggerSeries
from plans.settings import ScanSettings
from plans.steps import TomogramStep
from plans.tomogram import tomogram

STEP = TomogramStep(index=4, scan_number=2, label="1.5")
KEYS = ("darks", "flats", "projections")


def settings(**changes):
    values = {
        "num_projections": 60,
        "range_deg": 60.0,
        "exposure_time_s": 0.04,
        "pixel_size_um": 0.8,
        "sample_out_mm": 3.0,
        "num_darks": 3,
        "num_flats": 3,
        **changes,
    }
    return ScanSettings.model_validate(values)


@pytest.fixture
def raw_files(tmp_path):
    return {key: tmp_path / "raw" / f"scan_0002_00_{key}.h5" for key in KEYS}


@pytest.fixture(scope="module")
def panda(simulated_beamline, beamline):
    panda = PandA("SIM:PANDA:", name="position_compare")
    panda.wait_for_connection(timeout=20)
    return panda


@pytest.fixture
def slow_clock(beamline):
    """Let a millisecond of the computer be few of the beamline's."""
    factor = epics.PV("SIM:CLOCK:FACTOR")
    factor.wait_for_connection(5)
    before = factor.get()
    factor.put(4.0, wait=True)
    yield
    factor.put(before, wait=True)


def frame_times_s(raw_files):
    with h5py.File(raw_files["projections"], "r") as file:
        return file[DATASETS["timestamp"][0]][()]


def the_event(docs, stream):
    (event,) = docs.events(stream)
    return event["data"]


# --- encoder samples ------------------------------------------------------------------


def test_encoder_samples_give_each_frame_its_true_angle(
    RE, docs, beamline, slow_clock, raw_files
):
    # The truth comes another way: a Zebra that the plan knows nothing of latches the
    # stage, and the camera, on its own clock, does not heed it.
    witness = beamline.position_compare
    series = TriggerSeries(start_deg=-1.0, step_deg=1.0, number=70, duration_s=60.0)
    witness.prepare(series).wait(10)
    witness.kickoff().wait(10)
    armed_s = witness.armed.timestamp
    try:
        without = replace(beamline, position_compare=None)
        scan = settings(sync="encoder_samples")
        RE(tomogram(without, scan, STEP, raw_files))
        truth_s = armed_s + witness.time_array.get()
        truth_deg = witness.encoder_array.get()
    finally:
        witness.stop()

    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "success"
    assert stop["num_events"]["projections"] == 60
    angles = the_event(docs, "angles")
    found_deg = np.array(angles["rotation_angle_deg"])
    expected_deg = np.interp(frame_times_s(raw_files), truth_s, truth_deg)
    # A tenth of a step of 1 deg: 1 ms, which the witness's arming is known to, times
    # the clock's factor of 4 and 20 deg/s is 0.08 deg.
    assert np.abs(found_deg - expected_deg).max() < 0.1
    # From frame to frame nothing but the samples' own error is left.
    between_deg = np.diff(found_deg) - np.diff(expected_deg)
    assert np.abs(between_deg).max() < 0.02
    assert angles["rotation_angle_error_deg"] < 0.05
    assert len(angles["encoder_time_s"]) == len(angles["encoder_angle_deg"]) > 8


@pytest.mark.slow
def test_a_camera_that_starts_too_late_fails_the_scan_with_the_reason(
    RE, docs, beamline, slow_clock, raw_files
):
    without = replace(beamline, position_compare=None)
    scan = settings(
        sync="encoder_samples", camera_start_max_s=0.0, run_up_margin_deg=0.0
    )
    with pytest.raises(FramesLostError, match="raise camera_start_max_s"):
        RE(tomogram(without, scan, STEP, raw_files))
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"
    assert beamline.shutter.state.get(use_monitor=False) == "Closed"


@pytest.mark.slow
def test_a_guard_that_trips_before_the_camera_starts_leaves_no_wait_behind(
    RE, docs, beamline, slow_clock, raw_files, fault, monkeypatch
):
    waits = []
    passes = beamline.rotation.passes

    def stalled(*arguments):
        waits.append(passes(*arguments))
        fault("BEAM_DUMP", 1)
        return waits[0]

    monkeypatch.setattr(beamline.rotation, "passes", stalled)
    without = replace(beamline, position_compare=None)
    scan = settings(sync="encoder_samples", run_up_margin_deg=20.0)
    with pytest.raises(BeamLostError):
        RE(tomogram(without, scan, STEP, raw_files))
    (wait,) = waits
    assert wait.done
    assert wait.success
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"


def test_a_beamline_without_a_position_compare_is_refused_before_a_run(
    RE, docs, beamline, raw_files
):
    without = replace(beamline, position_compare=None)
    with pytest.raises(ValueError, match="set scan.sync to encoder_samples"):
        RE(tomogram(without, settings(), STEP, raw_files))
    assert not docs


# --- a PandA --------------------------------------------------------------------------


def test_a_panda_triggers_each_frame_and_hands_over_its_angle(
    RE, docs, beamline, panda, raw_files
):
    RE(tomogram(replace(beamline, position_compare=panda), settings(), STEP, raw_files))

    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "success"
    # The encoder's count of 1e-4 deg, once for the trigger and once for the reading.
    assert the_event(docs, "angles")["rotation_angle_deg"] == pytest.approx(
        np.arange(60) * 1.0, abs=2e-4
    )
    assert panda.armed.get(use_monitor=False) == 0
    assert panda.writing.get(use_monitor=False) == 0
    assert panda.num_triggers() == 60
    angles_file = raw_files["projections"].with_name("scan_0002_00_angles.h5")
    with h5py.File(angles_file, "r") as file:
        assert file["rotation_angle_deg"].shape == (60,)


def test_a_panda_overwrites_no_angles(RE, docs, beamline, panda, raw_files):
    angles_file = raw_files["projections"].with_name("scan_0002_00_angles.h5")
    angles_file.parent.mkdir()
    angles_file.write_bytes(b"irreplaceable")
    with pytest.raises(FileExistsError, match="never overwritten"):
        RE(
            tomogram(
                replace(beamline, position_compare=panda), settings(), STEP, raw_files
            )
        )
    assert not docs
    assert angles_file.read_bytes() == b"irreplaceable"


def series(tmp_path, **changes):
    values = {
        "start_deg": 0.0,
        "step_deg": 1.0,
        "number": 10,
        "duration_s": 10.0,
        "angles_file": tmp_path / "angles.h5",
    }
    return TriggerSeries(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step_deg": 0.00123456, "number": 2400}, "whole number of counts"),
        ({"step_deg": 1e-6}, "whole number of counts"),
        ({"angles_file": None}, "absolute path"),
        ({"number": 0}, "one or more"),
    ],
)
def test_a_panda_refuses_what_it_cannot_fire(panda, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        panda.prepare(series(tmp_path, **changes))
    assert panda.armed.get(use_monitor=False) == 0


def test_a_panda_that_cannot_make_its_folder_says_so(panda, tmp_path):
    deep = tmp_path.joinpath(*"abcdefgh") / "angles.h5"
    with pytest.raises(DeviceError, match="cannot see or make"):
        panda.prepare(series(tmp_path, angles_file=deep)).wait(20)


def test_a_panda_fires_at_its_counts_when_the_stage_turns_backwards(
    beamline, panda, tmp_path
):
    rotation = beamline.rotation
    rotation.set(3.0).wait(30)
    panda.prepare(series(tmp_path, start_deg=1.0, step_deg=-0.5, number=7)).wait(20)
    panda.kickoff().wait(20)
    capture = panda.complete()
    try:
        rotation.set(-4.0).wait(30)
        capture.wait(20)
        # To the encoder's count of 1e-4 deg, at the trigger and at the reading.
        expected_deg = 1.0 - 0.5 * np.arange(7)
        assert panda.angles_deg() == pytest.approx(expected_deg, abs=2e-4)
        assert panda.armed.get(use_monitor=False) == 0
    finally:
        panda.stop()
        rotation.set(0.0).wait(30)


def test_a_panda_told_to_stop_is_disarmed_and_its_file_closed(panda, tmp_path):
    panda.prepare(series(tmp_path)).wait(20)
    panda.kickoff().wait(20)
    assert panda.armed.get(use_monitor=False) == 1
    capture = panda.complete()
    panda.stop()
    with pytest.raises(FramesLostError, match="was stopped"):
        capture.wait(10)
    for signal in (panda.armed, panda.writing):
        assert signal.get(use_monitor=False) == 0, signal.pvname
    assert len(panda.latched_deg()) == 0


def test_every_process_variable_of_a_panda_is_served(panda):
    names = [walk.item.pvname for walk in panda.walk_signals()]
    assert all(walk.item.connected for walk in panda.walk_signals()), names
    assert len(names) > 30
