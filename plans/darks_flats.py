"""Darks (shutter closed) and flats (beam on, sample out), as streams of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

from devices.beamline import Beamline
from devices.camera import FrameSeries

from .recording import record_frames
from .scan_check import check_file
from .settings import ScanSettings
from .streams import DARKS, FLATS


def darks(
    beamline: Beamline, scan: ScanSettings, file: Path, *, watch: Sequence[str] = ()
) -> MsgGenerator[None]:
    """Take darks into `file`: shutter closed, camera as for the projections.

    Part of a run: the caller opens it and stages the camera.
    """
    yield from bps.mv(beamline.shutter, "Close")
    yield from record_frames(
        beamline.camera, _series(scan, file, scan.num_darks), DARKS, watch=watch
    )
    check_file(file, scan.num_darks)


def flats(
    beamline: Beamline, scan: ScanSettings, file: Path, *, watch: Sequence[str] = ()
) -> MsgGenerator[None]:
    """Take flats into `file`: sample out, shutter open; then put the sample back.

    Part of a run: the caller opens it, stages the camera, and puts the sample back
    should this fail.
    """
    x = beamline.sample_stage.x
    yield from bps.mv(x, scan.sample_out_mm)
    yield from bps.mv(beamline.shutter, "Open")
    yield from record_frames(
        beamline.camera, _series(scan, file, scan.num_flats), FLATS, watch=watch
    )
    yield from bps.mv(x, scan.sample_in_mm)
    check_file(file, scan.num_flats)


def _series(scan: ScanSettings, file: Path, number: int) -> FrameSeries:
    return FrameSeries(
        file=file,
        number=number,
        exposure_time_s=scan.exposure_time_s,
        frame_period_s=scan.period_s,
        trigger="Auto",
        duration_s=number * scan.period_s,
    )
