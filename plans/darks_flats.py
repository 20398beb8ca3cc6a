"""Darks (shutter closed) and flats (beam on, sample out), as streams of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator, short_uid

from devices.beamline import Beamline
from devices.camera import FrameSeries

from .background import in_background
from .guarding import guarded
from .recording import record_frames
from .reference_check import bad_darks, bad_flats, frame_levels
from .references import ReferenceGroup, camera_key
from .scan_check import check_file
from .scan_guards import ScanGuards
from .settings import ScanSettings
from .streams import DARKS, FLATS


def darks(
    beamline: Beamline,
    scan: ScanSettings,
    scan_number: int,
    file: Path,
    *,
    watch: Sequence[str] = (),
) -> MsgGenerator[ReferenceGroup]:
    """Take darks into `file`: shutter closed, camera as for the projections.

    Part of a run: the caller opens it and stages the camera.
    """
    yield from bps.mv(beamline.shutter, "Close")
    series = _series(scan, file, scan.num_darks)
    yield from record_frames(beamline.camera, series, DARKS, watch=watch)

    def check() -> tuple[list[int], float]:
        check_file(file, scan.num_darks)
        levels = frame_levels(file, scan.saturation_counts)
        return bad_darks(levels, scan, file), levels.level_counts

    bad, level_counts = yield from in_background(check)
    return _group(
        beamline,
        scan,
        scan_number,
        series,
        bad,
        level_counts,
        _ring_current_ma(beamline),
    )


def flats(
    beamline: Beamline,
    scan: ScanSettings,
    scan_number: int,
    file: Path,
    *,
    guards: ScanGuards,
    dark_counts: float,
    stream: str = FLATS,
    watch: Sequence[str] = (),
) -> MsgGenerator[ReferenceGroup]:
    """Take flats into `file`: sample out, shutter open; then put the sample back.

    Part of a run: the caller opens it, stages the camera, and puts the sample back
    should this fail.

    Parameters
    ----------
    guards : ScanGuards
        Of the beam and the shutter.
    dark_counts : float
        Level of the darks they must lie above.
    stream : str
        Name of the stream, new in this run.
    """
    x: Any = beamline.sample_stage.x
    series = _series(scan, file, scan.num_flats)
    yield from bps.mv(x, scan.sample_out_mm)
    yield from bps.mv(beamline.shutter, "Open")
    yield from guarded(
        [guards.beam, guards.shutter],
        lambda own: record_frames(
            beamline.camera, series, stream, watch=[*watch, *own]
        ),
    )
    # The check runs while the sample moves back.
    back = short_uid("sample_in")
    yield from bps.abs_set(x, scan.sample_in_mm, group=back)

    def check() -> tuple[list[int], float]:
        check_file(file, scan.num_flats)
        levels = frame_levels(file, scan.saturation_counts)
        return bad_flats(levels, dark_counts, scan, file), levels.level_counts

    bad, level_counts = yield from in_background(check)
    yield from bps.wait(group=back)
    low_ma, high_ma = guards.beam.seen_ma or (0.0, 0.0)
    return _group(
        beamline, scan, scan_number, series, bad, level_counts, (low_ma + high_ma) / 2
    )


def _ring_current_ma(beamline: Beamline) -> float:
    current: Any = beamline.source.ring_current.get()
    return float(current)


def _group(
    beamline: Beamline,
    scan: ScanSettings,
    scan_number: int,
    series: FrameSeries,
    bad: list[int],
    level_counts: float,
    ring_current_ma: float,
) -> ReferenceGroup:
    return ReferenceGroup(
        file=series.file,
        frames=series.number,
        bad_frames=tuple(bad),
        level_counts=level_counts,
        scan_number=scan_number,
        time_s=beamline.source.time_s(),
        ring_current_ma=ring_current_ma,
        camera=camera_key(scan),
    )


def _series(scan: ScanSettings, file: Path, number: int) -> FrameSeries:
    return FrameSeries(
        file=file,
        number=number,
        exposure_time_s=scan.exposure_time_s,
        frame_period_s=scan.period_s,
        trigger="Auto",
        duration_s=number * scan.period_s,
    )
