"""``insitu-ct measure VOLUME``: measure the cracks of any volume."""

import argparse
import json
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from orchestrator.errors import ConfigurationError, InsituError


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "measure",
        help="measure the cracks of a volume",
        description="Measure pellet, cracks and thicknesses of a volume (HDF5, TIFF, "
        "folder of TIFF slices, NPY or NPZ). A volume of 0 and 1, or 0 and 255, is a "
        "mask whose higher value is the crack; in any other the crack is dark.",
    )
    parser.add_argument("volume", type=Path, help="file or folder")
    parser.add_argument(
        "--voxel-um", type=float, help="edge of a voxel, where the file does not say"
    )
    parser.add_argument("--dataset", help="path of the dataset in an HDF5 file")
    parser.add_argument(
        "--body",
        choices=("pellet", "whole"),
        default="pellet",
        help="isolate a pellet first (default), or take the whole volume",
    )
    for name in ("diameter", "thickness"):
        parser.add_argument(
            f"--pellet-{name}-mm",
            type=float,
            help=f"{name} of the pellet: tells a wrong voxel size",
        )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--pictures", type=Path, help="folder for slices as PNG")
    parser.add_argument("--out", type=Path, help="HDF5 file for mask and distributions")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure a volume and print the figures."""
    from analysis.measure import measure_tomogram
    from analysis.measurement.settings import MeasurementSettings
    from analysis.volume import open_volume

    if args.out is not None and args.out.exists():
        raise ConfigurationError(f"{args.out}: exists already; name a new file")
    declared_um = {
        f"pellet_{name}_um": None if size_mm is None else 1000 * size_mm
        for name, size_mm in (
            ("diameter", args.pellet_diameter_mm),
            ("thickness", args.pellet_thickness_mm),
        )
    }
    for name, size_um in declared_um.items():
        if size_um is not None and not size_um > 0:
            option = name.replace("_um", "-mm").replace("_", "-")
            raise ConfigurationError(
                f"--{option} {size_um / 1000:g}: a size is above 0; give millimetres"
            )
    settings = MeasurementSettings.model_validate({"body": args.body, **declared_um})
    with ExitStack() as stack:
        volume = open_volume(
            args.volume, voxel_size_um=args.voxel_um, dataset=args.dataset
        )
        if isinstance(volume, AbstractContextManager):
            stack.enter_context(volume)
        result = measure_tomogram(volume, settings, pictures_dir=args.pictures)
    row = result.row()
    if args.out is not None:
        result.write(args.out)
    if args.json:
        print(json.dumps(_answer(row), indent=1))
    else:
        for name, value in row.items():
            if value is not None:
                print(f"{name:32s} {_shown(value)}")
    if result.crack is None:
        raise InsituError(f"{args.volume}: {row['reason']}")
    return 0


def _answer(row: dict[str, float | int | str | None]) -> dict[str, object]:
    """Return the row with the widths together and the percolation by its usual name."""
    answer: dict[str, object] = dict(row)
    answer["crack_width_um"] = {
        name: row[f"crack_width_{name}_um"] for name in ("peak", "median", "mean")
    }
    penetrates = row["penetrates"]
    answer["percolates"] = None if penetrates is None else bool(penetrates)
    return answer


def _shown(value: float | int | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
