"""A series of tomograms from simulated projections, by the command line, beside truth.

The simulation draws frames with blur, noise, rings, fringes, hardening, a wobbling axis
and a cell that drifts, bends and roughens; ``insitu-ct analyse`` gets the scan file and
nothing else. ``pytest -s`` prints the table.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
from scipy import ndimage

VOXEL_UM = 0.8
NUM_DARKS, NUM_FLATS, NUM_PROJECTIONS = 10, 20, 400
EXPOSURE_S = 0.18
ELECTRONS_PER_COUNT = 12.0
PROPAGATION_MM = 0.2
"""Fringes of 0.3 voxel² times the Laplacian, as in the phantoms."""

HALF_CYCLES = (0.0, 0.35, 0.5, 0.65, 1.0, 2.0, 3.0, 6.0, 13.0, 29.0)
CROSSING = 0.55  # of the first charge: the simulation's law
SEED = 1


@dataclass(frozen=True)
class Truth:
    half_cycles: float
    crack_um3: float
    pellet_um3: float
    crosses: bool


def draw_series(directory):
    """Draw a scan file for each state, and return what is true of it."""
    from sim.camera_settings import CameraSettings
    from sim.cell import CellState
    from sim.cell_settings import CellSettings
    from sim.projector import Projector
    from sim.truth import TruthFile

    cell = CellSettings(
        pellet_diameter_mm=0.20, pellet_thickness_mm=0.06, lithium_thickness_mm=0.05
    )
    camera = CameraSettings(
        num_columns=320, num_rows=176, blur_px=0.8, propagation_mm=PROPAGATION_MM,
        electrons_per_count=ELECTRONS_PER_COUNT, flat_counts_per_s=250_000,
    )  # fmt: skip
    projector = Projector(cell, camera, SEED)
    truth_file = TruthFile(directory / "truth.h5", projector)
    truths = []
    for number, passed in enumerate(HALF_CYCLES):
        directions = tuple((1, -1)[k % 2] for k in range(int(np.ceil(passed))))
        prepared = projector.prepare(CellState(SEED, passed, directions))
        name = f"scan_{number:04d}_00"
        truth_file.record(prepared, name=name)
        write_scan(directory / f"{name}.nxs", projector, prepared, number)
        with h5py.File(truth_file.path) as file:
            group = file[name]
            crosses = crack_crosses(group["labels"][()], group["crack_part"][()])
            truths.append(
                Truth(
                    passed,
                    float(group["crack_volume_um3"][()]),
                    float(group["pellet_volume_um3"][()]),
                    crosses,
                )
            )
    return truths


def write_scan(path, projector, prepared, number):
    """Draw darks, flats and projections into an NXtomo file."""
    angles = np.linspace(0, 180, NUM_PROJECTIONS, endpoint=False)
    total = NUM_DARKS + NUM_FLATS + NUM_PROJECTIONS
    keys = np.repeat([2, 1, 0], [NUM_DARKS, NUM_FLATS, NUM_PROJECTIONS])
    every = np.concatenate([np.zeros(total - NUM_PROJECTIONS), angles])
    frames = [
        projector.frame(
            prepared if key == 0 else None,
            angle_deg=float(angle),
            sample_out_mm=1.0 if key == 1 else 0.0,
            shutter_open=bool(key != 2),
            ring_current_ma=300.0,
            exposure_time_s=EXPOSURE_S,
            time_s=600.0 * number + 0.2 * index,
            frame_index=total * number + index,
        )
        for index, (key, angle) in enumerate(zip(keys, every, strict=True))
    ]
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry["definition"] = "NXtomo"
        entry["instrument/detector/data"] = np.stack(frames)
        entry["instrument/detector/image_key"] = keys.astype(np.int32)
        entry["instrument/detector/x_pixel_size"] = VOXEL_UM
        entry["instrument/detector/x_pixel_size"].attrs["units"] = "um"
        entry["sample/rotation_angle"] = every
        entry["sample/rotation_angle"].attrs["units"] = "degree"


def crack_crosses(labels, crack_part):
    """Return whether crack voxels connect both faces in the truth's volume."""
    crack = crack_part > 0.4
    pellet = (labels == 1) | (labels >= 3) | crack
    lattice = np.arange(len(labels))[:, None, None]
    top = np.where(pellet.any(axis=0), pellet.argmax(axis=0), len(labels))
    bottom = len(labels) - 1 - pellet[::-1].argmax(axis=0)
    parts, number = ndimage.label(crack, np.ones((3, 3, 3)))
    if not number:
        return False
    at_top = set(np.unique(parts[crack & (lattice <= top + 1)]))
    at_bottom = set(np.unique(parts[crack & (lattice >= bottom - 1)]))
    return bool(at_top & at_bottom)


@pytest.mark.slow
def test_a_series_through_the_whole_chain(tmp_path):
    truths = draw_series(tmp_path)
    rows = []
    for number in range(len(truths)):
        scan, out = tmp_path / f"scan_{number:04d}_00.nxs", tmp_path / f"out_{number}"
        command = [sys.executable, "-m", "orchestrator.cli", "analyse", str(scan)]
        done = subprocess.run(
            [*command, "--out", str(out)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        answer = json.loads((out / "analysis.json").read_text())
        rows.append(answer["measurements"])
    print(f"\nnoise {noise_frac(tmp_path / 'out_0/tomogram.h5'):.3f} of the contrast")
    print("half-cycles  truth %   measured/truth  sd      crosses  measured")
    for truth, row in zip(truths, rows, strict=True):
        ratio = row["crack_volume_um3"] / truth.crack_um3 if truth.crack_um3 else None
        sd = row["crack_volume_sd_um3"] / truth.crack_um3 if truth.crack_um3 else None
        print(
            f"{truth.half_cycles:11.2f} {100 * truth.crack_um3 / truth.pellet_um3:8.2f}"
            f" {ratio or 0:15.4f} {sd or 0:8.4f} {truth.crosses!s:>9}"
            f" {row['penetrates']:9d}"
        )

    for truth, row in zip(truths, rows, strict=True):
        assert truth.crosses == (truth.half_cycles >= CROSSING)
        assert row["penetrates"] == truth.crosses, truth
        if truth.crack_um3 == 0:
            assert row["crack_volume_um3"] == 0
        elif truth.crack_um3 >= 0.014 * truth.pellet_um3:
            found = row["crack_volume_um3"]
            assert found == pytest.approx(truth.crack_um3, rel=0.02), truth


def noise_frac(path):
    """Return the noise of the pristine tomogram by the difference of two slices."""
    with h5py.File(path) as file:
        data = file["entry/data/data"]
        scale = float(data.attrs.get("scale_factor", 1.0))
        middle = data.shape[0] // 2
        pair = data[middle : middle + 2].astype(np.float64) * scale
    centre = pair.shape[1] // 2
    inner = pair[:, centre - 40 : centre + 40, centre - 40 : centre + 40]
    air = np.median(pair[:, centre - 20 : centre + 20, centre + 138 : centre + 150])
    return float((inner[1] - inner[0]).std() / np.sqrt(2) / (np.median(inner) - air))
