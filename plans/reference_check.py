"""Whether darks and flats can normalise a scan: pure checks on the camera's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from devices.camera import DATASETS
from devices.errors import FramesLostError

from .settings import ScanSettings

# A frame whose mean leaves the group's median by more than this is spoilt.
FLAT_SPREAD_FRAC = 0.05
DARK_SPREAD_FRAC = 0.05
DARK_SPREAD_COUNTS = 5.0


@dataclass(frozen=True)
class FrameLevels:
    """Levels of a group of frames.

    Attributes
    ----------
    mean_counts : ndarray of float64, (frame,)
    saturated_frac : ndarray of float64, (frame,)
        Part of the pixels at or above saturation.
    """

    mean_counts: NDArray[np.float64]
    saturated_frac: NDArray[np.float64]

    @property
    def level_counts(self) -> float:
        """Median of the frames' means."""
        return float(np.median(self.mean_counts))


def frame_levels(path: Path, saturation_counts: int) -> FrameLevels:
    """Read a camera's file and return the level of each frame."""
    with h5py.File(path, "r") as file:
        image = file[DATASETS["image"][0]]
        if not isinstance(image, h5py.Dataset):
            raise FramesLostError(f"{path} has no frames: retake")
        means, saturated = [], []
        for index in range(image.shape[0]):
            frame = np.asarray(image[index])
            means.append(frame.mean(dtype=np.float64))
            saturated.append(np.mean(frame >= saturation_counts))
    return FrameLevels(np.asarray(means), np.asarray(saturated))


def bad_darks(levels: FrameLevels, scan: ScanSettings, path: Path) -> list[int]:
    """Return the indices of spoilt darks.

    Raises
    ------
    FramesLostError
        When more frames are spoilt than may be left out.
    """
    spread = np.abs(levels.mean_counts - levels.level_counts)
    allowed = max(DARK_SPREAD_COUNTS, DARK_SPREAD_FRAC * levels.level_counts)
    bad = np.flatnonzero(spread > allowed)
    return _few_enough(bad, "darks", levels, scan, path)


def bad_flats(
    levels: FrameLevels, dark_counts: float, scan: ScanSettings, path: Path
) -> list[int]:
    """Return the indices of spoilt flats, given the level of the darks.

    Raises
    ------
    FramesLostError
        When the flats are no brighter than the darks, saturated, or when more
        frames are spoilt than may be left out.
    """
    signal = levels.mean_counts - dark_counts
    level = float(np.median(signal))
    if level < scan.flat_signal_min_counts:
        raise FramesLostError(
            f"{path}: the flats lie {level:.1f} counts above the darks, less than"
            f" {scan.flat_signal_min_counts:g}: is the shutter open for flats, closed"
            " for darks, the beam on, the exposure long enough?"
        )
    saturated = float(np.median(levels.saturated_frac))
    if saturated > scan.saturated_frac_max:
        raise FramesLostError(
            f"{path}: {saturated:.2%} of a flat's pixels reach"
            f" {scan.saturation_counts} counts, more than"
            f" {scan.saturated_frac_max:.2%}: shorten exposure_time_s or add a filter"
        )
    bad = np.flatnonzero(
        (np.abs(signal - level) > FLAT_SPREAD_FRAC * level)
        | (levels.saturated_frac > scan.saturated_frac_max)
    )
    return _few_enough(bad, "flats", levels, scan, path)


def _few_enough(
    bad: NDArray[np.intp],
    what: str,
    levels: FrameLevels,
    scan: ScanSettings,
    path: Path,
) -> list[int]:
    if bad.size > scan.reference_frames_lost_max or bad.size == len(levels.mean_counts):
        means = ", ".join(f"{levels.mean_counts[k]:.0f}" for k in bad[:5])
        raise FramesLostError(
            f"{path}: {bad.size} of {len(levels.mean_counts)} {what} leave the median"
            f" of {levels.level_counts:.0f} counts ({means}); at most"
            f" {scan.reference_frames_lost_max} may be left out: beam or shutter were"
            " not steady, retake"
        )
    return [int(k) for k in bad]
