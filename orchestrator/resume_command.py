"""``insitu-ct resume DIR``: go on with an experiment that was cut off."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from orchestrator.channel_access import environment, set_environment
from orchestrator.config import Experiment, load_experiment
from orchestrator.ending import tell_end
from orchestrator.errors import ConfigurationError, RefusedError
from orchestrator.layout import Layout
from orchestrator.lock import ExperimentLock
from orchestrator.log import log_to


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "resume", help="go on with an experiment that was cut off"
    )
    parser.add_argument("directory", type=Path, help="data folder of the experiment")
    parser.add_argument(
        "--force",
        action="append",
        default=[],
        metavar="CHECK",
        help="go on although this check refuses; it is noted in the journal",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the beamline safe, see what was done, and do the rest."""
    layout = Layout(args.directory.resolve())
    if not layout.experiment_file.exists():
        raise ConfigurationError(
            f"{args.directory}: no {layout.experiment_file.name} in it; give the data "
            "folder of an experiment"
        )
    experiment = load_experiment(layout.experiment_file)
    with ExperimentLock(layout.lock_file):
        log_to(layout.log_file)
        if layout.simulation_dir.is_dir():
            return _resume_dry_run(experiment, layout, args.force)
        return _resume(experiment, layout, args.force)


def _resume_dry_run(
    experiment: Experiment, layout: Layout, force: Sequence[str]
) -> int:
    from orchestrator.dry_run import kept_settings, run_dry, tell_comparison

    print(f"SIMULATED experiment {experiment.experiment.id} in {layout.directory}")
    settings = kept_settings(layout, experiment)
    outcome, comparison = run_dry(
        experiment, layout, settings, resumed=True, force=force
    )
    return tell_end(outcome, layout.directory, *tell_comparison(comparison))


def _resume(experiment: Experiment, layout: Layout, force: Sequence[str]) -> int:
    pvs = experiment.beamline.pvs
    if pvs is None:
        raise RefusedError(
            f"{layout.experiment_file}: beamline.pvs is missing; this experiment was "
            "not run on a beamline"
        )
    set_environment(environment(experiment.beamline.channel_access))

    from orchestrator.session import Session  # reads the environment

    print(f"experiment {experiment.experiment.id} in {layout.directory}")
    session = Session(experiment, layout, simulated=False, force=force)
    outcome = session.run(pvs, resumed=True)
    return tell_end(outcome, layout.directory)
