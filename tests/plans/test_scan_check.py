"""What makes a scan good, on files and angles with one fault each."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from devices.camera import DATASETS
from devices.errors import FramesLostError, WriterError
from plans.scan_check import check_angles, check_file

HOLD_OPEN = """
import sys, h5py
with h5py.File(sys.argv[1], "r+", libver="latest") as file:
    file.swmr_mode = True
    print("open", flush=True)
    sys.stdin.read()
"""
NOMINAL = (0.0, 0.5, 360)


@pytest.fixture
def write(tmp_path):
    def write(number=10, ids=None, times=None, without=()):
        path = tmp_path / "frames.h5"
        ids = np.arange(1, number + 1) if ids is None else ids
        times = np.arange(number) * 0.2 if times is None else times
        data = {
            "image": np.zeros((number, 4, 6), "u2"),
            "unique_id": np.asarray(ids, "i4"),
            "timestamp": np.asarray(times, "f8"),
        }
        with h5py.File(path, "w", libver="latest") as file:
            for part, (dataset, _dtype) in DATASETS.items():
                if part not in without:
                    file[dataset] = data[part]
        return path

    return write


def test_a_complete_file_passes(write):
    check_file(write(), 10)


def test_a_file_with_too_few_frames_fails(write):
    with pytest.raises(FramesLostError, match="holds 9 frames; 10 were asked"):
        check_file(write(number=9), 10)


def test_a_gap_in_the_frame_numbers_fails_and_says_where(write):
    ids = [1, 2, 3, 4, 7, 8, 9, 10, 11, 12]
    with pytest.raises(FramesLostError, match=r"frame 4 has number 7 after 4; 2 frame"):
        check_file(write(ids=ids), 10)


def test_a_repeated_frame_number_fails(write):
    with pytest.raises(FramesLostError, match="number 3 after 3"):
        check_file(write(ids=[1, 2, 3, 3, 4, 5, 6, 7, 8, 9]), 10)


def test_time_stamps_that_go_back_fail(write):
    times = np.arange(10) * 0.2
    times[5] = times[3]
    with pytest.raises(FramesLostError, match="frame 5 is not later"):
        check_file(write(times=times), 10)


def test_a_missing_dataset_and_a_missing_file_fail_as_writer_errors(write, tmp_path):
    with pytest.raises(WriterError, match="has no dataset"):
        check_file(write(without=("unique_id",)), 10)
    with pytest.raises(WriterError, match="cannot be read back"):
        check_file(tmp_path / "nothing.h5", 10)


def test_a_file_still_open_for_writing_fails(write):
    path = write()
    # In a process of its own, as the writer is: HDF5 shares files within one.
    writer = subprocess.Popen(
        [sys.executable, "-c", HOLD_OPEN, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(WriterError, match="did not close it"):
            check_file(path, 10)
        writer.stdin.close()


def angles():
    start, step, number = NOMINAL
    return start + step * np.arange(number)


def test_angles_as_asked_pass():
    check_angles(angles() + 0.01, NOMINAL, 0.25)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda a: a[:-1], "359 angles were latched for 360 frames"),
        (
            lambda a: np.where(np.arange(360) == 7, a[6], a),
            "frame 7 .* does not follow",
        ),
        (lambda a: np.where(np.arange(360) == 7, np.nan, a), "frame 7"),
        (lambda a: a + 0.3, "instead of .* ± 0.25 deg"),
        (lambda a: a[::-1], "does not follow"),
    ],
)
def test_angles_with_a_fault_fail(spoil, message):
    with pytest.raises(FramesLostError, match=message):
        check_angles(spoil(angles()), NOMINAL, 0.25)


def test_a_backward_scan_is_in_order_too():
    check_angles(180 - angles(), (180.0, -0.5, 360), 0.25)
