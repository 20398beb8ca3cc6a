"""The projections of a scan: one turn at constant speed, a frame at each step.

What gives a frame its angle is the scan's ``sync``: triggers at latched positions, or
samples of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

from devices.beamline import Beamline
from devices.rotation import Sweep

from .background import in_background
from .frame_follower import FrameFollower
from .guarding import guarded
from .projection_check import SpoiltFrame, spoilt_projections
from .sampled_frames import sampled
from .scan_guards import ScanGuards
from .settings import FrameSync, ScanSettings
from .timing import ScanTiming
from .triggered_frames import triggered
from .turn import Turn

TAKE: dict[FrameSync, Callable[[Turn], MsgGenerator[None]]] = {
    "position_compare": triggered,
    "encoder_samples": sampled,
}


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
    guards: ScanGuards,
    dark_counts: float,
    watch: Sequence[str],
) -> MsgGenerator[Projections]:
    """Take the projections into `file` and check them.

    Part of a run: the stage stands at the start of the sweep, the sample is in, the
    camera staged; the caller tidies up should this fail.

    Parameters
    ----------
    guards : ScanGuards
        Of the beam, the shutter and the turning stage.
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
    follower = FrameFollower(file, timing.number, scan.saturation_counts)
    try:
        yield from guarded(
            [guards.beam, guards.shutter, guards.turning],
            lambda own: TAKE[scan.sync](
                Turn(beamline, scan, timing, file, follower, [*watch, *own])
            ),
        )
    finally:
        follower.stop()
    spoilt = yield from in_background(
        lambda: spoilt_projections(follower.levels(), dark_counts, scan, file)
    )
    return Projections(guards.beam.seen_ma or (0.0, 0.0), spoilt)
