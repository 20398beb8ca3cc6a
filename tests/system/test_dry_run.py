"""A whole experiment through the command line, on the simulated beamline.

Three half-cycles, the third with a short, on a small detector: what an operator gets
from `insitu-ct dry-run`, checked from the files alone.
"""

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import yaml
from event_model import DocumentNames, schema_validators

from orchestrator.journal import read_entries
from orchestrator.record import read_documents
from orchestrator.results import read_rows

EXAMPLES = Path(__file__).parents[2] / "examples"
HALF_CYCLE_S = 90.0
CHARGE_C = 0.15e-3 * np.pi / 4 * 0.020**2 * HALF_CYCLE_S

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


# whatever the program starts inherits it, orphans too
MARK = f"INSITU_CT_TEST_{os.getpid()}"


def insitu_ct(*arguments, timeout=280):
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={k: v for k, v in os.environ.items() if not k.startswith("EPICS")}
        | {MARK: MARK},
    )


@pytest.fixture(scope="module")
def experiment_file(tmp_path_factory):
    content = yaml.safe_load((EXAMPLES / "dry_run.yaml").read_text())
    content["experiment"]["title"] = "A <b>short</b> one"
    content["cycling"].update(half_cycle_duration_s=HALF_CYCLE_S, num_half_cycles=5)
    content["scan"].update(num_projections=240, num_darks=5, num_flats=10)
    content["simulation"]["cell"]["short"].update(half_cycle=3, fraction=0.5)
    path = tmp_path_factory.mktemp("yaml") / "short.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def dry_run(experiment_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "experiment"
    run = insitu_ct("dry-run", experiment_file, "--data", folder)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder, run


@pytest.fixture(scope="module")
def folder(dry_run):
    return dry_run[0]


@pytest.fixture(scope="module")
def documents(folder):
    return list(read_documents(folder / "documents.jsonl"))


@pytest.fixture(scope="module")
def runs(documents):
    """Start and stop of each run, in order."""
    stops = {doc["run_start"]: doc for name, doc in documents if name == "stop"}
    return [(doc, stops[doc["uid"]]) for name, doc in documents if name == "start"]


@pytest.fixture(scope="module")
def rows(folder):
    return read_rows(folder / "results" / "measurements.csv")


def test_it_ends_with_the_path_of_the_report(dry_run):
    folder, run = dry_run
    assert run.stdout.splitlines()[-1] == f"report: {folder}/report/index.html"
    assert "Traceback" not in run.stdout + run.stderr
    assert "SIMULATED" in run.stdout
    assert re.search(r"crack volume against the simulation's truth: .* %", run.stdout)


def test_the_short_stops_it_and_one_tomogram_follows(folder, runs):
    plans = [(start["plan_name"], start["label"]) for start, _ in runs]
    assert plans == [
        ("tomogram", "0"),
        ("half_cycle", "1"),
        ("tomogram", "1"),
        ("half_cycle", "1.5"),
        ("tomogram", "1.5"),
        ("half_cycle", "2"),
        ("tomogram", "2"),
    ]
    assert all(stop["exit_status"] == "success" for _, stop in runs)
    ended = read_entries(folder / "journal.sqlite")[-1]
    assert ended.kind == "ended"
    assert ended.details == {"outcome": "short_circuit"}
    assert "short circuit in half-cycle 3" in ended.text


def test_the_journal_is_write_ahead(folder):
    entries = read_entries(folder / "journal.sqlite")
    assert entries[0].kind == "session"
    assert entries[0].details["simulated"] is True
    for index in range(7):
        kinds = [e.kind for e in entries if e.step_index == index]
        assert kinds == ["begin", "done"]


def test_each_half_cycle_passes_its_charge_once_and_in_turn(folder):
    entries = read_entries(folder / "journal.sqlite")
    charges = [
        e.details["charge_c"]
        for e in entries
        if e.kind == "done" and "charge_c" in e.details
    ]
    assert charges[0] == pytest.approx(CHARGE_C, rel=2e-3)
    assert charges[1] == pytest.approx(-CHARGE_C, rel=2e-3)
    # cut by the short, half-way; up to a second passes until the guard is sure
    assert 0.5 * CHARGE_C < charges[2] < 0.6 * CHARGE_C


def test_charge_stands_in_the_metadata_of_each_tomogram(runs):
    scans = [start for start, _ in runs if start["plan_name"] == "tomogram"]
    gross = [scan["gross_charge_c"] / CHARGE_C for scan in scans]
    net = [scan["net_charge_c"] / CHARGE_C for scan in scans]
    assert gross[:3] == pytest.approx([0, 1, 2], abs=4e-3)
    assert net[:3] == pytest.approx([0, 1, 0], abs=4e-3)
    assert all(scan["simulated"] for scan in scans)


@pytest.fixture(scope="module")
def measured_s(folder):
    """Give when each scan was measured, in the order of the journal."""
    entries = read_entries(folder / "journal.sqlite")
    return {e.text: e.time_s for e in entries if e.kind == "measured"}


@pytest.fixture(scope="module")
def scan_ends_s(runs):
    """Give when each scan ended."""
    return {
        f"scan_{start['scan_number']:04d}_{start['attempt']:02d}": stop["time"]
        for start, stop in runs
        if start["plan_name"] == "tomogram"
    }


def test_every_tomogram_is_measured_once_and_in_order(rows, measured_s, scan_ends_s):
    assert [row["label"] for row in rows] == ["0", "1", "1.5", "2"]
    assert list(measured_s) == sorted(scan_ends_s)


# Minutes of the simulation pass in seconds: only a machine that does nothing else
# can be asked to keep up with that.
@pytest.mark.slow
def test_every_tomogram_is_measured_before_the_next_ends(measured_s, scan_ends_s):
    for scan, following in zip(
        sorted(scan_ends_s), sorted(scan_ends_s)[1:], strict=False
    ):
        assert measured_s[scan] < scan_ends_s[following]


def test_a_shorted_cell_has_a_reason_in_place_of_a_resistance(rows):
    assert all(row["interrupt_resistance_ohm"] > 0 for row in rows[1:-1])
    assert rows[-1]["interrupt_resistance_ohm"] is None
    assert "hard_short" in rows[-1]["interrupt_resistance_missing"]


def test_lithium_and_filling_follow_from_the_measured_charge(rows):
    for row in rows:
        lithium = row["gross_charge_c"] * 6.94 / (96485.33 * 0.534) * 1e12
        assert row["lithium_volume_um3"] == pytest.approx(lithium, rel=1e-6)
        assert row["simulated"] is True
    assert rows[0]["filling_fraction"] is None
    for row in rows[1:]:
        assert row["filling_fraction"] == pytest.approx(
            row["lithium_volume_um3"] / row["crack_volume_um3"], rel=1e-3
        )


def test_crack_volumes_are_compared_with_the_truth(folder):
    with open(folder / "results" / "truth_comparison.csv", newline="") as file:
        compared = list(csv.DictReader(file))
    assert [row["label"] for row in compared] == ["0", "1", "1.5", "2"]
    errors = [float(row["crack_volume_error_frac"]) for row in compared[1:]]
    assert max(map(abs, errors)) < 0.25, errors  # one voxel is 1/4 of a crack's width


def test_documents_pass_the_schemas(documents):
    for name, document in documents:
        schema_validators[DocumentNames[name]].validate(document)
    assert Counter(name for name, _ in documents)["start"] == 7


def test_scan_files_hold_every_frame_and_link_to_raw(folder):
    for number in range(4):
        with h5py.File(folder / "scans" / f"scan_{number:04d}.nxs") as file:
            data = file["entry/instrument/detector/data"]
            assert data.shape == (255, 224, 320)
            keys = file["entry/instrument/detector/image_key"][:]
            assert np.bincount(keys).tolist() == [240, 10, 5]
            means = [data[np.flatnonzero(keys == key)[0]].mean() for key in range(3)]
            assert means[2] < 200 < means[0] < means[1]  # dark, projection, flat
            angles = file["entry/sample/rotation_angle"][:][keys == 0]
            steps = np.diff(angles)
            assert steps == pytest.approx(np.full(239, 0.75), abs=1e-3)
            assert file["entry/title"][()].startswith(b"SIMULATED")
    with h5py.File(folder / "scans" / "scan_0001.nxs") as file:
        group = file["entry/electrochemistry"]
        assert group["voltage"].shape == group["time"].shape
        assert len(group["voltage"]) > 100
        assert group["half_cycle"][()] == 1


def test_scan_files_pass_nxvalidate(folder):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "nexusformat.scripts.nxvalidate"),
            *("-a", "NXtomo", str(folder / "scans" / "scan_0001.nxs")),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Total number of errors: 0" in run.stdout + run.stderr


def test_voltage_files_hold_time_voltage_and_current(folder):
    for half_cycle, sign in ((1, 1), (2, -1)):
        path = folder / "electrochemistry" / f"half_cycle_{half_cycle:02d}.bdf.csv"
        with open(path, newline="") as file:
            samples = list(csv.DictReader(file))
        assert {"test_time_second", "voltage_volt", "current_ampere"} <= set(samples[0])
        current = np.array([float(sample["current_ampere"]) for sample in samples])
        assert np.median(sign * current) == pytest.approx(
            CHARGE_C / HALF_CYCLE_S, rel=0.01
        )


def test_the_report_escapes_what_users_type(folder):
    page = (folder / "report" / "index.html").read_text()
    assert "<b>short</b>" not in page
    assert "SIMULATED" in page.upper()


def test_the_configuration_is_kept(folder, experiment_file):
    assert (folder / "experiment.yaml").read_bytes() == experiment_file.read_bytes()


def test_the_log_has_no_traceback(folder):
    assert "Traceback" not in (folder / "log.txt").read_text()


def test_no_process_is_left(dry_run):
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == MARK:
                left.append(process.cmdline())
    assert left == []


def test_a_folder_that_holds_an_experiment_is_refused(folder, experiment_file):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run = insitu_ct("dry-run", experiment_file, "--data", folder)
    assert run.returncode == 3
    assert "already holds an experiment; nothing was touched" in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_machine_readable_rows_are_json(folder):
    for entry in read_entries(folder / "journal.sqlite"):
        json.dumps(entry.details, allow_nan=True)
