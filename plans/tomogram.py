"""One tomogram: darks, flats, projections by continuous rotation. One run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.utils import MsgGenerator, short_uid

from devices.beamline import Beamline
from devices.camera import FrameSeries
from devices.errors import FramesLostError
from devices.rotation import Sweep
from devices.zebra import TriggerSeries

from .darks_flats import darks, flats
from .recording import record_frames
from .run import in_run
from .safe_state import Tidying
from .scan_check import check_angles, check_file
from .settings import ScanSettings
from .steps import TomogramStep
from .streams import ANGLES, BASELINE, PROJECTIONS
from .timing import ScanTiming, scan_timing
from .wishes import Wishes

ANGLE_TOLERANCE_STEPS = 0.5


def tomogram(
    beamline: Beamline,
    scan: ScanSettings,
    step: TomogramStep,
    raw_files: Mapping[str, Path],
    *,
    attempt: int = 0,
    md: Mapping[str, Any] | None = None,
    wishes: Wishes | None = None,
) -> MsgGenerator[str]:
    """Take one tomogram of the cell at open circuit.

    The run closes as ``success`` only when every frame was written and numbered
    without a gap, and every angle latched, in order and where it was asked. However
    it ends, the shutter is closed, the stage back at its start, the sample in, the
    camera idle and its file closed.

    Parameters
    ----------
    beamline : Beamline
        Connected devices.
    scan : ScanSettings
        What to take.
    step : TomogramStep
        Which tomogram of the experiment.
    raw_files : mapping
        Absolute paths under ``darks``, ``flats``, ``projections``; none may exist.
    attempt : int
        0 for the first try.
    md : mapping, optional
        Goes into the start document.
    wishes : Wishes, optional
        Says why, should the operator abort.

    Returns
    -------
    str
        uid of the run.
    """
    acceleration: Any = beamline.rotation.acceleration
    ramp_s = yield from bps.rd(acceleration, default_value=0.5)
    timing = scan_timing(scan, ramp_s)
    start = {
        **(md or {}),
        "plan_name": "tomogram",
        "step_index": step.index,
        "label": step.label,
        "attempt": attempt,
        "scan_number": step.scan_number,
        "scan": scan.model_dump(mode="json"),
        "nominal_angles_deg": [timing.first_deg, timing.step_deg, timing.number],
        "raw_files": {name: str(path) for name, path in raw_files.items()},
    }
    _refuse_existing(raw_files)

    # A pause would be replayed into the same files: it ends the run instead.
    yield from bps.clear_checkpoint()
    scanned = bpp.finalize_wrapper(
        _scan(beamline, scan, timing, raw_files), lambda: _tidy(beamline, scan)
    )
    return (yield from in_run(scanned, start, wishes))


def _scan(
    beamline: Beamline,
    scan: ScanSettings,
    timing: ScanTiming,
    raw_files: Mapping[str, Path],
) -> MsgGenerator[None]:
    rotation: Any = beamline.rotation
    camera: Any = beamline.camera
    yield from bps.stage(camera, wait=True)
    yield from _baseline(beamline)
    yield from bps.mv(rotation.velocity, scan.return_velocity_deg_s)
    to_start = short_uid("to_start")
    yield from bps.abs_set(rotation, timing.start_deg, group=to_start)
    yield from darks(beamline, scan, raw_files["darks"])
    if scan.flats == "before":
        yield from flats(beamline, scan, raw_files["flats"])
    yield from bps.mv(beamline.sample_stage.x, scan.sample_in_mm)
    yield from bps.wait(group=to_start)
    yield from _projections(beamline, scan, timing, raw_files["projections"])
    if scan.flats == "after":
        yield from flats(beamline, scan, raw_files["flats"])
    yield from bps.mv(beamline.shutter, "Close")
    yield from _baseline(beamline)


def _projections(
    beamline: Beamline, scan: ScanSettings, timing: ScanTiming, file: Path
) -> MsgGenerator[None]:
    """Turn the sample once and take a frame at each angular step."""
    compare: Any = beamline.position_compare
    rotation: Any = beamline.rotation
    yield from bps.mv(beamline.shutter, "Open")
    yield from bps.prepare(
        compare,
        TriggerSeries(
            start_deg=timing.first_deg,
            step_deg=timing.step_deg,
            number=timing.number,
            duration_s=timing.sweep_s,
        ),
        wait=True,
    )
    yield from bps.prepare(
        rotation,
        Sweep(
            start_deg=timing.start_deg,
            stop_deg=timing.stop_deg,
            velocity_deg_s=timing.velocity_deg_s,
        ),
        wait=True,
    )
    series = FrameSeries(
        file=file,
        number=timing.number,
        exposure_time_s=scan.exposure_time_s,
        frame_period_s=scan.period_s,
        trigger="Ext Only",
        duration_s=timing.sweep_s,
    )
    yield from record_frames(
        beamline.camera, series, PROJECTIONS, flyers=[compare, rotation]
    )
    yield from bps.create(name=ANGLES)
    yield from bps.read(compare)
    yield from bps.save()
    _check_projections(beamline, scan, timing, file)


def _check_projections(
    beamline: Beamline, scan: ScanSettings, timing: ScanTiming, file: Path
) -> None:
    triggers = int(beamline.position_compare.num_captured.get())
    frames = beamline.camera.get_index()
    if frames != timing.number or triggers != timing.number:
        raise FramesLostError(
            f"{triggers} triggers gave {frames} frames; {timing.number} were asked"
            " for: retake, and lengthen frame_period_s if triggers were too fast"
        )
    check_file(file, timing.number)
    tolerance_deg = scan.angle_tolerance_deg
    if tolerance_deg is None:
        tolerance_deg = ANGLE_TOLERANCE_STEPS * abs(timing.step_deg)
    check_angles(
        beamline.position_compare.angles_deg(),
        (timing.first_deg, timing.step_deg, timing.number),
        tolerance_deg,
    )


def _baseline(beamline: Beamline) -> MsgGenerator[None]:
    """Record every position and reading that a frame does not carry."""
    yield from bps.create(name=BASELINE)
    devices: tuple[Any, ...] = (
        beamline.rotation,
        beamline.sample_stage,
        beamline.shutter,
        beamline.potentiostat,
        beamline.source,
    )
    for device in devices:
        yield from bps.read(device)
    yield from bps.save()


def _tidy(beamline: Beamline, scan: ScanSettings) -> MsgGenerator[None]:
    """Leave the beamline as a scan found it, however the scan ended."""
    tidying = Tidying()
    rotation, x = beamline.rotation, beamline.sample_stage.x
    yield from tidying.stop(beamline.shutter)
    yield from tidying.stop(beamline.position_compare)
    yield from tidying.stop(rotation)
    yield from tidying.stop(beamline.camera)
    yield from tidying.confirm("shutter", lambda: beamline.shutter.set("Close"))
    yield from tidying.confirm("camera", beamline.camera.unstage)
    yield from tidying.confirm("rotation", rotation.stopped)
    yield from tidying.confirm(
        "rotation", lambda: rotation.velocity.set(scan.return_velocity_deg_s)
    )
    yield from tidying.confirm("rotation", lambda: rotation.set(scan.start_angle_deg))
    yield from tidying.confirm("sample_stage", lambda: x.set(scan.sample_in_mm))
    tidying.finish("the scan could not be tidied up")


def _refuse_existing(raw_files: Mapping[str, Path]) -> None:
    missing = {"darks", "flats", "projections"} - raw_files.keys()
    if missing:
        raise ValueError(f"raw_files lacks {', '.join(sorted(missing))}")
    for path in raw_files.values():
        if path.exists():
            raise FileExistsError(
                f"{path} exists; raw data are never overwritten: use the next attempt"
            )
