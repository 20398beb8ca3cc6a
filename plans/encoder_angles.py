"""The angle of each frame from time-stamped encoder samples: pure, no devices.

```
 position   o   o   o   o   o        samples of the encoder, stamped by its IOC
              |  |  |  |  |          frames, stamped by the camera's
```

Between two samples the stage turned evenly, or nearly so. How nearly is read from the
samples themselves: the error of an angle is at most

    longest gap x (fastest - slowest speed) / 4  +  worst miss

where the speeds are those between neighbouring samples (the largest error of a straight
line between two exact points of a curve whose slope stays within two bounds), and the
worst miss is how far a sample lies from the line through its two neighbours, which is
what late time stamps and rounded positions do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.errors import FramesLostError

# Fewer tell nothing about how evenly the stage turned.
SAMPLES_MIN = 8
EARLIEST_FRAME_TOLERANCE_S = 1e-3


@dataclass(frozen=True)
class EncoderAngles:
    """Angles of frames and how far they may be off.

    Attributes
    ----------
    angles_deg : ndarray of float64, (frame,)
        At the start of each exposure.
    error_deg : float
        Bound of the error of any of them, but for one offset common to all: a constant
        lag of the encoder's time stamps turns the whole tomogram by lag x speed.
    longest_gap_s : float
        Between two samples around the frames.
    """

    angles_deg: NDArray[np.float64]
    error_deg: float
    longest_gap_s: float


def angles_of_frames(
    frames_s: NDArray[np.float64],
    times_s: NDArray[np.float64],
    positions_deg: NDArray[np.float64],
    *,
    exposure_time_s: float,
    started_s: float,
    tolerance_deg: float,
    latest_deg: float,
) -> EncoderAngles:
    """Return the angle at which the exposure of each frame began.

    Parameters
    ----------
    frames_s : ndarray of float64, (frame,)
        Start of each exposure, rising (s, camera's clock).
    times_s, positions_deg : ndarray of float64, (sample,)
        Encoder samples in the order they came (s, motor's clock; deg).
    exposure_time_s : float
        Of a frame.
    started_s : float
        Motor's clock when the camera was told to start: no frame is older.
    tolerance_deg : float
        Largest error that is accepted.
    latest_deg : float
        Where the stage begins to slow down: the last exposure has ended before.

    Raises
    ------
    FramesLostError
        When the camera started too late, the two clocks disagree, samples are too few
        or too far apart, or the stage turned too unevenly for them to tell an angle
        to the tolerance.
    """
    times_s, positions_deg = _in_order(times_s, positions_deg)
    first_s, last_s = float(frames_s[0]), float(frames_s[-1]) + exposure_time_s
    if first_s < started_s - EARLIEST_FRAME_TOLERANCE_S:
        raise FramesLostError(
            f"frame 0 is stamped {started_s - first_s:.3f} s before the camera was told"
            " to start: the clocks of the camera's and the motor's IOC differ;"
            " synchronise them, then retake"
        )
    if times_s.size == 0 or first_s < times_s[0] or last_s > times_s[-1]:
        covered = (
            f"{times_s[0] - first_s:+.3f} to {times_s[-1] - first_s:+.3f} s"
            if times_s.size
            else "nothing"
        )
        raise FramesLostError(
            f"frames 0 to {frames_s.size - 1} took 0 to {last_s - first_s:.3f} s, but"
            f" the encoder's samples cover {covered}: the clocks of the camera's and"
            " the motor's IOC differ, samples were lost, or the camera started after"
            " the turn: synchronise the clocks, raise camera_start_max_s, then retake"
        )
    begin = int(np.searchsorted(times_s, first_s, side="right")) - 1
    end = int(np.searchsorted(times_s, last_s, side="left"))
    used_s, used_deg = times_s[begin : end + 1], positions_deg[begin : end + 1]
    if used_s.size < SAMPLES_MIN:
        raise FramesLostError(
            f"only {used_s.size} encoder samples came during the frames, too few for an"
            f" angle of each; {SAMPLES_MIN} are needed: let the motor's IOC post its"
            " readback more often, then retake"
        )
    end_deg = float(np.interp(last_s, used_s, used_deg))
    over_deg = (end_deg - latest_deg) * np.sign(used_deg[-1] - used_deg[0])
    if over_deg > 0:
        raise FramesLostError(
            f"the last frame ends {over_deg:.3g} deg after the stage began to slow"
            " down: the camera started too late; raise camera_start_max_s, then retake"
        )
    error_deg, longest_s = _error_bound(used_s, used_deg)
    if error_deg > tolerance_deg:
        raise FramesLostError(
            f"the angles of frames are known to {error_deg:.3g} deg only, allowed is"
            f" {tolerance_deg:.3g} deg: the longest gap between encoder samples is"
            f" {longest_s:.3g} s, and the speed between them"
            f" {_speeds(used_s, used_deg)} deg/s; let the motor's IOC post its readback"
            " more often, or turn more evenly, then retake"
        )
    angles_deg = np.interp(frames_s, used_s, used_deg)
    return EncoderAngles(angles_deg, error_deg, longest_s)


def _in_order(
    times_s: NDArray[np.float64], positions_deg: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the samples without repeats; raise if their clock went back."""
    steps_s = np.diff(times_s)
    if np.any(steps_s < 0):
        sample = int(np.argmax(steps_s < 0)) + 1
        raise FramesLostError(
            f"encoder sample {sample} is stamped {-steps_s[sample - 1]:.3g} s before"
            " the one that came before it: the clock of the motor's IOC was set; retake"
        )
    new = np.append(True, steps_s > 0)[: times_s.size]
    return times_s[new], positions_deg[new]


def _error_bound(
    times_s: NDArray[np.float64], positions_deg: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the bound of the module's first lines and the longest gap."""
    gaps_s = np.diff(times_s)
    speeds_deg_s = np.diff(positions_deg) / gaps_s
    longest_s = float(gaps_s.max())
    uneven_deg = longest_s * float(np.ptp(speeds_deg_s)) / 4
    share = gaps_s[:-1] / (gaps_s[:-1] + gaps_s[1:])
    between_deg = positions_deg[:-2] * (1 - share) + positions_deg[2:] * share
    worst_miss_deg = float(np.abs(positions_deg[1:-1] - between_deg).max())
    return uneven_deg + worst_miss_deg, longest_s


def _speeds(times_s: NDArray[np.float64], positions_deg: NDArray[np.float64]) -> str:
    speeds_deg_s = np.diff(positions_deg) / np.diff(times_s)
    return f"{speeds_deg_s.min():.4g} to {speeds_deg_s.max():.4g}"


def check_sampled_angles(
    angles_deg: NDArray[np.float64],
    nominal_deg: tuple[float, float, int],
    *,
    tolerance_deg: float,
) -> None:
    """Raise unless the frames go round evenly and cover the range.

    They may begin late by what the camera needs to start, and a camera whose period is
    not quite the one asked for spreads them a little: they are where they are said to
    be, but they must cover the range.

    Parameters
    ----------
    angles_deg : ndarray of float64, (frame,)
        At the start of each exposure.
    nominal_deg : (float, float, int)
        Start, step and number asked for.
    tolerance_deg : float
        Largest error of a step from frame to frame.
    """
    start_deg, step_deg, number = nominal_deg
    sign = np.sign(step_deg)
    if angles_deg.size != number:
        raise FramesLostError(
            f"{angles_deg.size} angles were found for {number} frames: retake"
        )
    steps_deg = np.diff(angles_deg)
    worst = int(np.argmax(np.abs(steps_deg - step_deg)))
    if abs(steps_deg[worst] - step_deg) > tolerance_deg:
        raise FramesLostError(
            f"frame {worst + 1} was taken {steps_deg[worst]:.5g} deg after frame"
            f" {worst} instead of {step_deg:.5g} ± {tolerance_deg:.3g} deg: the stage"
            " did not turn evenly or the camera paused; retake"
        )
    covered_deg = abs(angles_deg[-1] - angles_deg[0]) + abs(step_deg)
    short_deg = number * abs(step_deg) - covered_deg
    if short_deg > abs(step_deg):
        raise FramesLostError(
            f"the frames cover {covered_deg:.5g} of {number * abs(step_deg):.5g} deg:"
            " the camera's period is shorter than frame_period_s; check it, then retake"
        )
    if sign * (angles_deg[0] - start_deg) < -tolerance_deg:
        raise FramesLostError(
            f"frame 0 was taken at {angles_deg[0]:.5g} deg, before {start_deg:.5g} deg"
            " where the camera was started: the clocks of the camera's and the motor's"
            " IOC differ; synchronise them, then retake"
        )
