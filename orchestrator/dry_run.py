"""A dry run: the whole experiment on the simulated beamline, then against its truth.

The same plans, devices and analysis as on a beamline; only what answers Channel Access
is simulated, and every record says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import Any

import h5py

from orchestrator.channel_access import set_environment
from orchestrator.config import Experiment
from orchestrator.errors import ConfigurationError
from orchestrator.layout import Layout, scan_id
from orchestrator.outcome import Outcome
from orchestrator.results import Row, Value, read_rows, write_rows, write_text
from sim.beamline import SimulatedBeamline
from sim.settings import SimulationSettings

COMPARED = ("crack_volume_um3", "pellet_volume_um3")


def simulation_settings(
    experiment: Experiment, clock_factor: float | None
) -> SimulationSettings:
    """Return the simulated beamline that fits the experiment's cell and scan.

    Raises
    ------
    ConfigurationError
        The file has no section simulation, or its cell cannot crack as asked.
    """
    simulation = experiment.simulation
    if simulation is None:
        raise ConfigurationError(
            "the file has no section simulation, which a dry run needs; see "
            "examples/dry_run.yaml"
        )
    cell = simulation.cell.model_copy(
        update={
            "pellet_diameter_mm": experiment.cell.pellet_diameter_mm,
            "pellet_thickness_mm": experiment.cell.pellet_thickness_mm,
            "lithium_thickness_mm": experiment.cell.lithium_thickness_mm,
            "half_cycle_charge_c": experiment.half_cycle_charge_c,
        }
    )
    camera = simulation.camera.model_copy(
        update={"pixel_size_um": experiment.scan.pixel_size_um}
    )
    update: dict[str, object] = {"cell": cell, "camera": camera}
    if clock_factor is not None:
        update["clock_factor"] = clock_factor
    settings = SimulationSettings.model_validate({**dict(simulation), **update})
    _check_cracks(settings)
    return settings


def _check_cracks(settings: SimulationSettings) -> None:
    """Refuse a cell that the simulation could not go on with once it cracks."""
    from sim.growth import check_cracks  # compiles

    try:
        check_cracks(settings.cell, settings.camera, settings.seed)
    except ValueError as error:
        raise ConfigurationError(f"simulation.cell: {error}") from error


def keep_settings(layout: Layout, settings: SimulationSettings) -> None:
    """Write the simulated beamline as it was asked for, for `kept_settings`."""
    write_text(layout.simulation_file, settings.model_dump_json(indent=1) + "\n")


def kept_settings(layout: Layout, experiment: Experiment) -> SimulationSettings:
    """Return the simulated beamline that a dry run began with.

    The command line's ``--speed``, ``--fault`` and ``--voltage-from`` are in it; a
    recorded voltage lies in the data folder, wherever that is now.

    Raises
    ------
    ConfigurationError
        What was kept cannot be read.
    """
    file = layout.simulation_file
    try:
        settings = SimulationSettings.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return simulation_settings(experiment, None)
    except ValueError as error:
        raise ConfigurationError(
            f"{file}: it does not hold the settings of a simulated beamline "
            f"({' '.join(str(error).split())}); remove it to go on with those of "
            f"{layout.experiment_file.name}"
        ) from error
    if settings.voltage_record is None:
        return settings
    return settings.model_copy(update={"voltage_record": layout.voltage_record_file})


def default_folder(experiment: Experiment) -> Path:
    """Return a data folder for a dry run that no other one has."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path("dry-run") / f"{experiment.experiment.id}-{stamp}"


@dataclass(frozen=True)
class TruthComparison:
    """Measured crack volumes beside the simulation's truth.

    Attributes
    ----------
    compared : int
        Tomograms in which a crack was there and measured.
    rms_error_frac : float or None
        Root mean square of measured / true - 1 over these.
    """

    compared: int
    rms_error_frac: float | None


def run_dry(
    experiment: Experiment,
    layout: Layout,
    settings: SimulationSettings,
    *,
    resumed: bool = False,
    force: Sequence[str] = (),
) -> tuple[Outcome, TruthComparison | None]:
    """Run the experiment on the simulated beamline and compare with its truth.

    Returns
    -------
    outcome : Outcome
        How the experiment ended.
    comparison : TruthComparison or None
        None where the simulation wrote no truth.
    """
    with SimulatedBeamline.start(settings, layout.simulation_dir) as beamline:
        set_environment(beamline.environment)
        from orchestrator.session import Session  # reads the environment

        session = Session(experiment, layout, simulated=True, force=force)
        outcome = session.run(beamline.pvs, resumed=resumed)
    if not beamline.truth_file.exists():
        return outcome, None
    return outcome, compare_with_truth(layout, beamline.truth_file)


def tell_comparison(comparison: TruthComparison | None) -> list[str]:
    """Return the comparison as lines for the operator."""
    if comparison is None or comparison.rms_error_frac is None:
        return []
    return [
        f"crack volume against the simulation's truth: "
        f"{100 * comparison.rms_error_frac:.1f} % rms over "
        f"{comparison.compared} tomograms"
    ]


def compare_with_truth(layout: Layout, truth_file: Path) -> TruthComparison:
    """Write the measured crack volumes beside the true ones."""
    rows: list[Row] = []
    errors: list[float] = []
    with h5py.File(truth_file, "r") as file:
        for row in read_rows(layout.results_dir / "measurements.csv"):
            number, attempt = int(row["scan_number"] or 0), int(row["attempt"] or 0)
            truth = file.get(scan_id(number, attempt))
            compared: dict[str, Value] = {
                "scan_number": number,
                "label": row["label"],
                "attempt": attempt,
                "simulated": True,
            }
            for name in COMPARED:
                measured = row.get(name)
                true = None if truth is None else _number(truth, name)
                compared[name] = measured
                compared[_true(name)] = true
                if name == "crack_volume_um3" and true:
                    error = None
                    if isinstance(measured, int | float):
                        error = measured / true - 1
                        errors.append(error)
                    compared["crack_volume_error_frac"] = error
            rows.append(compared)
    write_rows(layout.results_dir / "truth_comparison.csv", rows)
    rms = sqrt(sum(error**2 for error in errors) / len(errors)) if errors else None
    return TruthComparison(len(errors), rms)


def _number(group: Any, name: str) -> float | None:
    dataset = group.get(name)
    return float(dataset[()]) if isinstance(dataset, h5py.Dataset) else None


def _true(name: str) -> str:
    """Return the name of the true value: ``crack_volume_true_um3``."""
    stem, _, unit = name.rpartition("_")
    return f"{stem}_true_{unit}"
