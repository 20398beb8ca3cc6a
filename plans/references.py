"""Which darks and flats a scan uses: new ones, or those of an earlier scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .settings import ScanSettings


@dataclass(frozen=True)
class ReferenceGroup:
    """Darks or flats on disk and the circumstances they were taken in.

    Attributes
    ----------
    file : Path
        The camera's file.
    frames : int
        Number of frames in it.
    bad_frames : tuple of int
        Indices to leave out.
    level_counts : float
        Median of the frames' means.
    scan_number : int
        Scan they were taken for.
    time_s : float
        When, on the beamline's clock (Unix time).
    ring_current_ma : float
        Stored current then.
    camera : tuple
        Exposure, period: a group serves only scans with the same.
    """

    file: Path
    frames: int
    bad_frames: tuple[int, ...]
    level_counts: float
    scan_number: int
    time_s: float
    ring_current_ma: float
    camera: tuple[float, float]

    def note(self, now_s: float) -> dict[str, Any]:
        """Return what a record says about the group."""
        return {
            "file": str(self.file),
            "frames": self.frames,
            "bad_frames": list(self.bad_frames),
            "level_counts": self.level_counts,
            "scan_number": self.scan_number,
            "age_s": now_s - self.time_s,
            "ring_current_ma": self.ring_current_ma,
        }


@dataclass
class References:
    """The last good darks and flats of an experiment; empty at its start."""

    darks: ReferenceGroup | None = None
    flats: ReferenceGroup | None = None


def camera_key(scan: ScanSettings) -> tuple[float, float]:
    """Return what darks and flats share with the projections they serve."""
    return (scan.exposure_time_s, scan.period_s)


def why_retake(
    kind: str,
    group: ReferenceGroup | None,
    scan: ScanSettings,
    scan_number: int,
    *,
    now_s: float,
    ring_current_ma: float,
) -> str:
    """Return why darks or flats must be taken anew, "" when the last ones serve.

    Parameters
    ----------
    kind : str
        ``"darks"`` or ``"flats"``.
    group : ReferenceGroup or None
        The last good ones.
    scan : ScanSettings
        The policy.
    scan_number : int
        Of the scan to come.
    now_s, ring_current_ma : float
        The beamline's clock and beam at present.
    """
    every = scan.darks_every if kind == "darks" else scan.flats_every
    if group is None:
        return "there are none yet"
    if every <= 1:
        return "every scan takes its own"
    if scan_number - group.scan_number >= every or scan_number < group.scan_number:
        return f"the last were taken for scan {group.scan_number}"
    if group.camera != camera_key(scan):
        return "exposure or period differ"
    age_s = now_s - group.time_s
    if not 0 <= age_s <= scan.reference_age_max_s:
        return f"the last are {age_s:.0f} s old"
    if kind == "flats":
        change = abs(ring_current_ma - group.ring_current_ma) / group.ring_current_ma
        if change > scan.ring_current_band_frac:
            return (
                f"the ring current changed from {group.ring_current_ma:.1f} to"
                f" {ring_current_ma:.1f} mA"
            )
    if not group.file.exists():
        return f"{group.file} is gone"
    return ""
