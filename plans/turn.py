"""One turn of the sample with a frame at each step, as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

from devices.beamline import Beamline
from devices.camera import FrameSeries, Trigger

from .frame_follower import FrameFollower
from .settings import ScanSettings
from .streams import ANGLES
from .timing import ScanTiming

ANGLE_TOLERANCE_STEPS = 0.5


@dataclass(frozen=True)
class Turn:
    """What a way of taking the projections needs to know.

    Attributes
    ----------
    beamline, scan, timing
        Devices, settings and how the stage turns.
    file : Path
        Of the frames.
    follower : FrameFollower
        Reads the frames as they come; closed before the file is checked.
    watch : sequence of str
        Groups of guards whose failure ends the recording.
    """

    beamline: Beamline
    scan: ScanSettings
    timing: ScanTiming
    file: Path
    follower: FrameFollower
    watch: Sequence[str]

    @property
    def nominal_deg(self) -> tuple[float, float, int]:
        """Angle of frame 0, step and number asked for."""
        return self.timing.first_deg, self.timing.step_deg, self.timing.number

    @property
    def angle_tolerance_deg(self) -> float:
        """Largest error of a frame's angle that is accepted (deg)."""
        if self.scan.angle_tolerance_deg is not None:
            return self.scan.angle_tolerance_deg
        return ANGLE_TOLERANCE_STEPS * abs(self.timing.step_deg)

    def series(self, trigger: Trigger) -> FrameSeries:
        """Return the frames as the camera is asked for them."""
        return FrameSeries(
            file=self.file,
            number=self.timing.number,
            exposure_time_s=self.scan.exposure_time_s,
            frame_period_s=self.scan.period_s,
            trigger=trigger,
            duration_s=self.timing.sweep_s,
        )


def save_angles(source: Any) -> MsgGenerator[None]:
    """Save what `source` reads as the event of stream ``angles``."""
    yield from bps.create(name=ANGLES)
    yield from bps.read(source)
    yield from bps.save()
