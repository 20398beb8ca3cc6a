"""The projections of a scan: one turn at constant speed, a frame at each step.

Where a unit compares positions, it triggers the camera at each step and latches the
encoder. Where there is none, the camera runs by its own clock once the stage is at
speed, and each frame's angle is worked out from the encoder's samples.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator, short_uid

from devices.beamline import Beamline
from devices.camera import FrameSeries
from devices.encoder_samples import EncoderSamples
from devices.errors import FramesLostError
from devices.guards import RingCurrentGuard, StallGuard, shutter_guard
from devices.position_compare import PositionCompare, TriggerSeries
from devices.rotation import Rotation, Sweep

from .background import in_background
from .encoder_angles import EncoderAngles, angles_of_frames, check_sampled_angles
from .frame_follower import FrameFollower
from .guarding import guarded
from .projection_check import SpoiltFrame, spoilt_projections
from .recording import record_frames
from .scan_check import check_angles, check_file, time_stamps_s
from .scan_files import angles_file
from .settings import ScanSettings
from .streams import ANGLES, PROJECTIONS, ROTATION_ANGLE_DEG
from .timing import ScanTiming

ANGLE_TOLERANCE_STEPS = 0.5


@dataclass(frozen=True)
class Projections:
    """What the projections met.

    Attributes
    ----------
    ring_current_ma : (float, float)
        Lowest and highest stored current meanwhile.
    spoilt : tuple of SpoiltFrame
        Frames to leave out.
    """

    ring_current_ma: tuple[float, float]
    spoilt: tuple[SpoiltFrame, ...]


def projections(
    beamline: Beamline,
    scan: ScanSettings,
    timing: ScanTiming,
    file: Path,
    *,
    dark_counts: float,
    watch: Sequence[str],
) -> MsgGenerator[Projections]:
    """Take the projections into `file` and check them.

    Part of a run: the stage stands at the start of the sweep, the sample is in, the
    camera staged; the caller tidies up should this fail.

    Parameters
    ----------
    dark_counts : float
        Level of the darks, under every frame.
    watch : sequence of str
        Groups of guards whose failure ends the recording.
    """
    rotation: Any = beamline.rotation
    yield from bps.mv(beamline.shutter, "Open")
    yield from bps.prepare(
        rotation,
        Sweep(
            start_deg=timing.start_deg,
            stop_deg=timing.stop_deg,
            velocity_deg_s=timing.velocity_deg_s,
        ),
        wait=True,
    )
    beam = RingCurrentGuard(beamline.source, scan.ring_current_min_ma)
    follower = FrameFollower(file, timing.number, scan.saturation_counts)

    def record(own: Sequence[str]) -> MsgGenerator[None]:
        take = _triggered if scan.sync == "position_compare" else _sampled
        return take(beamline, scan, timing, file, follower, [*watch, *own])

    try:
        yield from guarded(
            [beam, shutter_guard(beamline.shutter), StallGuard(rotation)], record
        )
    finally:
        follower.stop()
    spoilt = yield from in_background(
        lambda: spoilt_projections(follower.levels(), dark_counts, scan, file)
    )
    return Projections(beam.seen_ma or (0.0, 0.0), spoilt)


def angle_tolerance_deg(scan: ScanSettings) -> float:
    """Return the largest error of a frame's angle that is accepted (deg)."""
    if scan.angle_tolerance_deg is not None:
        return scan.angle_tolerance_deg
    return ANGLE_TOLERANCE_STEPS * scan.step_deg


# --- with a position compare ----------------------------------------------------------


def check_triggers(beamline: Beamline, timing: ScanTiming, file: Path) -> None:
    """Raise unless the beamline's position compare can trigger such a scan.

    Raises
    ------
    ValueError
        When the beamline has none, or it cannot fire at these angles.
    FileExistsError
        When the file it would write its angles to exists.
    """
    _compare_of(beamline).check_series(_triggers(timing, file))


def _compare_of(beamline: Beamline) -> PositionCompare:
    if beamline.position_compare is None:
        raise ValueError(
            "scan.sync is position_compare and the beamline has none: give"
            " beamline.pvs.position_compare, or set scan.sync to encoder_samples"
        )
    return beamline.position_compare


def _triggers(timing: ScanTiming, file: Path) -> TriggerSeries:
    return TriggerSeries(
        start_deg=timing.first_deg,
        step_deg=timing.step_deg,
        number=timing.number,
        duration_s=timing.sweep_s,
        angles_file=angles_file(file),
    )


def _triggered(
    beamline: Beamline,
    scan: ScanSettings,
    timing: ScanTiming,
    file: Path,
    follower: FrameFollower,
    watch: Sequence[str],
) -> MsgGenerator[None]:
    """Let the position compare trigger each frame and latch its angle."""
    compare = _compare_of(beamline)
    unit: Any = compare
    yield from bps.prepare(unit, _triggers(timing, file), wait=True)
    yield from record_frames(
        beamline.camera,
        _series(scan, timing, file, "Ext Only"),
        PROJECTIONS,
        flyers=[compare, beamline.rotation],
        prepared=follower.start,
        watch=watch,
    )
    yield from _save_angles(compare)
    yield from in_background(
        lambda: _check_triggered(beamline, compare, scan, timing, file, follower)
    )


def _check_triggered(
    beamline: Beamline,
    compare: PositionCompare,
    scan: ScanSettings,
    timing: ScanTiming,
    file: Path,
    follower: FrameFollower,
) -> None:
    follower.close()
    triggers = compare.num_triggers()
    frames = beamline.camera.get_index()
    if frames != timing.number or triggers != timing.number:
        raise FramesLostError(
            f"{triggers} triggers gave {frames} frames; {timing.number} were asked"
            " for: retake, and lengthen frame_period_s if triggers were too fast"
        )
    check_file(file, timing.number)
    check_angles(
        compare.angles_deg(),
        (timing.first_deg, timing.step_deg, timing.number),
        angle_tolerance_deg(scan),
    )


# --- with samples of the encoder ------------------------------------------------------


def _sampled(
    beamline: Beamline,
    scan: ScanSettings,
    timing: ScanTiming,
    file: Path,
    follower: FrameFollower,
    watch: Sequence[str],
) -> MsgGenerator[None]:
    """Start the camera at speed and work the angles out from the encoder's samples."""
    rotation = beamline.rotation
    samples = EncoderSamples(rotation.user_readback)
    started_s: list[float] = []

    def at_speed() -> MsgGenerator[None]:
        passing: Any = _Passing(rotation, timing)
        group = short_uid("at_speed")
        yield from bps.trigger(passing, group=group)
        yield from bps.wait(group, watch=watch)
        # No frame can be older than the sample that let the camera start.
        started_s.append(samples.last_time_s())

    samples.start()
    try:
        yield from record_frames(
            beamline.camera,
            _series(scan, timing, file, "Auto"),
            PROJECTIONS,
            flyers=[rotation],
            run_up=at_speed,
            prepared=follower.start,
            watch=watch,
        )
    finally:
        samples.stop()
    angles = yield from in_background(
        lambda: _sampled_angles(scan, timing, file, follower, samples, started_s[0])
    )
    yield from _save_angles(_SampledAngles(angles, samples))


def _sampled_angles(
    scan: ScanSettings,
    timing: ScanTiming,
    file: Path,
    follower: FrameFollower,
    samples: EncoderSamples,
    started_s: float,
) -> EncoderAngles:
    follower.close()
    check_file(file, timing.number)
    tolerance_deg = angle_tolerance_deg(scan)
    times_s, positions_deg = samples.arrays()
    angles = angles_of_frames(
        time_stamps_s(file),
        times_s,
        positions_deg,
        exposure_time_s=scan.exposure_time_s,
        started_s=started_s,
        tolerance_deg=tolerance_deg,
        latest_deg=timing.latest_deg,
    )
    check_sampled_angles(
        angles.angles_deg,
        (timing.first_deg, timing.step_deg, timing.number),
        tolerance_deg=tolerance_deg,
    )
    return angles


class _Passing:
    """Done when the stage passes the angle of frame 0, at speed."""

    parent = None
    name = "run_up"

    def __init__(self, rotation: Rotation, timing: ScanTiming) -> None:
        self._rotation = rotation
        self._timing = timing

    def trigger(self) -> Any:
        """Begin to wait."""
        return self._rotation.passes(
            self._timing.first_deg, self._timing.step_deg, self._timing.sweep_s
        )


class _SampledAngles:
    """The event of stream ``angles``: the angles, their error, the samples."""

    parent = None
    name = "encoder_samples"

    def __init__(self, angles: EncoderAngles, samples: EncoderSamples) -> None:
        times_s, positions_deg = samples.arrays()
        self._values: dict[str, tuple[Any, str]] = {
            ROTATION_ANGLE_DEG: (angles.angles_deg, "deg"),
            "rotation_angle_error_deg": (angles.error_deg, "deg"),
            "encoder_gap_max_s": (angles.longest_gap_s, "s"),
            "encoder_time_s": (times_s, "s"),
            "encoder_angle_deg": (positions_deg, "deg"),
        }

    def read(self) -> Any:
        """Return the readings."""
        now_s = time.time()
        return OrderedDict(
            (key, {"value": _plain(value), "timestamp": now_s})
            for key, (value, _units) in self._values.items()
        )

    def describe(self) -> Any:
        """Describe the readings: float64."""
        described: Any = OrderedDict()
        for key, (value, units) in self._values.items():
            many = not isinstance(value, float)
            described[key] = {
                "source": "encoder samples",
                "dtype": "array" if many else "number",
                "dtype_numpy": "<f8",
                "shape": [len(value)] if many else [],
                "units": units,
                "precision": 5,
            }
        return described

    def read_configuration(self) -> Any:
        """Return nothing."""
        return OrderedDict()

    def describe_configuration(self) -> Any:
        """Describe nothing."""
        return OrderedDict()


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


# --- both -----------------------------------------------------------------------------


def _save_angles(source: Any) -> MsgGenerator[None]:
    yield from bps.create(name=ANGLES)
    yield from bps.read(source)
    yield from bps.save()


def _series(scan: ScanSettings, timing: ScanTiming, file: Path, trigger: Any) -> Any:
    return FrameSeries(
        file=file,
        number=timing.number,
        exposure_time_s=scan.exposure_time_s,
        frame_period_s=scan.period_s,
        trigger=trigger,
        duration_s=timing.sweep_s,
    )
