"""Levels of frames, read from the camera's file while it grows.

Reading 26 GB again after a scan would hold the next half-cycle up; while they are
written the frames are still in the file system's cache.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from devices.camera import DATASETS
from devices.errors import WriterError

from .reference_check import FrameLevels

LOOK_PERIOD_S = 0.5
# Enough pixels for a mean to 0.4 % at one count of noise per count of signal.
PIXELS = 65536

logger = logging.getLogger(__name__)


class FrameFollower:
    """Reads each frame of a growing file once, a grid of its pixels.

    Parameters
    ----------
    path : Path
        SWMR file the camera writes.
    number : int
        Frames asked for.
    saturation_counts : int
        A pixel at or above this is saturated.
    """

    def __init__(self, path: Path, number: int, saturation_counts: int) -> None:
        self._path = path
        self._number = number
        self._saturation_counts = saturation_counts
        self._means: list[float] = []
        self._saturated: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._follow, daemon=True, name="frame follower"
        )

    def start(self) -> None:
        """Begin to read; the file is open for writing."""
        self._thread.start()

    def stop(self) -> None:
        """End reading soon; stopping twice does no harm."""
        self._ended.set()

    def close(self) -> None:
        """End reading and let the file go.

        Within one process HDF5 shares what it knows of an open file: while this one
        reads, whoever opens the file again sees as many frames as this one has seen.
        """
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def levels(self) -> FrameLevels:
        """Return the levels of all frames, once the writer has closed the file."""
        self.close()
        try:
            with h5py.File(self._path, "r") as file:
                self._read(_images(file, self._path), following=False)
        except OSError as error:
            raise WriterError(
                f"{self._path} cannot be read back ({error}): look at the writer's"
                " message, then retake"
            ) from error
        return FrameLevels(np.asarray(self._means), np.asarray(self._saturated))

    def _follow(self) -> None:
        while not self._ended.wait(LOOK_PERIOD_S) and len(self._means) < self._number:
            try:
                with h5py.File(self._path, "r", swmr=True) as file:
                    self._follow_open(_images(file, self._path))
            except (OSError, RuntimeError, WriterError) as error:
                # What is missing in the end is read when the file is closed.
                logger.info("%s cannot be followed yet: %s", self._path, error)

    def _follow_open(self, images: Any) -> None:
        while len(self._means) < self._number:
            images.id.refresh()
            self._read(images, following=True)
            if self._ended.wait(LOOK_PERIOD_S):
                return

    def _read(self, images: Any, *, following: bool) -> None:
        ny, nx = images.shape[1:]
        every = max(1, int((ny * nx / PIXELS) ** 0.5))
        for index in range(len(self._means), images.shape[0]):
            frame = np.asarray(images[index])[::every, ::every]
            self._means.append(float(frame.mean(dtype=np.float64)))
            self._saturated.append(float(np.mean(frame >= self._saturation_counts)))
            if following and self._ended.is_set():
                return


def _images(file: h5py.File, path: Path) -> h5py.Dataset:
    images = file.get(DATASETS["image"][0])
    if not isinstance(images, h5py.Dataset):
        raise WriterError(f"{path} has no frames: retake")
    return images
