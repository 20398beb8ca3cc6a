"""``insitu-ct check FILE.yaml``: whether the experiment may begin.

Checks the file; where it names process variables, also the beamline, the disk and the
time, without moving anything.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.channel_access import environment, set_environment
from orchestrator.config import Experiment, load_experiment
from orchestrator.errors import RefusedError
from orchestrator.layout import Layout

if TYPE_CHECKING:  # importing it reads the EPICS environment
    from orchestrator.preflight import Finding

MARKS = {"ok": "ok", "note": "note", "refuse": "NO"}


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("check", help="check whether an experiment may run")
    parser.add_argument("file", type=Path, help="the experiment's YAML file")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder that will be used"
    )
    parser.add_argument(
        "--simulated",
        action="store_true",
        help="check against the simulated beamline",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check the file, then what it asks of the beamline."""
    experiment = load_experiment(args.file)
    print(f"{args.file}: well described")
    for name, text in summary(experiment):
        print(f"  {name:<24}{text}")
    folder = args.data or experiment.output.directory / experiment.experiment.id
    layout = Layout(folder.resolve())
    if not args.simulated and experiment.beamline.pvs is None:
        print("  beamline.pvs is missing: the beamline was not looked at")
        return 0
    findings = _look(experiment, layout, simulated=args.simulated)
    show(findings)
    from orchestrator.preflight import refuse

    refuse(findings)
    return 0


def _look(
    experiment: Experiment, layout: Layout, *, simulated: bool
) -> "list[Finding]":
    with ExitStack() as stack:
        if simulated:
            from orchestrator.dry_run import simulation_settings
            from sim.beamline import SimulatedBeamline

            settings = simulation_settings(experiment, None)
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            source = stack.enter_context(SimulatedBeamline.start(settings, scratch))
            set_environment(source.environment)
            pvs = source.pvs
        elif experiment.beamline.pvs is not None:
            set_environment(environment(experiment.beamline.channel_access))
            pvs = experiment.beamline.pvs
        else:
            return []
        import epics

        from devices.beamline import connect_beamline
        from devices.errors import NotConnectedError
        from orchestrator.preflight import (
            Finding,
            analysis_speed,
            frame_shape,
            preflight,
        )

        if simulated:  # its end would be told as a lost connection
            epics.ca.disable_ca_messages()
        try:
            beamline = connect_beamline(pvs, experiment.beamline.connect_timeout_s)
        except NotConnectedError as error:
            raise RefusedError(str(error)) from error
        findings = [Finding("process_variables", "all answer")]
        existing = layout.directory.exists() and any(layout.directory.iterdir())
        if existing:
            findings.append(
                Finding(
                    "data_folder",
                    str(layout.directory),
                    "refuse",
                    "holds something already: give another with --data, or resume it",
                )
            )
        probed = _nearest_folder(layout.directory)
        findings += preflight(
            experiment, beamline, probed, experiment.steps, simulated=simulated
        )
        findings.append(analysis_speed(experiment, frame_shape(beamline)))
        return findings


def _nearest_folder(path: Path) -> Path:
    """Return the folder, or the one above it that exists; nothing is made."""
    while not path.is_dir():
        path = path.parent
    return path


def show(findings: "Iterable[Finding]") -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "note": "yellow", "refuse": "bold red"}
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    for finding in findings:
        table.add_row(
            Text(MARKS[finding.verdict], style=styles[finding.verdict]),
            Text(finding.name),
            Text(finding.value + (f"\n{finding.advice}" if finding.advice else "")),
        )
    Console(file=sys.stdout, highlight=False).print(table)


def summary(experiment: Experiment) -> list[tuple[str, str]]:
    """Return what an experiment asks for, derived figures included."""
    cycling, scan = experiment.cycling, experiment.scan
    area_cm2 = experiment.electrode_area_cm2
    lithium_um3 = experiment.half_cycle_lithium_um3
    return [
        ("experiment", f"{experiment.experiment.id}: {experiment.experiment.sample}"),
        ("electrode area", f"{area_cm2:.6g} cm2"),
        (
            "current",
            f"{experiment.current_ma:.6g} mA ({cycling.current_density_ma_cm2:g} "
            f"mA/cm2, first {cycling.first_direction})",
        ),
        ("half-cycle", f"{cycling.half_cycle_duration_s:g} s"),
        ("charge per half-cycle", f"{1e3 * experiment.half_cycle_charge_c:.4g} mC"),
        (
            "lithium per half-cycle",
            f"{lithium_um3:.5g} um3 ({lithium_um3 / (area_cm2 * 1e8):.3g} um)",
        ),
        ("half-cycles at most", f"{cycling.num_half_cycles}"),
        (
            "tomogram",
            f"{scan.num_projections} projections over {scan.range_deg:g} deg, "
            f"{scan.exposure_time_s:g} s each, {scan.pixel_size_um:g} um pixels",
        ),
    ]
