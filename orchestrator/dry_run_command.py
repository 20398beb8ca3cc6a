"""``insitu-ct dry-run``: the whole experiment on the simulated beamline."""

import argparse
from pathlib import Path

from orchestrator.config import load_experiment
from orchestrator.ending import tell_end
from orchestrator.errors import ConfigurationError
from orchestrator.layout import Layout
from orchestrator.lock import ExperimentLock
from orchestrator.log import log_to
from orchestrator.rehearsal import read_rehearsal
from sim.faults import parse_fault

EXAMPLE = Path(__file__).parent / "templates" / "dry_run.yaml"


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "dry-run", help="run an experiment on the simulated beamline"
    )
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=EXAMPLE,
        help="the experiment's YAML file (default: a small example)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder (default: dry-run/<id>-<time>)",
    )
    parser.add_argument(
        "--speed",
        type=float,
        metavar="X",
        help="simulated seconds per second, instead of simulation.clock_factor",
    )
    parser.add_argument(
        "--voltage-from",
        type=Path,
        metavar="FILE",
        help="let the cell show a recorded voltage: Gamry DTA, EC-Lab text or BDF",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME@WHEN",
        help="inject a fault, e.g. beam_dump@scan:2+0.5; may be given again",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it and print where the report lies."""
    from orchestrator.dry_run import (
        default_folder,
        keep_settings,
        run_dry,
        simulation_settings,
        tell_comparison,
    )

    experiment = load_experiment(args.file)
    if args.speed is not None and not 0.01 <= args.speed <= 10_000:
        raise ConfigurationError(
            f"--speed is {args.speed:g}; it must be between 0.01 and 10000 simulated "
            "seconds per second"
        )
    settings = simulation_settings(experiment, args.speed)
    settings = settings.model_copy(
        update={"faults": (*settings.faults, *_asked_for(args.fault))}
    )
    rehearsal = args.voltage_from and read_rehearsal(args.voltage_from)
    layout = Layout((args.data or default_folder(experiment)).resolve())
    layout.create(simulated=True)
    if rehearsal:
        record = layout.voltage_record_file
        rehearsal.write(record)
        settings = settings.model_copy(update={"voltage_record": record})
    keep_settings(layout, settings)
    layout.keep(args.file)
    log_to(layout.log_file)
    print(f"SIMULATED experiment {experiment.experiment.id} in {layout.directory}")
    with ExperimentLock(layout.lock_file):
        outcome, comparison = run_dry(experiment, layout, settings)
        return tell_end(outcome, layout.directory, *tell_comparison(comparison))


def _asked_for(faults: list[str]) -> tuple[str, ...]:
    """Return the faults of the command line once each of them is known."""
    for fault in faults:
        try:
            parse_fault(fault)
        except ValueError as error:
            raise ConfigurationError(f"--fault: {error}") from error
    return tuple(faults)
