"""``insitu-ct run FILE.yaml``: the experiment, on the beamline."""

import argparse
from pathlib import Path

from orchestrator.channel_access import environment, set_environment
from orchestrator.config import load_experiment
from orchestrator.ending import tell_end
from orchestrator.errors import ConfigurationError, RefusedError
from orchestrator.layout import Layout
from orchestrator.lock import ExperimentLock
from orchestrator.log import log_to


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("run", help="run an experiment on the beamline")
    parser.add_argument("file", type=Path, help="the experiment's YAML file")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder (default: <output.directory>/<experiment.id>)",
    )
    parser.add_argument(
        "--force",
        action="append",
        default=[],
        metavar="CHECK",
        help="go on although this check refuses; it is noted in the journal",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run it and print where the report lies."""
    experiment = load_experiment(args.file)
    pvs = experiment.beamline.pvs
    if pvs is None:
        raise ConfigurationError(
            f"{args.file}: beamline.pvs is missing; name the beamline's process "
            "variables, or use 'insitu-ct dry-run'"
        )
    folder = args.data or experiment.output.directory / experiment.experiment.id
    layout = Layout(folder.resolve())
    layout.create()
    layout.keep(args.file)
    log_to(layout.log_file)
    set_environment(environment(experiment.beamline.channel_access))

    from orchestrator.session import Session  # reads the environment

    print(f"experiment {experiment.experiment.id} in {layout.directory}")
    with ExperimentLock(layout.lock_file):
        session = Session(experiment, layout, simulated=False, force=args.force)
        try:
            outcome = session.run(pvs)
        except RefusedError:
            print(f"nothing was begun; its folder is now {layout.set_aside()}")
            raise
        return tell_end(outcome, layout.directory)
