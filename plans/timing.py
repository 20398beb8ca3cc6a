"""Arithmetic of a continuous-rotation scan: pure, no devices.

```
 start_deg                                                 stop_deg
    |- ramp -|- margin -|= frame 0 =| ... |= frame n-1 =|- margin -|- ramp -|
                        ^ first_deg, trigger 0          ^ first_deg + range
```

Every frame lies between the margins, where the stage turns at constant speed.
"""

from dataclasses import dataclass

from .settings import ScanSettings

BYTES_PER_PIXEL = 2


@dataclass(frozen=True)
class ScanTiming:
    """How the stage turns and the camera is triggered.

    Attributes
    ----------
    start_deg, stop_deg : float
        Where the stage starts and stops, ramps and margins included.
    velocity_deg_s : float
        Constant speed, positive.
    first_deg, step_deg, number : float, float, int
        Angle at the start of each exposure: ``first_deg + k * step_deg``.
    frames_s : float
        From the first trigger to the end of the last period.
    sweep_s : float
        From start to stop.
    latest_deg : float
        Where the stage begins to slow down; every exposure has ended before.
    blur_deg : float
        Angle turned during one exposure.
    """

    start_deg: float
    stop_deg: float
    velocity_deg_s: float
    first_deg: float
    step_deg: float
    number: int
    frames_s: float
    sweep_s: float
    latest_deg: float
    blur_deg: float


def scan_timing(scan: ScanSettings, acceleration_s: float) -> ScanTiming:
    """Return the sweep that takes the projections of `scan`.

    Parameters
    ----------
    scan : ScanSettings
        Range, number and times.
    acceleration_s : float
        Time of one ramp (ACCL of the motor record), linear in speed.
    """
    if acceleration_s < 0:
        raise ValueError(f"acceleration_s is {acceleration_s:g} s; it cannot be < 0")
    velocity_deg_s = scan.step_deg / scan.period_s
    run_up_deg = 0.5 * velocity_deg_s * acceleration_s + scan.run_up_margin_deg
    frames_s = scan.num_projections * scan.period_s
    margin_s = scan.run_up_margin_deg / velocity_deg_s
    # A camera that is not triggered starts late: the stage goes on at speed for it.
    late_s = scan.camera_start_max_s if scan.sync == "encoder_samples" else 0.0
    last_deg = scan.start_angle_deg + scan.range_deg + velocity_deg_s * late_s
    return ScanTiming(
        start_deg=scan.start_angle_deg - run_up_deg,
        stop_deg=last_deg + run_up_deg,
        velocity_deg_s=velocity_deg_s,
        first_deg=scan.start_angle_deg,
        step_deg=scan.step_deg,
        number=scan.num_projections,
        frames_s=frames_s,
        sweep_s=frames_s + late_s + 2 * (margin_s + acceleration_s),
        latest_deg=last_deg + scan.run_up_margin_deg,
        blur_deg=velocity_deg_s * scan.exposure_time_s,
    )


def frames_in(duration_s: float, period_s: float) -> int:
    """Return the whole number of frames in a time.

    Raises
    ------
    ValueError
        When the time is not a whole number of periods to within 1e-6 of one.

    Examples
    --------
    >>> frames_in(0.3, 0.1)
    3
    """
    if period_s <= 0:
        raise ValueError(f"period_s is {period_s:g} s; it must be positive")
    number = round(duration_s / period_s)
    if abs(duration_s / period_s - number) > 1e-6 * max(number, 1):
        raise ValueError(
            f"{duration_s:g} s is {duration_s / period_s:.6g} periods of"
            f" {period_s:g} s; ask for a whole number"
        )
    return number


def scan_bytes(scan: ScanSettings, frame_shape: tuple[int, int]) -> int:
    """Return the size of one scan's frames on disk (bytes), (y, x) of a frame."""
    ny, nx = frame_shape
    groups = 2 if scan.flats == "both" else 1
    frames = scan.num_projections + scan.num_darks + groups * scan.num_flats
    return frames * ny * nx * BYTES_PER_PIXEL


def scan_duration_s(
    scan: ScanSettings, acceleration_s: float, overhead_s: float = 10.0
) -> float:
    """Return about how long one scan takes, references and return included (s).

    `overhead_s` stands for the shutter, the sample stage and the camera's files.
    """
    timing = scan_timing(scan, acceleration_s)
    groups = 2 if scan.flats == "both" else 1
    references_s = (scan.num_darks + groups * scan.num_flats) * scan.period_s
    way_deg = timing.stop_deg - timing.start_deg
    return_s = way_deg / scan.return_velocity_deg_s + 2 * acceleration_s
    return timing.sweep_s + references_s + return_s + overhead_s
