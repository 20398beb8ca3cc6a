"""The experiment's file: what it means, and what a wrong one is told."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from devices.pvs import simulated_pvs
from orchestrator.config import load_experiment
from orchestrator.errors import ConfigurationError

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def write(tmp_path):
    """Write the dry run's example, changed at one place, and return its path."""

    def change(section=None, remove=(), text=None, **values):
        path = tmp_path / "experiment.yaml"
        if text is None:
            content = yaml.safe_load((EXAMPLES / "dry_run.yaml").read_text())
            for key in remove:
                del content[section][key]
            if section:
                content.setdefault(section, {}).update(values)
            text = yaml.safe_dump(content, sort_keys=False)
        path.write_text(text)
        return path

    return change


def faults(path):
    with pytest.raises(ConfigurationError) as error:
        load_experiment(path)
    for fault in error.value.faults:
        assert "\n" not in fault
        assert str(path) in fault
    return error.value.faults


def test_paper_gives_the_papers_charge_and_lithium():
    paper = load_experiment(EXAMPLES / "paper.yaml")
    assert paper.electrode_area_cm2 == pytest.approx(0.031416, rel=1e-5)
    assert paper.current_ma == pytest.approx(4.712e-3, rel=1e-4)
    assert paper.half_cycle_charge_c == pytest.approx(8.482e-3, rel=1e-4)
    assert paper.half_cycle_lithium_um3 == pytest.approx(1.1425e6, rel=1e-4)


def test_paper_begins_pristine_and_reverses_the_current():
    first, charge, scan, discharge = load_experiment(EXAMPLES / "paper.yaml").steps[:4]
    assert (first.label, charge.label, scan.label, discharge.label) == (
        "0",
        "1",
        "1",
        "1.5",
    )
    assert charge.current_ma == pytest.approx(4.712e-3, rel=1e-4)
    assert discharge.current_ma == -charge.current_ma


def test_an_unknown_key_is_refused_with_its_line_and_a_suggestion(write):
    (fault,) = faults(write("scan", num_projection=360))
    assert re.search(r"yaml:\d+: scan\.num_projection: unknown key", fault)
    assert "did you mean num_projections" in fault


def test_the_line_is_the_keys_line(write):
    path = write("cell", pellet_diameter_mm=-1.0)
    (fault,) = faults(path)
    line = int(re.search(r"yaml:(\d+):", fault)[1])
    assert "pellet_diameter_mm: -1.0" in path.read_text().splitlines()[line - 1]


def test_a_wrong_unit_in_the_key_is_converted(write):
    found = faults(write("scan", remove=["exposure_time_s"], exposure_time_ms=190))
    assert any("write exposure_time_s: 0.19" in fault for fault in found)


def test_a_wrong_unit_in_the_current_density(write):
    found = faults(
        write(
            "cycling",
            remove=["current_density_ma_cm2"],
            current_density_ua_cm2=150,
        )
    )
    assert any("write current_density_ma_cm2: 0.15" in fault for fault in found)


@pytest.mark.parametrize(
    ("text", "number"), [("190 ms", "0.19"), ("0,19 s", "0.19"), ("0.19", "0.19")]
)
def test_a_unit_in_the_value_is_converted(write, text, number):
    (fault,) = faults(write("scan", exposure_time_s=text))
    assert "is text; write the bare number in s" in fault
    assert f"exposure_time_s: {number}" in fault


@pytest.mark.parametrize("value", [150, 0.00015])
def test_a_current_of_the_wrong_magnitude_is_refused(write, value):
    (fault,) = faults(write("cycling", current_density_ma_cm2=value))
    assert f"{value:g} mA/cm2" in fault
    assert "0.001 to 10 mA/cm2" in fault
    assert "check the unit" in fault


def test_a_current_that_is_meant_can_be_allowed(write):
    content = yaml.safe_load(write().read_text())
    content["cycling"]["current_density_ma_cm2"] = 15.0
    content["cell"]["current_density_max_ma_cm2"] = 20.0
    path = write(text=yaml.safe_dump(content))
    assert load_experiment(path).current_ma == pytest.approx(15 * 3.1416e-4, rel=1e-4)


def test_an_exposure_longer_than_the_frame_period_is_refused(write):
    (fault,) = faults(write("scan", exposure_time_s=0.3))
    assert "frame_period_s is 0.2 s" in fault
    assert "0.31 s" in fault


@pytest.mark.parametrize(
    ("sync", "prefix"),
    [("position_compare", "BL:ZEBRA:"), ("encoder_samples", None)],
)
def test_a_beamline_may_lack_a_position_compare(write, sync, prefix):
    path = write("scan", sync=sync)
    content = yaml.safe_load(path.read_text())
    pvs = simulated_pvs().model_dump() | {"position_compare": prefix}
    content["beamline"] = {"pvs": pvs}
    path.write_text(yaml.safe_dump(content))
    assert load_experiment(path).scan.sync == sync

    pvs["position_compare"] = None
    content["scan"]["sync"] = "position_compare"
    path.write_text(yaml.safe_dump(content))
    (fault,) = faults(path)
    assert "set scan.sync to encoder_samples" in fault


def test_a_value_out_of_range_names_range_and_unit(write):
    (fault,) = faults(write("scan", exposure_time_s=0))
    assert "scan.exposure_time_s: 0 is not allowed" in fault
    assert "a number in s, greater than 0 and at most 60" in fault


@pytest.mark.parametrize("value", [True, "yes", None, [1], {"a": 1}])
def test_only_a_number_is_a_number(write, value):
    (fault,) = faults(write("scan", exposure_time_s=value))
    assert "scan.exposure_time_s" in fault


def test_a_missing_key_says_what_it_is(write):
    (fault,) = faults(write("scan", remove=["num_projections"]))
    assert "scan.num_projections: missing; it is required (frames over" in fault


def test_every_fault_is_told_at_once(write):
    found = faults(write("scan", exposure_time_s=-1, num_projections=1.5, typo=1))
    assert len(found) == 3


def test_a_choice_names_the_choices(write):
    (fault,) = faults(write("cell", anode="left"))
    assert "'left' is not allowed; it must be one of top, bottom" in fault


@pytest.mark.parametrize("name", ["../up", "a/b", "", " ", ".hidden", "x" * 65, "a.b"])
def test_an_id_cannot_leave_the_data_folder(write, name):
    (fault,) = faults(write("experiment", id=name))
    assert "experiment.id" in fault


def test_a_key_given_twice_is_refused(write):
    text = (EXAMPLES / "dry_run.yaml").read_text()
    text = text.replace("  num_darks: 10", "  num_darks: 10\n  num_darks: 20")
    (fault,) = faults(write(text=text))
    assert "scan.num_darks is given twice" in fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just text",
        "- a\n- list",
        "a: [1, 2",
        "a: &x 1\nb: *x",
        "a: &x\n  b: *x",
        "a: !!python/object/apply:os.system ['true']",
        "\tkey: 1",
        "a: .nan",
        "a: 1e999",
        "a:\n" * 30,
        "[" * 5000,
        "? [a]\n: b",
        "%YAML 9.9\n---\na: b",
        "a: 2026-01-01",
        "\x00",
        "---\na: 1\n---\nb: 2\n",
    ],
)
def test_what_is_no_experiment_is_told_so(write, text):
    assert faults(write(text=text))


def test_exponents_without_a_dot_are_numbers(write):
    text = (EXAMPLES / "dry_run.yaml").read_text()
    text = text.replace("half_cycle_duration_s: 180", "half_cycle_duration_s: 1.8e2")
    text = text.replace("sample_out_mm: 1.0", "sample_out_mm: 1e0")
    experiment = load_experiment(write(text=text))
    assert experiment.cycling.half_cycle_duration_s == 180
    assert experiment.scan.sample_out_mm == 1


def test_a_missing_file_and_a_binary_file(tmp_path):
    assert "no such file" in faults(tmp_path / "none.yaml")[0]
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    assert "not UTF-8" in faults(binary)[0]
    assert "cannot be read" in faults(tmp_path)[0]


def test_the_model_is_frozen():
    experiment = load_experiment(EXAMPLES / "dry_run.yaml")
    with pytest.raises(ValueError, match="frozen"):
        experiment.cell.anode = "bottom"


def test_every_key_is_described():
    spec = importlib.util.spec_from_file_location(
        "generate_configuration", EXAMPLES.parent / "docs/generate_configuration.py"
    )
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    described = generator.DOCUMENT.read_text().partition(generator.MARK)[2]
    assert described == generator.tables(), "run python docs/generate_configuration.py"
