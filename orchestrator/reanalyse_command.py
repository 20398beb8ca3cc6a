"""``insitu-ct reanalyse DIR``: measure an experiment's tomograms again, otherwise.

The new results stand beside the old ones, in ``results/reanalysis_01`` and so on;
nothing that is there is changed.
"""

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from orchestrator.errors import ConfigurationError, InsituError, RefusedError
from orchestrator.layout import Layout
from orchestrator.results import ResultsTable, Row, read_rows, write_text

if TYPE_CHECKING:
    from analysis.measurement.lithium import Lithium
    from analysis.measurement.settings import MeasurementSettings

KEPT_COLUMNS = (
    "scan_number", "label", "attempt", "simulated", "start_time_s", "gross_charge_c",
    "net_charge_c",
)  # fmt: skip


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "reanalyse",
        help="measure an experiment's tomograms again with other settings",
        description="Measure tomograms of an experiment again. Results go to a new "
        "folder results/reanalysis_NN; the old ones stay as they are.",
    )
    parser.add_argument("directory", type=Path, help="data folder of the experiment")
    parser.add_argument(
        "--tomograms",
        nargs="+",
        metavar="N",
        help="scan numbers, also as 3-7; all without it",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="NAME=VALUE",
        help="a measurement setting other than the experiment's, "
        "such as crack_threshold_frac=0.45; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure tomograms again and write the results beside the old ones."""
    layout = Layout(args.directory)
    if not layout.directory.is_dir():
        raise ConfigurationError(
            f"{args.directory}: no such folder; give the data folder of an experiment"
        )
    tomograms = _tomograms(layout)
    numbers = _chosen(args.tomograms, sorted(tomograms))
    settings = _settings(layout, args.changes)
    old_rows = {
        int(row["scan_number"] or 0): row
        for row in read_rows(layout.results_dir / "measurements.csv")
    }
    directory = _new_folder(layout.results_dir)
    text = json.dumps(settings.model_dump(mode="json"), indent=1)
    write_text(directory / "settings.json", text + "\n")
    table = ResultsTable(directory)
    pristine = previous = None
    failed = 0
    for number in numbers:
        old = old_rows.get(number, {"scan_number": number, "label": None})
        row, result_file = _measure(
            tomograms[number], settings, old, directory, pristine, previous
        )
        table.add(row)
        if result_file is not None:
            pristine, previous = pristine or result_file, result_file
        else:
            failed += 1
        _print_row(row, old)
    _write_trends(table.rows, directory)
    _write_videos(table.rows, tomograms, directory)
    print(f"results: {table.csv_file}")
    if failed == len(numbers):
        raise InsituError(f"none of {failed} tomograms could be measured; see above")
    return 0


def _tomograms(layout: Layout) -> dict[int, Path]:
    """Return the file of each tomogram by its scan number."""
    found = {}
    for file in (layout.directory / "tomograms").glob("scan_*.h5"):
        match = re.fullmatch(r"scan_(\d+)(_\d+)?", file.stem)
        if match:
            found[int(match[1])] = file
    if not found:
        raise ConfigurationError(
            f"{layout.directory}: holds no tomograms/scan_NNNN.h5; give the data "
            "folder of an experiment whose scans were reconstructed"
        )
    return found


def _chosen(asked: list[str] | None, there: list[int]) -> list[int]:
    """Return the scan numbers asked for, all without a choice."""
    if asked is None:
        return there
    numbers = set()
    for text in asked:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if not match:
            raise ConfigurationError(
                f"--tomograms {text}: give scan numbers such as 3 or 3-7"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        numbers.update(number for number in there if first <= number <= last)
        if first == last and first not in there:
            raise ConfigurationError(
                f"--tomograms {text}: there is no such tomogram; there are "
                f"{there[0]} to {there[-1]}"
            )
    if not numbers:
        raise ConfigurationError(
            f"--tomograms {' '.join(asked)}: none of them is there; there are "
            f"{there[0]} to {there[-1]}"
        )
    return sorted(numbers)


def _settings(layout: Layout, changes: list[str]) -> "MeasurementSettings":
    """Return the experiment's measurement settings with the changes."""
    from analysis.measurement.settings import MeasurementSettings

    values: dict[str, object] = {}
    if layout.experiment_file.is_file():
        loaded = yaml.safe_load(layout.experiment_file.read_text(encoding="utf-8"))
        analysis = loaded.get("analysis") if isinstance(loaded, dict) else None
        values |= _declared_sizes(loaded) | ((analysis or {}).get("measurement") or {})
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {change}: give NAME=VALUE")
        values[name.strip()] = yaml.safe_load(value)
    try:
        return MeasurementSettings.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(
            *(
                f"{'.'.join(str(part) for part in fault['loc']) or 'settings'}: "
                f"{fault['msg']} (is {fault['input']!r})"
                for fault in error.errors()
            )
        ) from error


def _declared_sizes(experiment: object) -> dict[str, object]:
    """Return what the pellet ought to measure, by the experiment's cell."""
    cell = experiment.get("cell") if isinstance(experiment, dict) else None
    sizes = {}
    for name in ("pellet_diameter", "pellet_thickness"):
        size_mm = cell.get(f"{name}_mm") if isinstance(cell, dict) else None
        if isinstance(size_mm, int | float):
            sizes[f"{name}_um"] = 1000.0 * size_mm
    return sizes


def _new_folder(results_dir: Path) -> Path:
    """Make the first free folder of a reanalysis."""
    for number in range(1, 1000):
        directory = results_dir / f"reanalysis_{number:02d}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            continue
        return directory
    raise RefusedError(f"{results_dir}: holds 999 reanalyses; remove some")


def _measure(
    tomogram: Path,
    settings: "MeasurementSettings",
    old: Row,
    directory: Path,
    pristine: Path | None,
    previous: Path | None,
) -> tuple[Row, Path | None]:
    """Return the new row, and the result file where there is something to go on."""
    from analysis.errors import DataError
    from analysis.measure import measure_tomogram
    from analysis.measurement.faces_volume import FacesVolume, faces_file
    from analysis.measurement.reference import Reference
    from analysis.volume import Hdf5Volume

    faces = faces_file(tomogram)
    kept = {name: old.get(name) for name in KEPT_COLUMNS if name in old}
    try:
        with Hdf5Volume(tomogram) as volume:
            result = measure_tomogram(
                volume,
                settings,
                reference=Reference(pristine, previous),
                lithium=_lithium(old),
                pictures_dir=directory / tomogram.stem,
                open_faces=(lambda *_: FacesVolume(faces)) if faces.exists() else None,
            )
    except DataError as error:
        return kept | {"reason": str(error)}, None
    row = kept | result.row()
    if result.crack is None:
        return row, None
    result_file = directory / f"{tomogram.stem}.measured.h5"
    result.write(result_file)
    return row, result_file


def _lithium(old: Row) -> "Lithium | None":
    """Return the lithium that the old row tells, from the measured charge."""
    from analysis.measurement.lithium import Lithium

    gross, net = old.get("lithium_volume_um3"), old.get("lithium_volume_net_um3")
    if not isinstance(gross, int | float):
        return None
    return Lithium(
        gross_um3=float(gross),
        net_um3=float(net) if isinstance(net, int | float) else 0.0,
    )


def _print_row(row: Row, old: Row) -> None:
    volume, before = row.get("crack_volume_um3"), old.get("crack_volume_um3")
    line = f"scan {row['scan_number']:>3}, label {row['label']}: "
    if isinstance(volume, int | float):
        line += f"crack volume {volume:.5g} um3"
        if isinstance(before, int | float):
            line += f" (was {before:.5g})"
    if row.get("reason"):
        line += f" [{row['reason']}]"
    print(line)


def _write_videos(rows: list[Row], tomograms: dict[int, Path], directory: Path) -> None:
    """Write the views of all states, one after the other."""
    from analysis.measurement.video import write_series

    states = [
        (
            directory / tomograms[int(row["scan_number"] or 0)].stem,
            f"N = {row['label']}",
        )
        for row in rows
    ]
    write_series(states, directory / "videos")


def _write_trends(rows: list[Row], directory: Path) -> None:
    """Write the laws of growth that fit the new crack volumes."""
    from analysis.measurement.trends import fit_growth

    columns = ("label", "crack_volume_um3", "crack_volume_sd_um3")
    series = []
    for row in rows:
        values = [row.get(name) for name in columns]
        try:
            series.append([float(value) for value in values if value is not None])
        except ValueError:
            continue
    series = [values for values in series if len(values) == len(columns)]
    if not series:
        return
    labels, volumes, deviations = zip(*series, strict=True)
    fits = [
        {
            "law": fit.law,
            "parameters": fit.parameters.tolist(),
            "parameter_sd": fit.parameter_sd.tolist(),
            "aic": fit.aic,
            "residual_sd_um3": fit.residual_sd_um3,
            "num_tomograms": fit.num_tomograms,
        }
        for fit in fit_growth(labels, volumes, deviations)
    ]
    write_text(directory / "growth.json", json.dumps(fits, indent=1) + "\n")
