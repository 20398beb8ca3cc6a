"""The table of measurements is whole at any moment."""

import os

import h5py
import numpy as np
import pytest

from orchestrator.errors import RefusedError
from orchestrator.layout import Layout, scan_id
from orchestrator.results import ResultsTable, read_rows


def row(number, **values):
    return {"scan_number": number, "label": f"{number / 2 + 0.5:g}", **values}


def test_rows_come_back_with_their_types(tmp_path):
    table = ResultsTable(tmp_path)
    table.add(row(0, crack_volume_um3=None, reason="no crack", attempt=0))
    table.add(row(1, crack_volume_um3=2.75e7, penetrates=True, attempt=1))
    first, second = read_rows(table.csv_file)
    assert first["crack_volume_um3"] is None
    assert first["reason"] == "no crack"
    assert second["crack_volume_um3"] == 2.75e7
    assert second["penetrates"] is True
    assert second["label"] == "1"  # a label stays text
    assert second["reason"] is None


def test_a_scan_measured_again_takes_its_rows_place(tmp_path):
    table = ResultsTable(tmp_path)
    for number in (0, 2, 1):
        table.add(row(number, value=number))
    ResultsTable(tmp_path).add(row(1, value=10))
    assert [r["scan_number"] for r in read_rows(table.csv_file)] == [0, 1, 2]
    assert [r["value"] for r in read_rows(table.csv_file)] == [0, 10, 2]


def test_columns_stay_in_the_order_they_came(tmp_path):
    table = ResultsTable(tmp_path)
    table.add({"attempt": 0, "label": "0", "scan_number": 0, "b": 1, "a": 2})
    header = table.csv_file.read_text().splitlines()[0]
    assert header == "scan_number,label,attempt,simulated,b,a"


def test_units_stand_in_the_hdf5_table(tmp_path):
    table = ResultsTable(tmp_path)
    table.add(row(0, crack_volume_um3=None, engine="gridrec"))
    table.add(row(1, crack_volume_um3=5.0, engine="gridrec"))
    with h5py.File(table.hdf5_file) as file:
        group = file["entry/measurements"]
        np.testing.assert_array_equal(group["crack_volume_um3"][:], [np.nan, 5.0])
        assert group["crack_volume_um3"].attrs["units"] == "um3"
        assert group["engine"].asstr()[:].tolist() == ["gridrec", "gridrec"]


def test_a_write_that_fails_leaves_the_old_table(tmp_path, monkeypatch):
    table = ResultsTable(tmp_path)
    table.add(row(0, value=1))

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        table.add(row(1, value=2))
    assert [r["value"] for r in read_rows(table.csv_file)] == [1]


def test_a_folder_that_holds_something_is_refused_and_untouched(tmp_path):
    layout = Layout(tmp_path / "experiment")
    layout.create()
    layout.journal_file.write_bytes(b"irreplaceable")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RefusedError, match="already holds an experiment"):
        layout.create()
    assert sorted(tmp_path.rglob("*")) == before
    assert layout.journal_file.read_bytes() == b"irreplaceable"

    (tmp_path / "photos").mkdir()
    for name in "abcde":
        (tmp_path / "photos" / name).touch()
    with pytest.raises(RefusedError, match="a, b, c and 2 more"):
        Layout(tmp_path / "photos").create()
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError, match="a file of that name exists"):
        Layout(tmp_path / "file").create()


def test_folders_that_a_power_cut_left_empty_are_taken(tmp_path):
    cut = Layout(tmp_path / "experiment")
    cut.create(simulated=True)
    (tmp_path / "experiment" / "experiment.yaml.partial").write_text("experim")
    # It was to be a dry run; what is begun now is not, and must not be resumed as one.
    cut.create()
    assert not cut.simulation_dir.exists()
    file = tmp_path / "asked.yaml"
    file.write_text("experiment: {}")
    cut.keep(file)
    assert cut.experiment_file.read_text() == "experiment: {}"
    with pytest.raises(RefusedError, match="already holds an experiment"):
        cut.create()


def test_a_dry_run_that_was_cut_before_it_began_is_begun_again(tmp_path):
    # Its settings and a recorded voltage are written before the experiment's file.
    cut = Layout(tmp_path / "experiment")
    cut.create(simulated=True)
    cut.simulation_file.write_text("{}")
    cut.voltage_record_file.touch()
    (cut.simulation_dir / "settings.json.partial").write_text("{")
    cut.create(simulated=True)
    with pytest.raises(RefusedError, match="already holds"):
        cut.create()  # an experiment on the beamline is not begun in it
    cut.simulation_dir.joinpath("truth.h5").touch()
    with pytest.raises(RefusedError, match="already holds"):
        cut.create(simulated=True)


def test_the_experiments_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    layout = Layout(tmp_path / "experiment")
    layout.create()
    seen = []
    monkeypatch.setattr("os.fsync", lambda fd: seen.append(os.fstat(fd).st_size))
    file = tmp_path / "asked.yaml"
    file.write_text("experiment: {}")
    layout.keep(file)
    assert seen == [len("experiment: {}")]


def test_raw_files_have_the_attempt_in_their_name(tmp_path):
    files = Layout(tmp_path).raw_files(7, 2)
    assert files["flats"] == tmp_path / "raw" / "scan_0007_02_flats.h5"
    assert list(files) == ["darks", "flats", "projections"]
    assert scan_id(7, 2) == "scan_0007_02"


def test_an_attempt_of_which_any_file_is_there_is_not_free(tmp_path):
    layout = Layout(tmp_path)
    layout.raw_dir.mkdir()
    layout.raw_files(7, 0)["darks"].touch()  # cut before its flats
    layout.raw_files(7, 1)["projections"].touch()
    assert layout.first_free_attempt(7, 0) == 2
    assert layout.first_free_attempt(7, 3) == 3
    assert layout.first_free_attempt(8, 0) == 0


def test_each_part_and_attempt_of_a_half_cycle_has_its_voltage_file(tmp_path):
    name = Layout(tmp_path).electrochemistry_file
    assert name(7, 0).name == "half_cycle_07.bdf.csv"
    assert name(7, 1).name == "half_cycle_07_01.bdf.csv"
    assert name(7, 0, part=1).name == "half_cycle_07_part2.bdf.csv"
