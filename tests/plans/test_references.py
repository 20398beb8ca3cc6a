"""Darks and flats: what spoils them, and when the last ones serve again."""

import h5py
import numpy as np
import pytest

from devices.camera import DATASETS
from devices.errors import FramesLostError
from plans.reference_check import bad_darks, bad_flats, frame_levels
from plans.references import ReferenceGroup, camera_key, why_retake
from plans.settings import ScanSettings


def settings(**changes):
    return ScanSettings.model_validate(
        {
            "num_projections": 360,
            "exposure_time_s": 0.1,
            "pixel_size_um": 0.8,
            "sample_out_mm": 3.0,
            "darks_every": 10,
            "flats_every": 5,
            **changes,
        }
    )


@pytest.fixture
def levels(tmp_path):
    def write(means, saturated=0):
        path = tmp_path / "group.h5"
        rng = np.random.default_rng(5)
        frames = (
            rng.normal(0, 2, (len(means), 20, 30)) + np.asarray(means)[:, None, None]
        )
        frames = np.clip(frames, 0, 65535).astype("u2")
        frames[:, 0, :saturated] = 65535
        with h5py.File(path, "w") as file:
            file[DATASETS["image"][0]] = frames
        return path, frame_levels(path, 65535)

    return write


def test_levels_are_those_of_the_frames(levels):
    _path, found = levels([100, 20000, 30000], saturated=6)
    # 6 of 600 pixels at 65535 raise the mean by 1 % of the difference.
    expected = [m + 0.01 * (65535 - m) for m in (100, 20000, 30000)]
    assert found.mean_counts == pytest.approx(expected, abs=1.0)
    assert found.saturated_frac == pytest.approx([0.01] * 3)


def test_one_spoilt_frame_is_left_out_and_two_fail_the_group(levels):
    path, found = levels([100] * 9 + [900])
    assert bad_darks(found, settings(), path) == [9]
    path, found = levels([100] * 8 + [900, 950])
    with pytest.raises(FramesLostError, match="2 of 10 darks leave the median"):
        bad_darks(found, settings(), path)


def test_steady_groups_lose_no_frame(levels):
    path, found = levels([100] * 10)
    assert bad_darks(found, settings(), path) == []
    path, found = levels([20000] * 10)
    assert bad_flats(found, 100, settings(), path) == []


def test_a_flat_taken_in_a_beam_dip_is_left_out(levels):
    path, found = levels([20000] * 7 + [15000] + [20000] * 2)
    assert bad_flats(found, 100, settings(), path) == [7]


def test_flats_equal_to_their_darks_fail_with_the_counts(levels):
    path, found = levels([100] * 5)
    with pytest.raises(FramesLostError, match=r"lie -?0\.\d counts above the darks"):
        bad_flats(found, 100, settings(), path)


def test_saturated_flats_fail(levels):
    path, found = levels([40000] * 5, saturated=6)
    with pytest.raises(FramesLostError, match="1.00% of a flat's pixels reach 65535"):
        bad_flats(found, 100, settings(), path)


@pytest.fixture
def group(tmp_path):
    path = tmp_path / "flats.h5"
    path.touch()
    return ReferenceGroup(
        file=path,
        frames=20,
        bad_frames=(),
        level_counts=2e4,
        scan_number=3,
        time_s=1000.0,
        ring_current_ma=300.0,
        camera=camera_key(settings()),
    )


def why(group, kind="flats", number=4, now_s=1500.0, ring_current_ma=299.0, **changes):
    return why_retake(
        kind,
        group,
        settings(**changes),
        number,
        now_s=now_s,
        ring_current_ma=ring_current_ma,
    )


def test_recent_flats_of_the_same_beam_and_settings_serve_again(group):
    assert why(group) == ""
    assert why(group, kind="darks", ring_current_ma=10.0) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"flats_every": 1}, "every scan takes its own"),
        ({"number": 8}, "the last were taken for scan 3"),
        ({"number": 2}, "the last were taken for scan 3"),
        ({"now_s": 9000.0}, "the last are 8000 s old"),
        ({"now_s": 900.0}, "s old"),
        ({"ring_current_ma": 250.0}, "changed from 300.0 to 250.0 mA"),
        ({"exposure_time_s": 0.2}, "exposure or period differ"),
    ],
)
def test_flats_are_retaken_for_a_reason(group, changes, reason):
    assert reason in why(group, **changes)


def test_none_and_vanished_files_are_retaken(group):
    assert why(None) == "there are none yet"
    group.file.unlink()
    assert "is gone" in why(group)
