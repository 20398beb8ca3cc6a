"""Projections where a unit compares positions: it triggers each frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator

from devices.beamline import Beamline
from devices.errors import FramesLostError
from devices.position_compare import PositionCompare, TriggerSeries

from .background import in_background
from .recording import record_frames
from .scan_check import check_angles, check_file
from .scan_files import angles_file
from .streams import PROJECTIONS
from .timing import ScanTiming
from .turn import Turn, save_angles


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


def triggered(turn: Turn) -> MsgGenerator[None]:
    """Let the position compare trigger each frame and latch its angle."""
    compare: Any = _compare_of(turn.beamline)
    yield from bps.prepare(compare, _triggers(turn.timing, turn.file), wait=True)
    yield from record_frames(
        turn.beamline.camera,
        turn.series("Ext Only"),
        PROJECTIONS,
        flyers=[compare, turn.beamline.rotation],
        prepared=turn.follower.start,
        watch=turn.watch,
    )
    yield from save_angles(compare)
    yield from in_background(lambda: _check(turn, compare))


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


def _check(turn: Turn, compare: PositionCompare) -> None:
    turn.follower.close()
    number = turn.timing.number
    triggers, frames = compare.num_triggers(), turn.beamline.camera.get_index()
    if frames != number or triggers != number:
        raise FramesLostError(
            f"{triggers} triggers gave {frames} frames; {number} were asked for:"
            " retake, and lengthen frame_period_s if triggers were too fast"
        )
    check_file(turn.file, number)
    check_angles(compare.angles_deg(), turn.nominal_deg, turn.angle_tolerance_deg)
