"""What must be true before a cell is touched: one table, with reasons to refuse.

Nothing moves: values are read, the camera's writer is asked whether it sees the data
folder, and a file is written and removed there.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from devices.beamline import Beamline
from orchestrator.config import Experiment
from orchestrator.disk_need import bytes_needed
from orchestrator.errors import RefusedError
from plans.steps import HalfCycleStep, Step
from plans.timing import scan_duration_s, scan_timing

Verdict = Literal["ok", "note", "refuse"]

CLOCK_SKEW_MAX_S = 2.0
BENCHMARK_ROWS = 4
READ_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes
    ----------
    name : str
        What was looked at; `--force` names it to override a refusal.
    value : str
        What was found, with its unit.
    advice : str
        Why it is refused or noted, and what to do; empty where all is well.
    """

    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""


def preflight(
    experiment: Experiment,
    beamline: Beamline,
    data_dir: Path,
    steps: Sequence[Step],
    *,
    simulated: bool,
) -> list[Finding]:
    """Look at the connected beamline, the disk and the time.

    Parameters
    ----------
    data_dir : Path
        The experiment's folder, or the one above it that exists.
    steps : sequence of Step
        What is still to be done: it must fit on the disk and into the beam time.
    simulated : bool
        The simulated clock runs on its own.
    """
    checks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("cell", lambda: _cell(experiment, beamline)),
        ("beam", lambda: _beam(experiment, beamline)),
        ("stages", lambda: _stages(experiment, beamline)),
        ("camera", lambda: _camera(beamline)),
        ("folder", lambda: _folder(beamline, data_dir)),
        ("disk", lambda: _disk(experiment, beamline, data_dir, steps)),
        ("clock", lambda: _clock(beamline, simulated)),
        ("time", lambda: _beam_time(experiment, beamline, steps)),
    )
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings.extend(check())
        except Exception as error:  # one that cannot be read is a finding itself
            text = " ".join(str(error).split()) or type(error).__name__
            findings.append(
                Finding(name, "could not be read", "refuse", f"{text}: look at its IOC")
            )
    return findings


def refuse(findings: Iterable[Finding], force: Iterable[str] = ()) -> list[Finding]:
    """Return what was overridden; raise when something refuses that was not.

    Raises
    ------
    RefusedError
        With one line for each reason.
    """
    refusing = [finding for finding in findings if finding.verdict == "refuse"]
    forced = set(force)
    left = [finding for finding in refusing if finding.name not in forced]
    if left:
        raise RefusedError(
            *(
                f"{finding.name}: {finding.value}: {finding.advice} "
                f"(--force {finding.name} overrides)"
                for finding in left
            )
        )
    return refusing


def _cell(experiment: Experiment, beamline: Beamline) -> Iterator[Finding]:
    cell = beamline.potentiostat
    relay = str(_read(cell.relay_readback))
    state = str(_read(cell.state))
    if relay == "Open" and state in ("Idle", "Done"):
        yield Finding("cell", f"relay {relay}, instrument {state}")
    else:
        yield Finding(
            "cell",
            f"relay {relay}, instrument {state}",
            "refuse",
            "something drives the cell or has left a fault: end it at the instrument",
        )
    voltage_v = float(_read(cell.voltage))
    limits = (experiment.cycling.voltage_min_v, experiment.cycling.voltage_max_v)
    inside = limits[0] < voltage_v < limits[1]
    yield Finding(
        "voltage",
        f"{voltage_v:.4f} V at open circuit",
        "ok" if inside else "refuse",
        ""
        if inside
        else f"outside cycling.voltage_min_v … voltage_max_v, {limits[0]:g} to "
        f"{limits[1]:g} V: a step would end at once; look at the leads",
    )
    instrument = " ".join(
        str(_read(part)) for part in (cell.manufacturer, cell.model, cell.serial)
    )
    yield Finding("potentiostat", f"{instrument}, {float(_read(cell.rate)):g} Hz")


def _beam(experiment: Experiment, beamline: Beamline) -> Iterator[Finding]:
    source = beamline.source
    ring_ma = float(_read(source.ring_current))
    least_ma = experiment.scan.ring_current_min_ma
    yield Finding(
        "ring_current",
        f"{ring_ma:.1f} mA",
        "ok" if ring_ma >= least_ma else "refuse",
        ""
        if ring_ma >= least_ma
        else f"below scan.ring_current_min_ma, {least_ma:g} mA: wait for the beam",
    )
    energy_kev = float(_read(source.photon_energy))
    gap_mm = float(_read(source.id_gap))
    yield Finding("energy", f"{energy_kev:g} keV, gap {gap_mm:g} mm")
    state = str(_read(beamline.shutter.state))
    closed = state == "Closed"
    yield Finding(
        "shutter",
        state,
        "ok" if closed else "refuse",
        "" if closed else "it must be closed before the cell is cycled: close it",
    )


def _stages(experiment: Experiment, beamline: Beamline) -> Iterator[Finding]:
    scan = experiment.scan
    rotation = beamline.rotation
    timing = scan_timing(scan, float(_read(rotation.acceleration)))
    stage_x = beamline.sample_stage.x
    for name, axis, unit, targets in (
        ("rotation", rotation, "deg", (timing.start_deg, timing.stop_deg)),
        ("sample_x", stage_x, "mm", (scan.sample_in_mm, scan.sample_out_mm)),
    ):
        found = str(axis.egu)
        low, high = axis.limits
        value = (
            f"{float(_read(axis.user_readback)):g} {found}, "
            f"limits {low:g} to {high:g}, needed {min(targets):g} to {max(targets):g}"
        )
        limited = high > low
        if found != unit:
            advice = f"its unit is '{found}', it must be {unit}: set EGU of the record"
        elif limited and not low <= min(targets) <= max(targets) <= high:
            advice = "the scan does not fit into its limits: move them or the scan"
        elif bool(_read(axis.motor_is_moving)):
            advice = "it moves: wait, or stop it"
        else:
            yield Finding(name, value)
            continue
        yield Finding(name, value, "refuse", advice)


def _camera(beamline: Beamline) -> Iterator[Finding]:
    camera = beamline.camera
    ny, nx = frame_shape(beamline)
    acquiring = bool(_read(camera.cam.acquire))
    capturing = bool(_read(camera.hdf.capture))
    value = f"{_read(camera.cam.model)}, {nx} x {ny} pixels"
    if acquiring or capturing:
        yield Finding(
            "camera",
            value,
            "refuse",
            "it acquires or has a file open: an earlier run left it; stop it",
        )
    else:
        yield Finding("camera", value)


def _folder(beamline: Beamline, data_dir: Path) -> Iterator[Finding]:
    probe = data_dir / ".write-probe"
    try:
        probe.write_bytes(b"insitu-ct")
        probe.unlink()
    except OSError as error:
        yield Finding(
            "folder",
            str(data_dir),
            "refuse",
            f"this computer cannot write there ({error}): mend it or use --data",
        )
    raw = data_dir / "raw" if (data_dir / "raw").is_dir() else data_dir
    hdf = beamline.camera.hdf
    hdf.file_path.put(str(raw) + "/", wait=True, timeout=READ_TIMEOUT_S)
    seen = bool(_read(hdf.file_path_exists))
    yield Finding(
        "camera_folder",
        f"{raw} {'is' if seen else 'is not'} seen by the camera's writer",
        "ok" if seen else "refuse",
        "" if seen else "mount the folder on the camera's computer, or use --data",
    )


def _disk(
    experiment: Experiment, beamline: Beamline, data_dir: Path, steps: Sequence[Step]
) -> Iterator[Finding]:
    needed = bytes_needed(experiment, frame_shape(beamline), steps)
    free = shutil.disk_usage(data_dir).free
    enough = free - needed >= experiment.scan.free_disk_min_bytes
    yield Finding(
        "disk",
        f"{_gb(needed)} needed for {_all_or_rest(experiment, steps)}, {_gb(free)} free",
        "ok" if enough else "refuse",
        ""
        if enough
        else f"{_gb(experiment.scan.free_disk_min_bytes)} must stay free: make room, "
        "or use --data",
    )


def _clock(beamline: Beamline, simulated: bool) -> Iterator[Finding]:
    signal = beamline.potentiostat.voltage
    _read(signal)
    skew_s = float(signal.timestamp) - time.time()
    value = f"instrument {skew_s:+.3f} s from this computer"
    if simulated:
        yield Finding("clock", "simulated, runs on its own", "note")
    elif abs(skew_s) > CLOCK_SKEW_MAX_S:
        yield Finding(
            "clock",
            value,
            "refuse",
            f"more than {CLOCK_SKEW_MAX_S:g} s: synchronise both (NTP)",
        )
    else:
        yield Finding("clock", value)


def _all_or_rest(experiment: Experiment, steps: Sequence[Step]) -> str:
    whole = len(steps) == len(experiment.steps)
    return "the whole experiment" if whole else "the rest of the experiment"


def _beam_time(
    experiment: Experiment, beamline: Beamline, steps: Sequence[Step]
) -> Iterator[Finding]:
    acceleration_s = float(_read(beamline.rotation.acceleration))
    needed_s = duration_s(experiment, acceleration_s, steps)
    until = experiment.beamline.beam_time_until
    if until is None:
        yield Finding("time", f"{_hours(needed_s)} at most")
        return
    left_s = (until - datetime.now(UTC)).total_seconds()
    fits = left_s >= needed_s
    yield Finding(
        "time",
        f"{_hours(needed_s)} at most, {_hours(left_s)} of beam time left",
        "ok" if fits else "refuse",
        "" if fits else "fewer or shorter half-cycles, or a later end, would fit",
    )


def analysis_speed(experiment: Experiment, shape: tuple[int, int]) -> Finding:
    """Measure how fast this machine reconstructs, against a half-cycle's time."""
    from analysis.engines import engine

    settings = experiment.analysis.reconstruction
    number, (ny, nx) = experiment.scan.num_projections, shape
    angles = np.linspace(0, experiment.scan.range_deg, number, endpoint=False)
    machine = engine(settings.engine, angles, nx, (nx - 1) / 2)
    rows = min(BENCHMARK_ROWS, ny)
    sinograms = np.ones((rows, number, nx), np.float32)
    slices = np.empty((rows, nx, nx), np.float32)
    machine.reconstruct(sinograms.copy(), slices)  # compiles
    begun = time.perf_counter()
    machine.reconstruct(sinograms, slices)
    took_s = (time.perf_counter() - begun) / rows * ny
    limit_s = experiment.cycling.half_cycle_duration_s
    keeps_up = took_s < limit_s
    return Finding(
        "analysis",
        f"{_hours(took_s)} to reconstruct a tomogram, {_hours(limit_s)} a half-cycle",
        "ok" if keeps_up else "note",
        "" if keeps_up else "results will lag; the experiment itself is not slowed",
    )


def frame_shape(beamline: Beamline) -> tuple[int, int]:
    """Return rows and columns of a frame."""
    size = beamline.camera.cam.size
    return int(_read(size.size_y)), int(_read(size.size_x))


def duration_s(
    experiment: Experiment, acceleration_s: float, steps: Sequence[Step]
) -> float:
    """Return about how long these steps take at most."""
    scan_s = scan_duration_s(experiment.scan, acceleration_s)
    return sum(
        step.duration_s + experiment.cycling.rest_s
        if isinstance(step, HalfCycleStep)
        else scan_s
        for step in steps
    )


def _read(signal: Any) -> Any:
    return signal.get(use_monitor=False, timeout=READ_TIMEOUT_S)


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB"


def _hours(duration_s: float) -> str:
    if abs(duration_s) < 120:
        return f"{duration_s:.1f} s"
    if abs(duration_s) < 7200:
        return f"{duration_s / 60:.1f} min"
    return f"{duration_s / 3600:.1f} h"
