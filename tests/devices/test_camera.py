"""The camera over real Channel Access: files, documents, refusals."""

import h5py
import numpy as np
import pytest

from devices.camera import DATASETS, FrameSeries
from devices.errors import DeviceError, FramesLostError


def series(path, number=10, **changes):
    values = {
        "file": path,
        "number": number,
        "exposure_time_s": 0.02,
        "frame_period_s": 0.05,
        "trigger": "Auto",
        "duration_s": number * 0.05,
        **changes,
    }
    return FrameSeries(**values)


@pytest.fixture
def camera(beamline):
    camera = beamline.camera
    camera.stage().wait(30)
    yield camera
    camera.unstage().wait(30)


def record(camera, wanted):
    camera.prepare(wanted).wait(30)
    camera.kickoff().wait(30)
    camera.complete().wait(60)


def test_frames_are_written_numbered_and_stamped(camera, tmp_path):
    path = tmp_path / "new" / "frames.h5"
    record(camera, series(path))

    with h5py.File(path, "r") as file:
        image = file[DATASETS["image"][0]]
        ids = file[DATASETS["unique_id"][0]][()]
        times_s = file[DATASETS["timestamp"][0]][()]
        assert image.shape == (10, 112, 160)
        assert image.dtype == np.uint16
    assert np.array_equal(np.diff(ids), np.ones(9))
    # The camera's own clock paces the frames: 50 ms, a millisecond for jitter.
    assert np.diff(times_s) == pytest.approx(0.05, abs=0.001)


def test_an_existing_file_is_never_overwritten(camera, tmp_path):
    path = tmp_path / "frames.h5"
    path.write_bytes(b"irreplaceable")
    with pytest.raises(FileExistsError, match="never overwritten"):
        camera.prepare(series(path))
    assert path.read_bytes() == b"irreplaceable"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": 0}, "asked for 0 frames"),
        ({"exposure_time_s": 0.06}, "fit into the period"),
        ({"exposure_time_s": 0.0}, "must be positive"),
    ],
)
def test_a_series_that_makes_no_sense_is_refused(camera, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        camera.prepare(series(tmp_path / "frames.h5", **changes))
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_not_absolute_or_no_h5_is_refused(camera, tmp_path):
    for path in (tmp_path / "frames.tif", tmp_path.relative_to("/") / "frames.h5"):
        with pytest.raises(ValueError, match="absolute path ending in .h5"):
            camera.prepare(series(path))


def test_a_busy_camera_is_refused(camera, tmp_path):
    camera.prepare(series(tmp_path / "a.h5", number=1000, duration_s=50.0)).wait(30)
    camera.kickoff().wait(30)
    with pytest.raises(DeviceError, match="still acquiring or writing"):
        camera.prepare(series(tmp_path / "b.h5"))
    with pytest.raises(DeviceError, match="for somebody else"):
        camera.stage()
    camera.stop()
    camera.closed().wait(30)
    with pytest.raises(FramesLostError):
        camera.complete().wait(60)


def test_triggers_that_never_come_end_as_lost_frames(camera, tmp_path, monkeypatch):
    monkeypatch.setattr("devices.frames.SERIES_MARGIN_S", 1.0)
    camera.prepare(
        series(tmp_path / "frames.h5", trigger="Ext Only", duration_s=0.1)
    ).wait(30)
    camera.kickoff().wait(30)
    with pytest.raises(FramesLostError, match="0 of 10 frames .* no triggers"):
        camera.complete().wait(30)


def test_a_series_ends_though_its_camera_cannot_be_stopped(
    camera, tmp_path, monkeypatch
):
    def silent(*_args, **_kwargs):
        raise TimeoutError("not connected")

    monkeypatch.setattr("devices.frames.SERIES_MARGIN_S", 0.5)
    wanted = series(tmp_path / "f.h5", 2, trigger="Ext Only", duration_s=0.5)
    camera.prepare(wanted).wait(30)
    camera.kickoff().wait(30)
    with monkeypatch.context() as patch:
        patch.setattr(camera.cam.acquire, "put", silent)
        with pytest.raises(FramesLostError, match="0 of 2 frames within"):
            camera.complete().wait(30)


def test_a_stop_that_is_lost_in_part_still_closes_the_file(
    camera, tmp_path, monkeypatch
):
    def silent(*_args, **_kwargs):
        raise TimeoutError("not connected")

    told = []
    wanted = series(tmp_path / "f.h5", 2, trigger="Ext Only", duration_s=60.0)
    camera.prepare(wanted).wait(30)
    camera.kickoff().wait(30)
    with monkeypatch.context() as patch:
        patch.setattr(camera.cam.acquire, "put", silent)
        patch.setattr(camera.hdf.capture, "put", lambda value, **_: told.append(value))
        with pytest.raises(TimeoutError):
            camera.stop()
    assert told == [0]
    with pytest.raises(FramesLostError, match="stopped after 0 of 2"):
        camera.complete().wait(30)


def test_stop_leaves_an_idle_camera_and_a_closed_readable_file(camera, tmp_path):
    path = tmp_path / "frames.h5"
    camera.prepare(series(path, number=2000, duration_s=100.0)).wait(30)
    camera.kickoff().wait(30)
    camera.stop()
    camera.closed().wait(30)
    assert not camera.cam.acquire.get(use_monitor=False)
    assert not camera.hdf.capture.get(use_monitor=False)
    with h5py.File(path, "r") as file:
        assert file[DATASETS["image"][0]].shape[0] < 2000
    with pytest.raises(FramesLostError, match="was stopped after .* of 2000 frames"):
        camera.complete().wait(30)


def test_only_flushed_frames_are_reported(camera, tmp_path):
    path = tmp_path / "frames.h5"
    camera.prepare(series(path, number=400, duration_s=20.0)).wait(30)
    camera.kickoff().wait(30)
    complete = camera.complete()
    reported = []
    while not complete.done:
        index = camera.get_index()
        with h5py.File(path, "r", swmr=True) as file:
            visible = file[DATASETS["image"][0]].shape[0]
        reported.append((index, visible))
    complete.wait(60)
    assert any(0 < index < 400 for index, _visible in reported)
    assert all(index <= visible for index, visible in reported)
    assert camera.get_index() == 400


def test_an_ioc_that_answers_late_loses_no_frame(camera, tmp_path, monkeypatch, caplog):
    counter = camera.hdf.num_captured
    get, late = counter.get, []

    def answers_late(**kwargs):
        if kwargs.get("use_monitor") is False and len(late) < 3:
            late.append(kwargs)
            raise TimeoutError("no answer within 2 s")
        return get(**kwargs)

    monkeypatch.setattr(counter, "get", answers_late)
    camera.prepare(series(tmp_path / "frames.h5")).wait(30)
    camera.kickoff().wait(30)
    complete = camera.complete()
    assert camera.get_index() <= 10
    complete.wait(60)

    assert len(late) == 3
    assert "no answer within 2 s" in caplog.text
    assert camera.get_index() == 10
