"""``insitu-ct check FILE.yaml``: is the experiment well described, what will it be."""

import argparse
from pathlib import Path

from orchestrator.config import Experiment, load_experiment


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("check", help="check an experiment's file")
    parser.add_argument("file", type=Path, help="the experiment's YAML file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the file and print what it asks for."""
    experiment = load_experiment(args.file)
    print(f"{args.file}: well described")
    for name, text in summary(experiment):
        print(f"  {name:<28}{text}")
    return 0


def summary(experiment: Experiment) -> list[tuple[str, str]]:
    """Return what an experiment asks for, derived figures included."""
    cycling, scan = experiment.cycling, experiment.scan
    return [
        ("experiment", f"{experiment.experiment.id}: {experiment.experiment.sample}"),
        ("electrode area", f"{experiment.electrode_area_cm2:.6g} cm2"),
        (
            "current",
            f"{experiment.current_ma:.6g} mA ({cycling.current_density_ma_cm2:g} "
            f"mA/cm2, first {cycling.first_direction})",
        ),
        ("half-cycle", f"{cycling.half_cycle_duration_s:g} s"),
        ("charge per half-cycle", f"{1e3 * experiment.half_cycle_charge_c:.4g} mC"),
        (
            "lithium per half-cycle",
            f"{experiment.half_cycle_lithium_um3:.5g} um3 "
            f"({experiment.half_cycle_lithium_um3 / (experiment.electrode_area_cm2 * 1e8):.3g} um)",  # noqa: E501
        ),
        ("half-cycles at most", f"{cycling.num_half_cycles}"),
        (
            "tomogram",
            f"{scan.num_projections} projections over {scan.range_deg:g} deg, "
            f"{scan.exposure_time_s:g} s each, {scan.pixel_size_um:g} um pixels",
        ),
    ]
