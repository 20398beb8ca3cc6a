"""What a dry run was asked for lies in its data folder, for `resume`."""

from pathlib import Path

import pytest

import orchestrator
from orchestrator.config import load_experiment
from orchestrator.dry_run import keep_settings, kept_settings, simulation_settings
from orchestrator.dry_run_command import EXAMPLE
from orchestrator.errors import ConfigurationError
from orchestrator.layout import Layout

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def experiment():
    return load_experiment(EXAMPLES / "dry_run.yaml")


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "dry-run")
    layout.create(simulated=True)
    return layout


def test_speed_and_faults_are_kept(experiment, layout):
    asked = simulation_settings(experiment, 3.5)
    asked = asked.model_copy(update={"faults": ("beam_dump@scan:2+0.5",)})
    keep_settings(layout, asked)
    assert kept_settings(layout, experiment) == asked
    assert kept_settings(layout, experiment).clock_factor == 3.5


def test_a_recorded_voltage_is_found_where_the_folder_is_now(experiment, layout):
    asked = simulation_settings(experiment, None)
    record = layout.voltage_record_file
    keep_settings(layout, asked.model_copy(update={"voltage_record": record}))
    moved = Layout(layout.directory.rename(layout.directory.with_name("elsewhere")))
    kept = kept_settings(moved, experiment)
    assert kept.voltage_record == moved.voltage_record_file
    assert kept.voltage_record != record


def test_an_older_folder_goes_by_its_experiment_file(experiment, layout):
    assert kept_settings(layout, experiment) == simulation_settings(experiment, None)


@pytest.mark.parametrize("content", ["", "{", '{"clock_factor": "fast"}'])
def test_damaged_settings_are_told_in_one_line(experiment, layout, content):
    layout.simulation_file.write_text(content)
    with pytest.raises(
        ConfigurationError, match=r"settings\.json: .*remove it"
    ) as told:
        kept_settings(layout, experiment)
    assert len(str(told.value).splitlines()) == 1


def test_the_example_is_part_of_the_package():
    package = Path(orchestrator.__file__).parent
    assert EXAMPLE.is_relative_to(package)
    assert EXAMPLE.read_bytes() == (EXAMPLES / "dry_run.yaml").read_bytes()
