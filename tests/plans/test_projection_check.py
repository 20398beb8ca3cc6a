"""Spoilt projections: found, named, and left out only where they may be."""

import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from devices.camera import DATASETS
from devices.errors import FramesLostError, WriterError
from plans.frame_follower import FrameFollower
from plans.projection_check import spoilt_projections
from plans.reference_check import FrameLevels
from plans.settings import ScanSettings

DARK_COUNTS, NUMBER = 100.0, 400
FILE = Path("/raw/scan_0007_00_projections.h5")
# A flat cell seen edge-on: the mean falls to a third within a few frames.
ANGLES = np.linspace(0, np.pi, NUMBER, endpoint=False)
MEANS = DARK_COUNTS + 3000 * np.exp(-1.1 * np.exp(-(((ANGLES - 1.6) / 0.02) ** 2)))


def scan(**changes):
    values = {
        "num_projections": NUMBER,
        "exposure_time_s": 0.04,
        "pixel_size_um": 0.8,
        "sample_out_mm": 3.0,
        "projections_lost_frac_max": 0.005,
    }
    return ScanSettings.model_validate({**values, **changes})


def spoilt(means=MEANS, saturated=None, **changes):
    levels = FrameLevels(means, np.zeros(NUMBER) if saturated is None else saturated)
    return spoilt_projections(levels, DARK_COUNTS, scan(**changes), FILE)


def test_a_sample_that_absorbs_more_edge_on_spoils_nothing():
    assert spoilt() == ()


def test_a_dead_and_a_saturated_frame_are_left_out_with_their_reasons():
    means, saturated = MEANS.copy(), np.zeros(NUMBER)
    means[17], saturated[300] = DARK_COUNTS, 0.2

    dead, burnt = spoilt(means, saturated)

    assert (dead.index, burnt.index) == (17, 300)
    assert dead.reason == "dark: 0 counts above the darks, its neighbours 3000"
    assert burnt.reason == "saturated: 20.00% of its pixels"


def test_a_dead_frame_shows_on_the_steepest_slope_too():
    means = MEANS.copy()
    steepest = int(np.argmax(np.abs(np.diff(means))))
    means[steepest] = DARK_COUNTS + 3

    (dead,) = spoilt(means)

    assert dead.index == steepest


def test_two_dead_frames_in_a_row_are_both_found():
    means = MEANS.copy()
    means[[40, 41]] = DARK_COUNTS

    assert [frame.index for frame in spoilt(means)] == [40, 41]


@pytest.mark.parametrize("index", [0, 1, NUMBER - 1])
def test_the_first_and_the_last_frame_are_judged_too(index):
    means = MEANS.copy()
    means[index] *= 1.3

    (frame,) = spoilt(means)

    assert frame.index == index
    assert frame.reason.startswith("bright")


def test_more_than_may_be_left_out_fail_the_scan():
    means = MEANS.copy()
    means[[10, 20, 30]] = DARK_COUNTS  # 0.005 of 400 are 2

    with pytest.raises(FramesLostError, match=r"3 of 400 .*frame 10 dark.* at most 2"):
        spoilt(means)
    assert len(spoilt(means, projections_lost_frac_max=0.01)) == 3


# --- reading a file that grows --------------------------------------------------------


@pytest.fixture
def growing(tmp_path):
    """A SWMR file like the camera's: ``add(frames)``, then ``close()``."""
    path = tmp_path / "projections.h5"
    file = h5py.File(path, "w", libver="latest")
    images = file.create_dataset(
        DATASETS["image"][0],
        (0, 4, 6),
        maxshape=(None, 4, 6),
        chunks=(1, 4, 6),
        dtype="<u2",
    )
    file.swmr_mode = True

    def add(frames):
        first = images.shape[0]
        images.resize(first + len(frames), 0)
        images[first:] = frames
        images.flush()

    yield path, add, file.close
    file.close()


def frames_of(*values):
    return np.stack([np.full((4, 6), value, np.uint16) for value in values])


def test_every_frame_is_read_once_whenever_it_came(growing, monkeypatch):
    monkeypatch.setattr("plans.frame_follower.LOOK_PERIOD_S", 0.01)
    path, add, close = growing
    follower = FrameFollower(path, 5, saturation_counts=1000)
    follower.start()
    add(frames_of(1, 2))
    deadline = threading.Event()
    while len(follower._means) < 2 and not deadline.wait(0.01):
        pass
    add(frames_of(3, 2000))
    add(frames_of(5))
    follower.close()
    close()

    levels = follower.levels()

    assert levels.mean_counts.tolist() == [1, 2, 3, 2000, 5]
    assert levels.saturated_frac.tolist() == [0, 0, 0, 1, 0]


def test_a_file_that_could_not_be_followed_is_read_at_the_end(growing):
    path, add, close = growing
    add(frames_of(7, 8))
    close()

    levels = FrameFollower(path, 2, saturation_counts=1000).levels()

    assert levels.mean_counts.tolist() == [7, 8]


def test_a_file_that_cannot_be_read_says_so(tmp_path):
    path = tmp_path / "projections.h5"
    path.write_bytes(b"not a file of frames")

    with pytest.raises(WriterError, match="cannot be read back"):
        FrameFollower(path, 2, saturation_counts=1000).levels()
