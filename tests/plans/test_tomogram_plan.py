"""The composed tomogram with a real RunEngine on the simulated beamline."""

import re
import threading

import event_model
import h5py
import numpy as np
import pytest
from bluesky.suspenders import SuspendFloor
from bluesky.utils import RunEngineInterrupted
from ophyd import Signal

from devices.camera import DATASETS
from devices.errors import (
    BeamLostError,
    DeviceError,
    FramesLostError,
    MoveError,
    WriterError,
)
from plans.references import References
from plans.scan_check import check_file
from plans.settings import ScanSettings
from plans.steps import TomogramStep
from plans.tomogram import tomogram

STEP = TomogramStep(index=4, scan_number=2, label="1.5")
KEYS = ("darks", "flats", "projections")


class Lunch:
    def stop_after_tomogram(self):
        return ""

    def abort_reason(self):
        return "lunch"


def settings(**changes):
    values = {
        "num_projections": 180,
        "exposure_time_s": 0.04,
        "pixel_size_um": 0.8,
        "sample_out_mm": 3.0,
        "num_darks": 5,
        "num_flats": 6,
        **changes,
    }
    return ScanSettings.model_validate(values)


@pytest.fixture
def raw_files(tmp_path):
    return {key: tmp_path / "raw" / f"scan_0002_00_{key}.h5" for key in KEYS}


@pytest.fixture
def plan(beamline, raw_files):
    def make(**changes):
        return tomogram(
            beamline,
            settings(**changes),
            STEP,
            raw_files,
            md={"simulated": True},
            wishes=Lunch(),
        )

    return make


@pytest.fixture(scope="module")
def good(recorded, beamline, tmp_path_factory):
    """One undisturbed scan: its documents and its files."""
    raw = tmp_path_factory.mktemp("good")
    files = {key: raw / f"scan_0002_00_{key}.h5" for key in KEYS}
    docs = recorded(tomogram(beamline, settings(), STEP, files, md={"simulated": True}))
    assert_safe(beamline)
    return docs, files


def assert_safe(beamline):
    assert beamline.shutter.state.get(use_monitor=False) == "Closed"
    assert not beamline.camera.cam.acquire.get(use_monitor=False)
    assert not beamline.camera.hdf.capture.get(use_monitor=False)
    assert beamline.rotation.motor_done_move.get(use_monitor=False) == 1
    assert beamline.rotation.place() == pytest.approx(0.0, abs=0.02)
    assert beamline.sample_stage.x.place() == pytest.approx(0.0, abs=0.01)
    assert not beamline.position_compare.armed.get(use_monitor=False)


def when_frames_flow(beamline, action):
    """Run `action` in a thread once projections are being written."""

    def written(value=None, **_kwargs):
        if value and 10 < value and beamline.camera.hdf.num_capture.get() == 180:
            beamline.camera.hdf.num_captured.clear_sub(written)
            threading.Thread(target=action, daemon=True).start()

    beamline.camera.hdf.num_captured.subscribe(written, run=False)


def test_a_scan_succeeds_with_every_frame_and_angle(good):
    docs, raw_files = good
    (stop,) = docs.of("stop")
    assert stop["num_events"] == {
        "baseline": 2,
        "darks": 5,
        "flats": 6,
        "projections": 180,
        "angles": 1,
        "conditions": 1,
    }
    (angles,) = docs.events("angles")
    nominal = np.arange(180) * 1.0
    # The Zebra compares encoder counts: the error is far below a step of 1 deg.
    assert angles["data"]["rotation_angle_deg"] == pytest.approx(nominal, abs=0.01)
    for key, number in zip(KEYS, (5, 6, 180), strict=True):
        with h5py.File(raw_files[key], "r") as file:
            assert file[DATASETS["image"][0]].shape == (number, 112, 160)
    with h5py.File(raw_files["projections"], "r") as file:
        times_s = file[DATASETS["timestamp"][0]][()]
    # Constant speed: equal times between equal angles, to 2 % of a period.
    assert np.diff(times_s) == pytest.approx(0.05, rel=0.02)


def test_darks_are_dark_and_flats_are_bright(good):
    docs, raw_files = good
    means = {}
    for key in KEYS:
        with h5py.File(raw_files[key], "r") as file:
            means[key] = float(file[DATASETS["image"][0]][()].mean())
    assert means["flats"] > 10 * means["darks"]
    assert means["darks"] < means["projections"] < means["flats"]


def test_the_start_document_holds_what_the_contract_says(good):
    docs, raw_files = good
    (start,) = docs.of("start")
    assert start["plan_name"] == "tomogram"
    assert start["step_index"] == 4
    assert start["label"] == "1.5"
    assert start["attempt"] == 0
    assert start["scan_number"] == 2
    assert start["simulated"] is True
    assert start["scan"]["num_projections"] == 180
    assert start["nominal_angles_deg"] == [0.0, 1.0, 180]
    assert start["raw_files"] == {key: str(raw_files[key]) for key in KEYS}


def test_the_documents_pass_event_models_schemas(good):
    docs, raw_files = good
    kinds = {name for name, _doc in docs}
    assert {"start", "descriptor", "event", "stream_resource", "stream_datum"} < kinds
    for name, doc in docs:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)


def test_stream_documents_say_how_frames_stack(good):
    docs, raw_files = good
    for stream in KEYS:
        keys = docs.stream(stream)["data_keys"]
        assert set(keys) == {"camera_image", "camera_timestamp", "camera_unique_id"}
        assert keys["camera_image"]["shape"] == [112, 160]
        assert keys["camera_image"]["dtype_numpy"] == "<u2"
        assert all(key["external"] == "STREAM:" for key in keys.values())
    for resource in docs.of("stream_resource"):
        assert resource["parameters"]["join_method"] == "stack"
        assert resource["mimetype"] == "application/x-hdf5"
        assert resource["uri"].startswith("file://localhost/")
    # Ranges of one resource follow each other without gap or overlap.
    for resource in docs.of("stream_resource"):
        ranges = [
            (d["indices"]["start"], d["indices"]["stop"])
            for d in docs.of("stream_datum")
            if d["stream_resource"] == resource["uid"]
        ]
        assert ranges[0][0] == 0
        assert all(a[1] == b[0] for a, b in zip(ranges, ranges[1:], strict=False))


def test_the_baseline_holds_every_position_and_the_source(good):
    docs, raw_files = good
    first, last = docs.events("baseline")
    for event in (first, last):
        assert {
            "rotation",
            "sample_stage_x",
            "sample_stage_y",
            "source_ring_current",
            "source_id_gap",
            "source_photon_energy",
            "source_filter_1",
            "shutter_state",
            "potentiostat_voltage",
        } <= event["data"].keys()
    units = docs.stream("baseline")["data_keys"]
    assert units["source_ring_current"]["units"] == "mA"
    assert units["rotation"]["units"] == "deg"


def test_an_existing_file_is_refused_before_a_run_opens(RE, docs, plan, raw_files):
    raw_files["flats"].parent.mkdir()
    raw_files["flats"].write_bytes(b"irreplaceable")
    with pytest.raises(FileExistsError, match="never overwritten"):
        RE(plan())
    assert not docs
    assert raw_files["flats"].read_bytes() == b"irreplaceable"


def test_a_dropped_frame_is_never_a_success(RE, docs, beamline, plan, fault):
    when_frames_flow(beamline, lambda: fault("DROPPED_FRAME", 1))
    with pytest.raises(FramesLostError):
        RE(plan())
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"
    assert "frame" in stop["reason"]
    assert_safe(beamline)


@pytest.mark.slow
def test_triggers_too_fast_for_the_camera_are_never_a_success(RE, docs, beamline, plan):
    # The camera needs 10 ms after each exposure; it is told that it needs none.
    with pytest.raises(FramesLostError):
        RE(plan(readout_time_s=0.0))
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"
    assert_safe(beamline)


def test_a_writer_that_fails_ends_the_run_with_its_message(
    RE, docs, beamline, plan, fault
):
    when_frames_flow(beamline, lambda: fault("HDF5_WRITE_ERROR", 1))
    with pytest.raises(DeviceError):
        RE(plan())
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"
    assert "writer" in stop["reason"]
    assert_safe(beamline)


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("BEAM_DUMP", BeamLostError, "the ring current fell to"),
        pytest.param(
            "STAGE_STALL",
            MoveError,
            "rotation has stood at .* although it moves",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "CAMERA_HANG",
            FramesLostError,
            "frames, then none for",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_goes_wrong_while_frames_are_taken_is_named(
    RE, docs, beamline, plan, fault, name, error, reason
):
    when_frames_flow(beamline, lambda: fault(name, 1))
    try:
        with pytest.raises(error, match=reason):
            RE(plan())
    finally:
        fault(name, 0)
        beamline.rotation.set(0.0).wait(30)
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"
    assert re.search(reason, stop["reason"])
    assert_safe(beamline)


def test_a_shutter_that_closes_during_the_projections_fails_the_scan(
    RE, docs, beamline, plan
):
    when_frames_flow(beamline, lambda: beamline.shutter.command.put("Close"))
    with pytest.raises(BeamLostError, match="while frames were taken"):
        RE(plan())
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"
    assert_safe(beamline)


def test_a_full_disk_fails_the_scan_before_it_is_full(RE, docs, beamline, plan):
    with pytest.raises(WriterError, match="make room, then retake"):
        RE(plan(free_disk_min_bytes=10**15))
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"
    assert_safe(beamline)


def test_flats_without_light_fail_the_scan(RE, docs, beamline, plan):
    with pytest.raises(FramesLostError, match="counts above the darks"):
        RE(plan(flat_signal_min_counts=60000.0))
    assert docs.of("stop")[0]["exit_status"] == "fail"
    assert_safe(beamline)


def test_a_beam_that_changed_since_the_flats_fails_the_scan(
    RE, docs, beamline, plan, tmp_path
):
    with pytest.raises(BeamLostError, match="away from the .* mA of the flats"):
        RE(plan(ring_current_band_frac=1e-9))
    assert docs.of("stop")[0]["exit_status"] == "fail"


@pytest.mark.slow
def test_darks_and_flats_are_used_again_as_the_policy_says(
    RE, docs, beamline, tmp_path
):
    known = References()
    files = [
        {key: tmp_path / f"scan_000{n}_00_{key}.h5" for key in KEYS} for n in range(3)
    ]
    for number in range(3):
        step = TomogramStep(index=number, scan_number=number, label=str(number))
        scan = settings(darks_every=10, flats_every=2)
        RE(tomogram(beamline, scan, step, files[number], references=known))

    starts = docs.of("start")
    assert [s["references"]["darks"]["reused"] for s in starts] == [False, True, True]
    assert [s["references"]["flats"]["reused"] for s in starts] == [False, True, False]
    assert starts[1]["raw_files"]["flats"] == str(files[0]["flats"])
    assert starts[2]["raw_files"]["darks"] == str(files[0]["darks"])
    assert not files[1]["flats"].exists()
    used = docs.events("conditions")
    assert used[1]["data"]["flats_scan_number"] == 0
    assert used[2]["data"]["flats_scan_number"] == 2
    assert used[1]["data"]["flats_age_s"] > 0
    assert [stop["exit_status"] for stop in docs.of("stop")] == ["success"] * 3


def test_flats_before_and_after_get_a_file_each(RE, docs, beamline, plan, raw_files):
    commands = set()
    RE.msg_hook = lambda message: commands.add(message.command)
    assert RE(plan(flats="both")).exit_status == "success"
    # Nothing of a scan may be replayed, nor monitored: a suspension doubles monitors.
    assert not commands & {"checkpoint", "monitor", "install_suspender", "pause"}
    assert "clear_checkpoint" in commands
    (start,) = docs.of("start")
    after = raw_files["flats"].with_name("scan_0002_00_flats_after.h5")
    assert start["raw_files"]["flats_after"] == str(after)
    check_file(after, 6)
    check_file(raw_files["flats"], 6)
    (conditions,) = docs.events("conditions")
    said = conditions["data"]
    assert said["flats_after_file"] == str(after)
    for kind in ("darks", "flats", "flats_after", "projections"):
        assert said[f"{kind}_bad_frames"] == []
    assert said["projections_bad_reasons"] == []


def test_an_abort_leaves_everything_safe_and_ends(RE, docs, beamline, plan):
    when_frames_flow(beamline, lambda: RE.abort("lunch"))
    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "abort"
    assert stop["reason"] == "aborted by the operator: lunch"
    assert RE.state == "idle"
    assert_safe(beamline)


def test_a_stop_before_the_last_frame_is_no_success(RE, docs, beamline, plan):
    when_frames_flow(beamline, lambda: RE.stop())
    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "abort"
    assert stop["reason"] == "stopped by the operator: lunch"
    assert_safe(beamline)


def test_a_pause_ends_the_scan_instead_of_replaying_it(RE, docs, beamline, plan):
    when_frames_flow(beamline, lambda: RE.request_pause(defer=False))
    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    assert RE.state == "idle"
    assert len(docs.of("start")) == 1
    (stop,) = docs.of("stop")
    assert stop["exit_status"] != "success"
    assert "ended by a pause" in stop["reason"]
    assert len([d for d in docs.of("descriptor") if d["name"] == "projections"]) == 1
    assert_safe(beamline)


@pytest.mark.slow
def test_a_suspender_ends_the_scan_instead_of_replaying_it(RE, docs, beamline, plan):
    beam = Signal(name="beam", value=1)
    beam.put(1)
    RE.install_suspender(SuspendFloor(beam, 0.5))
    when_frames_flow(beamline, lambda: beam.put(0))
    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    (stop,) = docs.of("stop")
    assert stop["exit_status"] != "success"
    assert len([d for d in docs.of("descriptor") if d["name"] == "projections"]) == 1
    assert_safe(beamline)


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["bluesky.consolidators", "bluesky_tiled_plugins.writing.consolidators"]
)
def test_both_consolidators_stack_the_frames(good, module):
    consolidators = pytest.importorskip(
        module, reason="needs the extra tiled", exc_type=ImportError
    )
    docs, _raw_files = good
    for name, number in zip(KEYS, (5, 6, 180), strict=True):
        descriptor = docs.stream(name)
        (resource,) = [
            doc
            for doc in docs.of("stream_resource")
            if doc["data_key"] == "camera_image" and doc["uri"].endswith(f"_{name}.h5")
        ]
        stack = consolidators.consolidator_factory(resource, descriptor)
        for doc in docs.of("stream_datum"):
            if doc["stream_resource"] == resource["uid"]:
                stack.consume_stream_datum(doc)
        assert stack.shape == (number, 112, 160)


def test_a_halt_stops_the_camera_at_the_next_safe_state(RE, beamline, plan):
    # halt() runs no finaliser; make_safe is what an operator has left.
    from plans.safe_state import make_safe

    when_frames_flow(beamline, lambda: RE.halt())
    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    make_safe(beamline)
    assert beamline.shutter.state.get(use_monitor=False) == "Closed"
    assert not beamline.camera.cam.acquire.get(use_monitor=False)
    assert not beamline.camera.hdf.capture.get(use_monitor=False)
    beamline.position_compare.stop()
    beamline.rotation.set_velocity(30.0).wait(10)
    beamline.rotation.set(0.0).wait(30)


@pytest.mark.slow
def test_a_viewer_that_raises_does_not_stop_the_scan(RE, plan):
    from bluesky.callbacks.core import make_callback_safe

    def viewer(_name, _doc):
        raise ZeroDivisionError

    RE.subscribe(make_callback_safe(viewer))
    assert RE(plan()).exit_status == "success"


@pytest.mark.slow
def test_flats_may_be_taken_after_the_projections(RE, docs, beamline, plan):
    assert RE(plan(flats="after")).exit_status == "success"
    order = [d["name"] for d in docs.of("descriptor")]
    assert order.index("flats") > order.index("projections")
    assert_safe(beamline)
