"""The report of an experiment: one HTML page that needs no server and no network."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from orchestrator.config import Experiment
from orchestrator.figures import (
    error_figure,
    growth,
    growth_figure,
    thickness_figure,
    volumes_figure,
    width_distribution_figure,
    widths_figure,
)
from orchestrator.journal import Entry
from orchestrator.layout import Layout
from orchestrator.report_data import ExperimentData, finite, read_experiment
from orchestrator.report_pictures import (
    pictures_of,
    slices_of,
    state_titles,
    write_videos,
)
from orchestrator.results import write_text
from orchestrator.voltage_figure import voltage_figure
from orchestrator.wording import charge_unit

EVENT_KINDS = ("decision", "alarm", "failed", "analysis_failed", "ended")
_TONES = {
    "done": "good",
    "done_by_rule": "good",
    "short_circuit": "good",
    "stopped": "warn",
    "failed": "bad",
}
_COLUMNS = (
    ("label", "label", ""),
    ("gross_charge_c", "charge passed", "C"),
    ("crack_volume_um3", "crack volume", "µm³"),
    ("crack_volume_sd_um3", "± 1 sd", "µm³"),
    ("crack_fraction", "crack fraction", "%"),
    ("crack_width_peak_um", "width, peak", "µm"),
    ("crack_width_median_um", "width, median", "µm"),
    ("lithium_volume_um3", "Li volume", "µm³"),
    ("filling_fraction", "filling", "%"),
    ("penetrates", "crosses pellet", ""),
    ("reason", "reason", ""),
)
_PERCENT = {name for name, _, unit in _COLUMNS if unit == "%"}


@dataclass(frozen=True)
class _Cell:
    value: str
    text: bool = False


def write_report(directory: Path) -> Path:
    """Write ``report/index.html`` from what the folder holds now.

    The page is written beside the old one and takes its place in one move.

    Parameters
    ----------
    directory : Path
        Data folder of an experiment, running, ended or damaged.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ConfigurationError
        The folder holds no experiment.
    """
    data = read_experiment(directory)
    path = Layout(data.directory).report_file
    write_text(path, render_report(data, write_videos(data)))
    return path


def render_report(
    data: ExperimentData, videos: Sequence[Mapping[str, str]] = ()
) -> str:
    """Return the page as HTML; everything a user typed is escaped.

    Parameters
    ----------
    videos : sequence of mapping
        Name and address of each video to link.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    faults = list(data.faults)
    titles = state_titles(data)
    slices = slices_of(data, titles, faults)
    renders = pictures_of(data, titles, "cracks_3d")
    interfaces = pictures_of(data, titles, "anode_interface", "cathode_interface")
    error = _markup(error_figure(data))
    context = {
        "data": data,
        "summary": _summary(data),
        "voltage": _markup(voltage_figure(data)),
        "slices": slices,
        "renders": renders,
        "interfaces": interfaces,
        "videos": videos,
        "volumes": _markup(volumes_figure(data)),
        "growth": _markup(growth_figure(data)),
        "growth_law": _growth_law(data),
        "error": error,
        "error_note": _error_note(data),
        "widths": _markup(widths_figure(data)),
        "distribution": _markup(width_distribution_figure(data)),
        "thickness": _markup(thickness_figure(data)),
        "table": _table(data),
        "events": _events(data.entries),
        "steps": _steps(data.entries),
        "versions": _versions(data),
        "written": _time(time.time()),
        "zone": time.strftime("%Z"),
    }
    sections = [("summary", "Summary")]
    if context["voltage"]:
        sections.append(("voltage", "Voltage"))
    if slices["states"]:
        sections.append(("slices", "Slices"))
    if renders:
        sections.append(("renders", "Cracks in 3D"))
    if interfaces:
        sections.append(("interfaces", "Interfaces"))
    if videos:
        sections.append(("videos", "Videos"))
    if context["volumes"]:
        sections.append(("volumes", "Cracks and lithium"))
    if context["widths"]:
        sections.append(("widths", "Crack width"))
    if context["thickness"]:
        sections.append(("thickness", "Thickness"))
    if context["table"]["rows"]:
        sections.append(("measurements", "Measurements"))
    sections += [("journal", "Journal"), ("provenance", "Provenance")]
    return environment.get_template("report.html").render(
        **context, sections=sections, faults=faults
    )


# --- summary ------------------------------------------------------------------------


def _summary(data: ExperimentData) -> dict[str, Any]:
    outcome, tone = _outcome(data)
    tomograms = {row.get("scan_number") for row in data.rows}
    unmeasured = [row for row in data.rows if np.isnan(finite(row, "crack_volume_um3"))]
    begun = data.entries[0].time_s if data.entries else None
    ended = data.entries[-1].time_s if data.entries else None
    half_cycles = {cycle.half_cycle for cycle in data.half_cycles}
    scans = {scan.scan_number for scan in data.scans if scan.exit_status == "success"}
    retakes = sum(1 for scan in data.scans if scan.exit_status not in ("success", ""))
    charge = [finite(row, "gross_charge_c") for row in data.rows]
    facts = [
        ("Began", _time(begun) if begun else "not recorded"),
        (
            "Ended" if data.ended else "Last entry",
            f"{_time(ended)}, after {_duration(ended - begun)}"
            if ended and begun
            else "not recorded",
        ),
        ("Half-cycles", str(len(half_cycles))),
        (
            "Tomograms",
            f"{len(scans)} taken, {len(tomograms) - len(unmeasured)} measured"
            + (f", {retakes} spoilt and retaken" if retakes else ""),
        ),
    ]
    known = [value for value in charge if np.isfinite(value)]
    if known:
        scale, unit = charge_unit(max(known))
        text = f"{max(known) * scale:.4g} {unit}"
        facts.append(("Charge passed, both directions", text))
    if data.truth:
        facts.append(("Crack volume against truth", _error_summary(data)))
    title = ""
    if data.experiment is not None:
        title = data.experiment.experiment.title
        facts += _asked(data.experiment)
    return {"outcome": outcome, "tone": tone, "title": title, "facts": facts}


def _asked(experiment: Experiment) -> list[tuple[str, str]]:
    """Return what the configuration asked for."""
    section, cycling, scan = (
        experiment.experiment,
        experiment.cycling,
        experiment.scan,
    )
    current_ua = 1000 * abs(cycling.current_ma(1, experiment.electrode_area_cm2))
    facts = [
        ("Sample", section.sample),
        (
            "Cycling",
            f"± {current_ua:.4g} µA ({cycling.current_density_ma_cm2:g} mA/cm²), "
            f"{_duration(cycling.half_cycle_duration_s)} each way, "
            f"{cycling.num_half_cycles} half-cycles at most",
        ),
        (
            "Scan",
            f"{scan.num_projections} projections over {scan.range_deg:g}°, "
            f"{scan.exposure_time_s:g} s each, pixel {scan.pixel_size_um:g} µm",
        ),
    ]
    if section.operators:
        facts.append(("Operators", ", ".join(section.operators)))
    if section.proposal:
        facts.append(("Proposal", section.proposal))
    return facts


def _outcome(data: ExperimentData) -> tuple[str, str]:
    ended = data.ended
    if ended is None:
        if not data.entries:
            return "No journal: the outcome is not known.", "warn"
        return "Running, or interrupted: the journal has no end yet.", "warn"
    outcome = str(ended.details.get("outcome", ""))
    words = {
        "done": "Done as planned",
        "done_by_rule": "Ended by a rule",
        "short_circuit": "Ended by a short circuit",
        "stopped": "Stopped",
        "failed": "Failed",
    }.get(outcome, outcome or "Ended")
    reason = ended.text.strip()
    if reason.startswith(outcome.replace("_", " ")):
        sentence = reason[0].upper() + reason[1:]
    else:
        sentence = f"{words}: {reason}" if reason else words
    return sentence.rstrip(".") + ".", _TONES.get(outcome, "warn")


def _error_summary(data: ExperimentData) -> str:
    errors = np.array([finite(row, "crack_volume_error_frac") for row in data.truth])
    errors = errors[np.isfinite(errors)]
    if errors.size == 0:
        return "not compared"
    worst = errors[np.argmax(np.abs(errors))]
    return f"mean {100 * errors.mean():+.1f} %, largest {100 * worst:+.1f} %"


def _growth_law(data: ExperimentData) -> str:
    fit = growth(data)
    if fit is None:
        return ""
    values = [
        f"{name} = {value:.3g} ± {sd:.1g}"
        for name, value, sd in zip(
            "abc", fit.parameters, fit.parameter_sd, strict=False
        )
    ]
    law = "a + b ln N" if fit.law == "logarithmic" else "a + b (1 − exp(−(N − 1)/c))"
    return f"V(N) = {law}, {', '.join(values)} (a and b in µm³)"


def _error_note(data: ExperimentData) -> str:
    return (
        f"Measured minus true, over true: {_error_summary(data)}. A state whose true"
        " crack volume is zero has no relative error and is left out."
    )


# --- slices -------------------------------------------------------------------------


# --- tables -------------------------------------------------------------------------


def _table(data: ExperimentData) -> dict[str, Any]:
    present = {name for row in data.rows for name in row}
    charges = [finite(row, "gross_charge_c") for row in data.rows]
    charge_scale, in_charge = charge_unit(np.nanmax([0.0, *charges]))
    chosen = [
        (name, title, in_charge if unit == "C" else unit)
        for name, title, unit in _COLUMNS
        if name in present
    ]
    return {
        "columns": [{"title": title, "unit": unit} for _, title, unit in chosen],
        "rows": [
            [
                _cell(row.get(name), name, charge_scale if unit == in_charge else 1.0)
                for name, _, unit in chosen
            ]
            for row in data.rows
        ],
        "more": len(present) > len(chosen),
    }


def _cell(value: object, name: str, scale: float) -> _Cell:
    if name == "reason":
        return _Cell("" if value is None else str(value), text=True)
    if value is None:
        return _Cell("–")
    if name == "penetrates":
        return _Cell("yes" if value else "no")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _Cell(str(value))
    scaled = float(value) * (100.0 if name in _PERCENT else scale)
    if name.endswith("_um3"):
        return _Cell(f"{scaled:.3e}" if scaled else "0")
    return _Cell(f"{scaled:.4g}")


def _events(entries: Sequence[Entry]) -> list[dict[str, str]]:
    return [
        {
            "time": _time(entry.time_s),
            "kind": entry.kind.replace("_", " "),
            "text": entry.text,
        }
        for entry in entries
        if entry.kind in EVENT_KINDS
    ]


def _steps(entries: Sequence[Entry]) -> list[dict[str, object]]:
    steps: dict[tuple[int | None, int | None], dict[str, object]] = {}
    begun_s: dict[tuple[int | None, int | None], float] = {}
    for entry in entries:
        key = (entry.step_index, entry.attempt)
        if entry.kind == "begin":
            begun_s[key] = entry.time_s
            steps[key] = {
                "index": entry.step_index,
                "what": entry.text,
                "attempt": (entry.attempt or 0) + 1,
                "began": _time(entry.time_s),
                "took": "",
                "outcome": "not ended",
                "state": "open",
            }
        elif entry.kind in ("done", "failed") and key in steps:
            steps[key]["took"] = _duration(entry.time_s - begun_s[key])
            steps[key]["state"] = entry.kind
            steps[key]["outcome"] = _step_outcome(entry)
    return list(steps.values())


def _step_outcome(entry: Entry) -> str:
    if entry.kind == "failed":
        return entry.text
    reason = entry.details.get("end_reason")
    return f"done: {reason}" if reason else "done"


def _versions(data: ExperimentData) -> list[tuple[str, str]]:
    versions = data.session.get("versions")
    if not isinstance(versions, Mapping):
        return []
    flat: list[tuple[str, str]] = []
    for name, value in versions.items():
        if isinstance(value, Mapping):
            flat.extend((str(inner), str(text)) for inner, text in value.items())
        else:
            flat.append((str(name), str(value)))
    return flat


# --- words --------------------------------------------------------------------------


def _markup(svg: str | None) -> Markup | None:
    """Mark a figure as safe: matplotlib escapes the text it draws."""
    return None if svg is None else Markup(svg)


def _time(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _duration(seconds: float) -> str:
    minutes, left = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {left:02d} s" if minutes else f"{left} s"
