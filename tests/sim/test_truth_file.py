"""The laws of degradation, measured in the truth file."""

import h5py
import numpy as np
import pytest

from sim.camera_settings import CameraSettings
from sim.cell import VirtualCell
from sim.cell_settings import CellSettings
from sim.projector import Projector
from sim.truth import TruthFile

# A tenth of the experiment's cell in each direction, 180 s half-cycles.
CURRENT_MA = 0.15 * np.pi / 4 * 0.02**2
CHARGE_C = CURRENT_MA * 1e-3 * 180
CELL = CellSettings(
    pellet_diameter_mm=0.2,
    pellet_thickness_mm=0.06,
    lithium_thickness_mm=0.05,
    half_cycle_charge_c=CHARGE_C,
)
CAMERA = CameraSettings(num_columns=320, num_rows=224)


def scans_of(seed, path, half_cycles):
    cell = VirtualCell(CELL, seed)
    projector = Projector(CELL, CAMERA, seed)
    truth = TruthFile(path, projector)
    for number in range(half_cycles + 1):
        truth.record(projector.prepare(cell.state()), name=f"scan_{number:04d}_00")
        cell.advance(180.0, CURRENT_MA if number % 2 == 0 else -CURRENT_MA)
    with h5py.File(path) as file:
        return [{key: item[()] for key, item in file[name].items()} for name in file]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return scans_of(11, tmp_path_factory.mktemp("truth") / "truth.h5", 11)


def test_the_pristine_cell_is_intact(scans):
    assert scans[0]["crack_volume_um3"] == 0
    assert scans[0]["filling_fraction"] == 0


def test_crack_volume_follows_the_logarithm_of_the_label(scans):
    label = np.array([scan["label"] for scan in scans[1:]])
    fraction = np.array([scan["crack_volume_fraction"] for scan in scans[1:]])
    assert label == pytest.approx(np.arange(1, 6.5, 0.5), rel=1e-9)
    slope, first = np.polyfit(np.log(label), fraction, 1)
    # The volume is solved to 1e-4 of itself.
    assert first == pytest.approx(0.0146, rel=2e-3)
    assert slope == pytest.approx(0.0743, rel=2e-3)
    assert fraction == pytest.approx(first + slope * np.log(label), rel=1e-3)


def test_filling_starts_as_in_the_paper_drops_and_rises(scans):
    filling = [scan["filling_fraction"] for scan in scans[1:]]
    assert filling[0] == pytest.approx(0.0415, rel=0.01)
    assert filling[1] == pytest.approx(0.0271, rel=0.01)
    assert filling[2:] == sorted(filling[2:])


def test_foils_are_compressed_mostly_in_the_first_five_cycles(scans):
    anode = np.array([scan["anode_thickness_um"] for scan in scans])
    cathode = np.array([scan["cathode_thickness_um"] for scan in scans])
    for thickness, whole in ((anode, 6.0), (cathode, 5.0)):
        lost = thickness[0] - thickness
        assert 0.9 * whole < lost[10] < whole
        assert (np.diff(lost) > 0).all()
    assert {scan["pellet_thickness_um"] for scan in scans} == {60.0}


def test_a_seed_gives_the_same_truth_again_and_another_seed_another(tmp_path):
    first = scans_of(3, tmp_path / "a.h5", 2)
    again = scans_of(3, tmp_path / "b.h5", 2)
    other = scans_of(4, tmp_path / "c.h5", 2)
    assert first == again
    volumes = [scan["crack_volume_um3"] for scan in first]
    assert volumes != [scan["crack_volume_um3"] for scan in other]
