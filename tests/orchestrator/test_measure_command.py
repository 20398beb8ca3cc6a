"""``insitu-ct measure`` and ``insitu-ct reanalyse`` as an operator uses them."""

import csv
import json

import h5py
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from orchestrator.cli import main

SHAPE = (64, 96, 96)
VOXEL_UM = 0.8


def cracked_disc(crack_px=4.0, seed=0):
    """Return a noisy disc with one crack across, and the crack's volume in um3."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    disc = np.clip(0.5 + 36 - np.hypot(y - 48.0, x - 48.0), 0, 1)
    body = np.clip(0.5 + np.minimum(z - 14.3, 49.8 - z), 0, 1) * disc
    crack = body * np.clip(0.5 + crack_px / 2 - np.abs(x - 50 - 0.1 * y + 3), 0, 1)
    noise = np.random.default_rng(seed).normal(0, 0.05, SHAPE)
    grey = gaussian_filter(body - crack, 0.7) + noise
    return grey.astype(np.float32), float(crack.sum()) * VOXEL_UM**3


def write_volume(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = grey
        for axis, size in zip("zyx", grey.shape, strict=True):
            coordinates = file["entry/data"].create_dataset(
                axis, data=np.arange(size) * VOXEL_UM
            )
            coordinates.attrs["units"] = "um"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Return an experiment's folder with three tomograms and the true volumes."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "experiment.yaml").write_text("experiment: {id: test}\n")
    truth, rows = [], []
    for number, (width, label) in enumerate(((0.0, "0"), (3.0, "1"), (4.5, "1.5"))):
        grey, volume_um3 = cracked_disc(width, seed=number)
        truth.append(volume_um3 if width else 0.0)
        write_volume(folder / f"tomograms/scan_{number:04d}.h5", grey)
        rows.append(f"{number},{label},0,True,7.0,{100.0 * number},0.0")
    (folder / "results").mkdir()
    (folder / "results/measurements.csv").write_text(
        "scan_number,label,attempt,simulated,crack_volume_um3,lithium_volume_um3,"
        "lithium_volume_net_um3\n" + "\n".join(rows) + "\n"
    )
    return folder, truth


def test_measure_prints_json(tmp_path, capsys):
    grey, truth_um3 = cracked_disc()
    write_volume(tmp_path / "volume.h5", grey)

    assert main(["measure", str(tmp_path / "volume.h5"), "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["crack_volume_um3"] == pytest.approx(truth_um3, rel=0.03)
    assert answer["crack_width_um"]["peak"] == pytest.approx(4.0 * 0.8, abs=0.1)
    assert answer["percolates"] is True
    assert answer["components"] == 1
    assert 0.05 < answer["low_fraction"] < 0.2


def test_measure_tells_a_wrong_voxel_size(tmp_path, capsys):
    grey, _ = cracked_disc()
    write_volume(tmp_path / "volume.h5", grey)
    declared = ["--pellet-diameter-mm", "0.0576", "--pellet-thickness-mm", "0.0284"]
    arguments = ["measure", str(tmp_path / "volume.h5"), *declared, "--json"]

    assert main(arguments) == 0
    right = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--voxel-um", "1.6"]) == 0
    wrong = json.loads(capsys.readouterr().out)

    assert "voxel" not in right["reason"]
    assert "a voxel would be 0.8" in wrong["reason"]


def test_measure_a_mask_whole(tmp_path, capsys):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:40, 20:30] = 1
    np.save(tmp_path / "mask.npy", mask)

    arguments = ["measure", str(tmp_path / "mask.npy"), "--voxel-um", "2"]
    assert main([*arguments, "--body", "whole", "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert answer["low_fraction"] == pytest.approx(mask.mean())
    assert answer["crack_volume_um3"] == pytest.approx(mask.sum() * 8, rel=1e-6)
    assert answer["percolates"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.h5"], "no such file"),
        (["volume.h5", "--voxel-um", "-1"], "must be above 0"),
        (["bare.npy"], "voxel size unknown"),
        (["volume.h5", "--pellet-diameter-mm", "0"], "above 0"),
        (["text.h5"], "not readable as HDF5"),
        (["volume.h5", "--dataset", "/entry/nothing"], "holds no dataset"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments, words, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_volume(tmp_path / "volume.h5", np.zeros((20, 20, 20), np.float32))
    np.save(tmp_path / "bare.npy", np.zeros((20, 20, 20)))
    (tmp_path / "text.h5").write_text("no HDF5")

    assert main(["measure", *arguments]) == 2

    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_a_volume_that_cannot_be_measured_says_why(tmp_path, capsys):
    write_volume(tmp_path / "volume.h5", np.ones((20, 20, 20), np.float32))

    assert main(["measure", str(tmp_path / "volume.h5"), "--json"]) == 1

    out, err = capsys.readouterr()
    assert json.loads(out)["crack_volume_um3"] is None
    assert "of one grey" in err


def test_an_existing_output_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "out.h5").write_text("precious")
    write_volume(tmp_path / "volume.h5", np.ones((20, 20, 20), np.float32))

    arguments = ["measure", str(tmp_path / "volume.h5"), "--out"]
    assert main([*arguments, str(tmp_path / "out.h5")]) == 2

    assert (tmp_path / "out.h5").read_text() == "precious"


def test_reanalyse_writes_beside_the_old_results(experiment, capsys):
    folder, truth = experiment
    before = (folder / "results/measurements.csv").read_text()

    arguments = ["reanalyse", str(folder), "--set", "crack_threshold_frac=0.45"]
    assert main(arguments) == 0

    assert (folder / "results/measurements.csv").read_text() == before
    new = folder / "results/reanalysis_01"
    assert (new / "videos/top_view.gif").is_file()
    with open(new / "measurements.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["0", "1", "1.5"]
    for row, volume_um3 in zip(rows, truth, strict=True):
        assert float(row["crack_volume_um3"]) == pytest.approx(volume_um3, rel=0.03)
    filling = float(rows[2]["lithium_volume_um3"]) / float(rows[2]["crack_volume_um3"])
    assert float(rows[2]["filling_fraction"]) == pytest.approx(filling)
    assert float(rows[2]["drift_x_um"]) == pytest.approx(0, abs=0.1)
    assert json.loads((new / "settings.json").read_text())[
        "crack_threshold_frac"
    ] == 0.45  # fmt: skip
    assert (new / "scan_0002/slice_xy.png").is_file()
    assert "was 7" in capsys.readouterr().out


def test_reanalyse_tells_a_pellet_unlike_the_cell(experiment):
    folder, _ = experiment
    (folder / "experiment.yaml").write_text(
        "experiment: {id: test}\ncell: {pellet_diameter_mm: 2.0}\n"
    )
    there = set(folder.glob("results/reanalysis_*"))

    assert main(["reanalyse", str(folder), "--tomograms", "0"]) == 0

    (folder / "experiment.yaml").write_text("experiment: {id: test}\n")
    (new,) = set(folder.glob("results/reanalysis_*")) - there
    with open(new / "measurements.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert "where 2000 is declared" in row["reason"]


def test_reanalyse_some_tomograms_in_a_new_folder_each_time(experiment):
    folder, _ = experiment
    there = set(folder.glob("results/reanalysis_*"))

    assert main(["reanalyse", str(folder), "--tomograms", "1-2"]) == 0

    (new,) = set(folder.glob("results/reanalysis_*")) - there
    with open(new / "measurements.csv", newline="") as file:
        assert [row["scan_number"] for row in csv.DictReader(file)] == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tomograms", "9"], "there are 0 to 2"),
        (["--tomograms", "two"], "scan numbers such as"),
        (["--set", "crack_threshold_frac=5"], "crack_threshold_frac"),
        (["--set", "no_such=1"], "no_such"),
        (["--set", "crack_threshold_frac"], "NAME=VALUE"),
    ],
)
def test_a_wrong_choice_is_refused(arguments, words, experiment, capsys):
    folder, _ = experiment
    there = set(folder.glob("results/reanalysis_*"))

    assert main(["reanalyse", str(folder), *arguments]) == 2

    assert words in capsys.readouterr().err
    assert set(folder.glob("results/reanalysis_*")) == there


def test_a_folder_without_tomograms_is_refused(tmp_path, capsys):
    assert main(["reanalyse", str(tmp_path)]) == 2
    assert "holds no tomograms" in capsys.readouterr().err
