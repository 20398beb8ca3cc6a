"""Projections where nothing compares positions: the encoder's samples give the angles.

The camera runs by its own clock, started once the stage is at speed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator, short_uid

from devices.encoder_samples import EncoderSamples
from devices.waiting import SignalStatus

from .background import in_background
from .encoder_angles import EncoderAngles, angles_of_frames, check_sampled_angles
from .recording import record_frames
from .scan_check import check_file, time_stamps_s
from .streams import PROJECTIONS, ROTATION_ANGLE_DEG
from .turn import Turn, save_angles


def sampled(turn: Turn) -> MsgGenerator[None]:
    """Start the camera at speed and work the angles out from the encoder's samples."""
    rotation = turn.beamline.rotation
    samples = EncoderSamples(rotation.user_readback)
    started_s: list[float] = []
    passing: Any = _Passing(turn)

    def at_speed() -> MsgGenerator[None]:
        group = short_uid("at_speed")
        yield from bps.trigger(passing, group=group)
        yield from bps.wait(group, watch=turn.watch)
        # No frame can be older than the sample that let the camera start.
        started_s.append(samples.last_time_s())

    samples.start()
    try:
        yield from record_frames(
            turn.beamline.camera,
            turn.series("Auto"),
            PROJECTIONS,
            flyers=[rotation],
            run_up=at_speed,
            prepared=turn.follower.start,
            watch=turn.watch,
        )
    finally:
        samples.stop()
        passing.release()
    angles = yield from in_background(lambda: _angles(turn, samples, started_s[0]))
    sampled_angles = _SampledAngles(angles, samples)
    yield from save_angles(sampled_angles)
    # The RunEngine keeps the object until the experiment ends.
    sampled_angles.clear()


def _angles(turn: Turn, samples: EncoderSamples, started_s: float) -> EncoderAngles:
    turn.follower.close()
    check_file(turn.file, turn.timing.number)
    times_s, positions_deg = samples.arrays()
    angles = angles_of_frames(
        time_stamps_s(turn.file),
        times_s,
        positions_deg,
        exposure_time_s=turn.scan.exposure_time_s,
        started_s=started_s,
        tolerance_deg=turn.angle_tolerance_deg,
        latest_deg=turn.timing.latest_deg,
    )
    check_sampled_angles(
        angles.angles_deg, turn.nominal_deg, tolerance_deg=turn.angle_tolerance_deg
    )
    return angles


class _Passing:
    """Done when the stage passes the angle of frame 0, at speed."""

    parent = None
    name = "run_up"

    def __init__(self, turn: Turn) -> None:
        self._rotation = turn.beamline.rotation
        self._timing = turn.timing
        self._status: SignalStatus | None = None

    def trigger(self) -> SignalStatus:
        """Begin to wait."""
        timing = self._timing
        self._status = self._rotation.passes(
            timing.first_deg, timing.step_deg, timing.sweep_s
        )
        return self._status

    def release(self) -> None:
        """End the wait, whatever the stage does.

        The RunEngine throws the failure of a status it knows into whatever the plan
        does then: a wait that a guard has cut short must not fail minutes later.
        """
        if self._status is not None:
            self._status.finish()
            self._status = None


class _SampledAngles:
    """The event of stream ``angles``: the angles, their error, the samples."""

    parent = None
    name = "encoder_samples"

    def __init__(self, angles: EncoderAngles, samples: EncoderSamples) -> None:
        times_s, positions_deg = samples.arrays()
        self._values: dict[str, tuple[Any, str]] = {
            ROTATION_ANGLE_DEG: (angles.angles_deg.tolist(), "deg"),
            "rotation_angle_error_deg": (angles.error_deg, "deg"),
            "encoder_gap_max_s": (angles.longest_gap_s, "s"),
            "encoder_time_s": (times_s.tolist(), "s"),
            "encoder_angle_deg": (positions_deg.tolist(), "deg"),
        }

    def clear(self) -> None:
        """Forget all readings."""
        self._values.clear()

    def read(self) -> Any:
        """Return the readings."""
        now_s = time.time()
        return OrderedDict(
            (key, {"value": value, "timestamp": now_s})
            for key, (value, _units) in self._values.items()
        )

    def describe(self) -> Any:
        """Describe the readings: float64."""
        described: Any = OrderedDict()
        for key, (value, units) in self._values.items():
            many = isinstance(value, list)
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
