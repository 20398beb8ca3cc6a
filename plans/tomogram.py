"""One tomogram: darks, flats, projections by continuous rotation. One run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator, short_uid

from devices.beamline import Beamline
from devices.errors import BeamLostError, FramesLostError

from .conditions import Conditions
from .darks_flats import darks, flats
from .guarding import guarded
from .projections import projections
from .references import ReferenceGroup, References, why_retake
from .run import in_run
from .scan_guards import ScanGuards
from .settings import ScanSettings
from .steps import TomogramStep
from .streams import BASELINE, CONDITIONS, FLATS_AFTER
from .tidying import Tidying, tidied
from .timing import ScanTiming, scan_timing
from .triggered_frames import check_triggers
from .wishes import Wishes


def tomogram(
    beamline: Beamline,
    scan: ScanSettings,
    step: TomogramStep,
    raw_files: Mapping[str, Path],
    *,
    attempt: int = 0,
    md: Mapping[str, Any] | None = None,
    wishes: Wishes | None = None,
    references: References | None = None,
    guards: ScanGuards | None = None,
) -> MsgGenerator[str]:
    """Take one tomogram of the cell at open circuit.

    The run closes as ``success`` only when every frame was written and numbered
    without a gap, every angle latched, in order and where it was asked, the flats
    bright and not saturated, and the beam steady. However it ends, the shutter is
    closed, the stage back at its start, the sample in, the camera idle and its file
    closed.

    Parameters
    ----------
    beamline : Beamline
        Connected devices.
    scan : ScanSettings
        What to take.
    step : TomogramStep
        Which tomogram of the experiment.
    raw_files : mapping
        Absolute paths under ``darks``, ``flats``, ``projections``; those that are
        taken may not exist.
    attempt : int
        0 for the first try.
    md : mapping, optional
        Goes into the start document.
    wishes : Wishes, optional
        Says why, should the operator abort.
    references : References, optional
        The last good darks and flats; used where the policy allows, and replaced by
        those this scan takes.
    guards : ScanGuards, optional
        Those of earlier scans of the same plan.

    Returns
    -------
    str
        uid of the run.
    """
    ramp: Any = beamline.rotation.acceleration
    ramp_s = yield from bps.rd(ramp, default_value=0.5)
    known = references if references is not None else References()
    take = _Take(
        beamline=beamline,
        scan=scan,
        step=step,
        timing=scan_timing(scan, ramp_s),
        known=known,
        guards=guards or ScanGuards(beamline, scan),
        reasons=_why_new(beamline, scan, step, known),
        files=dict(raw_files),
    )
    take.settle_files()
    if scan.sync == "position_compare":
        check_triggers(beamline, take.timing, take.files["projections"])
    start = {
        **(md or {}),
        "plan_name": "tomogram",
        "step_index": step.index,
        "label": step.label,
        "attempt": attempt,
        "scan_number": step.scan_number,
        "scan": scan.model_dump(mode="json"),
        "nominal_angles_deg": [
            take.timing.first_deg,
            take.timing.step_deg,
            take.timing.number,
        ],
        "raw_files": {name: str(path) for name, path in take.files.items()},
        "references": {
            kind: {"reused": not why, "why_new": why}
            for kind, why in take.reasons.items()
        },
    }
    # A pause would be replayed into the same files: it ends the run instead.
    yield from bps.clear_checkpoint()
    scanned = tidied(_scan(take), lambda: _tidy(beamline, scan))
    return (yield from in_run(scanned, start, wishes))


@dataclass
class _Take:
    """One attempt at a tomogram while it goes on."""

    beamline: Beamline
    scan: ScanSettings
    step: TomogramStep
    timing: ScanTiming
    known: References
    guards: ScanGuards
    reasons: dict[str, str]
    files: dict[str, Path]
    conditions: Conditions = field(default_factory=Conditions)

    def settle_files(self) -> None:
        """Fix every path; refuse one that exists and would be written."""
        missing = {"darks", "flats", "projections"} - self.files.keys()
        if missing:
            raise ValueError(f"raw_files lacks {', '.join(sorted(missing))}")
        written = {"projections"}
        for kind, group in (("darks", self.known.darks), ("flats", self.known.flats)):
            if self.reasons[kind] or group is None:
                written.add(kind)
            else:
                self.files[kind] = group.file
        if self.scan.flats == "both":
            flats_file = self.files["flats"]
            if "flats" not in written:
                flats_file = self.files["projections"]
            stem = flats_file.stem.rsplit("_", 1)[0]
            self.files["flats_after"] = flats_file.with_name(f"{stem}_flats_after.h5")
            written.add("flats_after")
        for kind in sorted(written):
            if self.files[kind].exists():
                raise FileExistsError(
                    f"{self.files[kind]} exists; raw data are never overwritten: use"
                    " the next attempt"
                )


def _why_new(
    beamline: Beamline, scan: ScanSettings, step: TomogramStep, known: References
) -> dict[str, str]:
    now_s = beamline.source.time_s()
    current: Any = beamline.source.ring_current.get()
    return {
        kind: why_retake(
            kind,
            group,
            scan,
            step.scan_number,
            now_s=now_s,
            ring_current_ma=float(current),
        )
        for kind, group in (("darks", known.darks), ("flats", known.flats))
    }


def _scan(take: _Take) -> MsgGenerator[None]:
    beamline = take.beamline
    camera: Any = beamline.camera
    yield from bps.stage(camera, wait=True)
    yield from _baseline(beamline)
    guards = take.guards.whole_scan(take.files["projections"].parent)
    yield from guarded(guards, lambda watch: _frames(take, watch))
    yield from bps.mv(beamline.shutter, "Close")
    conditions: Any = take.conditions
    yield from bps.create(name=CONDITIONS)
    yield from bps.read(conditions)
    yield from bps.save()
    # The RunEngine keeps the object until the experiment ends.
    conditions.clear()
    yield from _baseline(beamline)


def _frames(take: _Take, watch: Sequence[str]) -> MsgGenerator[None]:
    """Take everything the camera gives, in the order of the policy."""
    beamline, scan, timing = take.beamline, take.scan, take.timing
    rotation: Any = beamline.rotation
    rotation.check_velocity(scan.return_velocity_deg_s)
    yield from bps.mv(rotation.velocity, scan.return_velocity_deg_s)
    to_start = short_uid("to_start")
    yield from bps.abs_set(rotation, timing.start_deg, group=to_start)

    dark_group = take.known.darks
    if take.reasons["darks"] or dark_group is None:
        dark_group = yield from darks(
            beamline, scan, take.step.scan_number, take.files["darks"], watch=watch
        )
    dark_counts = dark_group.level_counts
    flat_group = take.known.flats
    new_flats = bool(take.reasons["flats"]) or flat_group is None
    if new_flats and scan.flats != "after":
        flat_group = yield from _flats(take, "flats", dark_counts, watch)
    yield from bps.mv(beamline.sample_stage.x, scan.sample_in_mm)
    yield from bps.wait(group=to_start)
    taken = yield from projections(
        beamline,
        scan,
        timing,
        take.files["projections"],
        guards=take.guards,
        dark_counts=dark_counts,
        watch=watch,
    )
    if new_flats and scan.flats == "after":
        flat_group = yield from _flats(take, "flats", dark_counts, watch)
    after_group = None
    if scan.flats == "both":
        after_group = yield from _flats(take, FLATS_AFTER, dark_counts, watch)
    if flat_group is None:
        raise FramesLostError(f"scan {take.step.scan_number} has no flats: retake")
    _check_beam(scan, flat_group, taken.ring_current_ma)

    # Only now are they known to serve, and may later scans use them.
    take.known.darks, take.known.flats = dark_group, flat_group
    now_s = beamline.source.time_s()
    take.conditions.group("darks", dark_group, now_s)
    take.conditions.group("flats", flat_group, now_s)
    if after_group is not None:
        take.conditions.group(FLATS_AFTER, after_group, now_s)
    take.conditions.projections(taken)


def _flats(
    take: _Take, kind: str, dark_counts: float, watch: Sequence[str]
) -> MsgGenerator[ReferenceGroup]:
    return (
        yield from flats(
            take.beamline,
            take.scan,
            take.step.scan_number,
            take.files[kind],
            guards=take.guards,
            dark_counts=dark_counts,
            stream=kind,
            watch=watch,
        )
    )


def _check_beam(
    scan: ScanSettings, flat_group: ReferenceGroup, seen_ma: tuple[float, float]
) -> None:
    """Raise if the beam changed too much for the flats to normalise the scan."""
    flat_ma = flat_group.ring_current_ma
    worst_ma = max(seen_ma, key=lambda current_ma: abs(current_ma - flat_ma))
    if abs(worst_ma - flat_ma) > scan.ring_current_band_frac * flat_ma:
        raise BeamLostError(
            f"the ring current reached {worst_ma:.1f} mA during the projections, more"
            f" than {scan.ring_current_band_frac:.1%} away from the {flat_ma:.1f} mA of"
            " the flats: retake"
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
    if beamline.position_compare is not None:
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
