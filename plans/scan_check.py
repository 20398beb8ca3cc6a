"""Whether a scan may be called good: pure checks on files and arrays."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from devices.camera import DATASETS
from devices.errors import FramesLostError, WriterError


def check_file(path: Path, number: int) -> None:
    """Raise unless a camera's file is closed, readable and complete.

    Parameters
    ----------
    path : Path
        File the writer has closed.
    number : int
        Frames asked for.

    Raises
    ------
    WriterError
        When the file cannot be opened, or a dataset is missing.
    FramesLostError
        When frames are missing, their numbers have gaps or their times go back.
    """
    try:
        with h5py.File(path, "r") as file:
            image = _dataset(file, path, DATASETS["image"][0])
            num_frames = int(image.shape[0])
            unique_ids = _dataset(file, path, DATASETS["unique_id"][0])[()]
            times_s = _dataset(file, path, DATASETS["timestamp"][0])[()]
    except OSError as error:
        raise WriterError(
            f"{path} cannot be read back ({error}): the writer did not close it;"
            " look at its message, then retake"
        ) from error
    for what, found in (
        ("frames", num_frames),
        ("frame numbers", len(unique_ids)),
        ("time stamps", len(times_s)),
    ):
        if found != number:
            raise FramesLostError(
                f"{path} holds {found} {what}; {number} were asked for: retake"
            )
    check_unique_ids(unique_ids, path)
    steps_s = np.diff(times_s)
    if np.any(steps_s <= 0):
        frame = int(np.argmax(steps_s <= 0)) + 1
        raise FramesLostError(
            f"{path}: frame {frame} is not later than the one before"
            f" ({steps_s[frame - 1]:g} s): retake"
        )


def time_stamps_s(path: Path) -> NDArray[np.float64]:
    """Return when the exposure of each frame began (s, Unix epoch, camera's clock)."""
    with h5py.File(path, "r") as file:
        return np.asarray(_dataset(file, path, DATASETS["timestamp"][0])[()])


def check_unique_ids(unique_ids: NDArray[np.integer], path: Path) -> None:
    """Raise if the camera's frame counter skips or repeats a number."""
    steps = np.diff(unique_ids.astype(np.int64))
    if np.any(steps != 1):
        frame = int(np.argmax(steps != 1)) + 1
        lost = int(np.sum(np.maximum(steps - 1, 0)))
        raise FramesLostError(
            f"{path}: frame {frame} has number {int(unique_ids[frame])} after"
            f" {int(unique_ids[frame - 1])}; {lost} frame(s) lost before they were"
            " written: retake"
        )


def check_angles(
    angles_deg: NDArray[np.float64],
    nominal_deg: tuple[float, float, int],
    tolerance_deg: float,
) -> None:
    """Raise unless there is one angle per frame, in order and where asked.

    Parameters
    ----------
    angles_deg : ndarray of float64, (frame,)
        As latched at the start of each exposure.
    nominal_deg : (float, float, int)
        Start, step and number asked for.
    tolerance_deg : float
        Largest error of an angle.
    """
    start_deg, step_deg, number = nominal_deg
    if angles_deg.size != number:
        raise FramesLostError(
            f"{angles_deg.size} angles were latched for {number} frames: retake"
        )
    steps_deg = np.diff(angles_deg) * np.sign(step_deg)
    if np.any(~(steps_deg > 0)):
        frame = int(np.argmax(~(steps_deg > 0))) + 1
        raise FramesLostError(
            f"the angle of frame {frame} ({angles_deg[frame]:g} deg) does not follow"
            f" that of frame {frame - 1} ({angles_deg[frame - 1]:g} deg): retake"
        )
    error_deg = np.abs(angles_deg - (start_deg + step_deg * np.arange(number)))
    worst = int(np.argmax(error_deg))
    if error_deg[worst] > tolerance_deg:
        raise FramesLostError(
            f"frame {worst} was taken at {angles_deg[worst]:.5g} deg instead of"
            f" {start_deg + step_deg * worst:.5g} ± {tolerance_deg:.3g} deg: check the"
            " encoder and the position compare, then retake"
        )


def _dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise WriterError(
            f"{path} has no dataset {name}: load the writer's layout that stores"
            " frame numbers and time stamps"
        )
    return dataset
