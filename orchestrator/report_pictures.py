"""The report's pictures: slices, renderings and videos of each state."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.errors import DataError
from analysis.measurement.video import write_series
from orchestrator.report_data import ExperimentData, finite
from orchestrator.slices import (
    OrthogonalSlices,
    common_grey_scale,
    embedded_picture,
    kept_slices,
    picture,
    scale_bar_um,
)

_log = logging.getLogger(__name__)


def state_titles(data: ExperimentData) -> dict[str, str]:
    """Return label to title, the direction by the current that led to the state."""
    titles = {"0": "Pristine"}
    for cycle in data.half_cycles:
        charge = cycle.asked_current_ma > 0
        titles[cycle.label] = (
            f"After {'charge' if charge else 'discharge'} {cycle.label}"
        )
    return titles


def pictures_of(
    data: ExperimentData, titles: Mapping[str, str], *names: str
) -> list[dict[str, Any]]:
    """Return the title and the pictures of each state that has any of them."""
    found: list[dict[str, Any]] = []
    for row in data.rows:
        number, label = row.get("scan_number"), str(row.get("label", ""))
        if not isinstance(number, int):
            continue
        folder = data.layout.preview_dir(number)
        views = [
            {"name": name.replace("_", " "), "address": address}
            for name in names
            if (address := embedded_picture(folder / f"{name}.png")) is not None
        ]
        if views:
            found.append({"title": titles.get(label, f"State {label}"), "views": views})
    return found


def write_videos(data: ExperimentData) -> list[dict[str, str]]:
    """Write what has changed of the videos; return name and address of each."""
    layout = data.layout
    titles = state_titles(data)
    states = [
        (layout.preview_dir(number), titles.get(str(row.get("label", "")), ""))
        for row in data.rows
        if isinstance(number := row.get("scan_number"), int)
    ]
    try:
        videos = write_series(states, layout.results_dir / "videos")
    except (OSError, ValueError):
        _log.exception("the videos could not be written")
        return []
    return [
        {
            "name": name.replace("_", " "),
            "address": os.path.relpath(path, layout.report_file.parent),
        }
        for name, path in videos.items()
    ]


def slices_of(
    data: ExperimentData, titles: Mapping[str, str], faults: list[str]
) -> dict[str, Any]:
    """Return three slices of each state in one grey scale; add what is missing."""
    found: list[tuple[str, str, OrthogonalSlices | None]] = []
    for row in data.rows:
        label = str(row.get("label", ""))
        title = titles.get(label, f"State {label}")
        number = row.get("scan_number")
        if not isinstance(number, int):
            continue
        path = data.layout.tomogram_file(number)
        try:
            keep = data.layout.preview_dir(number) / "report_slices.npz"
            found.append((title, label, kept_slices(path, keep, _centre(row))))
        except (DataError, OSError, ValueError, KeyError) as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            faults.append(f"{path.name}: no slices ({line})")
            found.append((title, label, None))
    drawn = [slices for _, _, slices in found if slices is not None]
    if not drawn:
        return {"states": [], "black": "", "white": ""}
    scale = common_grey_scale(drawn)
    per_cm = 1e4 / drawn[0].pixel_size_um
    states = []
    for title, _, slices in found:
        if slices is None:
            states.append({"title": title, "note": "not on disk", "pictures": []})
            continue
        width_um = slices.top.shape[1] * slices.voxel_size_um
        bar_um = scale_bar_um(width_um)
        states.append(
            {
                "title": title,
                "note": "",
                "bar": f"{bar_um:g} µm",
                "bar_percent": f"{100 * bar_um / width_um:.2f}",
                "pictures": [
                    {"name": name, "address": picture(grey, scale)}
                    for name, grey in (
                        ("top view", slices.top),
                        ("front view", slices.front),
                        ("side view", slices.side),
                    )
                ],
            }
        )
    return {
        "states": states,
        "black": f"{scale.black * per_cm:.2f}",
        "white": f"{scale.white * per_cm:.2f}",
    }


def _centre(row: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return the middle of the pellet, voxel (z, y, x), where it was found."""
    top, bottom = finite(row, "pellet_top_row"), finite(row, "pellet_bottom_row")
    centre = (
        (top + bottom) / 2,
        finite(row, "pellet_centre_y_px"),
        finite(row, "pellet_centre_x_px"),
    )
    return centre if np.isfinite(centre).all() else None
