"""New and earlier cracks told apart, also where the frames do not quite agree."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from analysis.measure import measure_tomogram
from analysis.measurement.body import whole_body
from analysis.measurement.crack_mask import PackedMask
from analysis.measurement.new_cracks import find_new_cracks, pull_mask
from analysis.measurement.reference import Reference
from analysis.measurement.registration import RigidMotion, between
from analysis.measurement.settings import MeasurementSettings
from analysis.volume import ArrayVolume

sys.path.insert(0, str(Path(__file__).parent))

from measurement_phantom import Sheet, make_phantom

SHAPE = (80, 120, 120)
OLD = (
    Sheet((40, 60, 50), (0.2, 1, 0.3), 3.75, 45),
    Sheet((40, 40, 80), (0.1, -0.5, 1), 3.75, 30, 60.0),
)
NEW = (Sheet((30, 80, 70), (0.3, 0.6, -1), 3.75, 25),)


def mask_of(sheets, noise=0.10):
    """Draw the mask that a noisy tomogram of the sheets gives."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    cover = np.zeros(SHAPE)
    for sheet in sheets:
        cover = np.maximum(cover, sheet.coverage(z, y, x))
    noise = noise * 0.23 * np.random.default_rng(0).normal(size=SHAPE)
    return (cover + noise > 0.5) & (cover > 0)


def packed(mask):
    out = PackedMask.empty((0, len(mask)), *mask.shape[1:])
    out.put(0, mask)
    return out


def rows_of(mask):
    def rows(start, stop):
        out = np.zeros((stop - start, *mask.shape[1:]), np.uint8)
        first, last = max(start, 0), min(stop, len(mask))
        out[first - start : last - start] = mask[first:last]
        return out

    return rows


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.0, 1.5])
def test_misregistration_makes_no_new_crack(shift):
    before, now = mask_of(OLD), mask_of(OLD + NEW)
    offset = shift * np.array([0.5, 0.7, -0.5])  # |offset| = shift

    found = find_new_cracks(
        packed(now), rows_of(before), np.eye(3), offset, whole_body(SHAPE), 50, 2**20
    )

    new = found.mask.get(0, SHAPE[0]).astype(bool)
    truly_new = now & ~mask_of(OLD, noise=0)
    false_new = np.count_nonzero(new & ~truly_new) / np.count_nonzero(now)
    recall = np.count_nonzero(new & truly_new) / np.count_nonzero(truly_new)
    assert false_new < 0.04
    assert recall > 0.9
    assert found.voxels == np.count_nonzero(new)


def test_widening_is_not_new():
    wider = tuple(
        Sheet(s.centre, s.normal, s.width + 3.5, s.radius, s.curvature_radius)
        for s in OLD
    )

    found = find_new_cracks(
        packed(mask_of(wider)), rows_of(mask_of(OLD)), np.eye(3), np.zeros(3),
        whole_body(SHAPE), 50, 2**20,
    )  # fmt: skip

    assert found.voxels == 0
    assert found.components == 0


def test_a_crack_that_closed_is_counted():
    before = mask_of(OLD + NEW, noise=0)

    found = find_new_cracks(
        packed(mask_of(OLD, noise=0)), rows_of(before), np.eye(3), np.zeros(3),
        whole_body(SHAPE), 50, 2**20,
    )  # fmt: skip

    gone = np.count_nonzero(before & ~mask_of(OLD, noise=0))
    assert found.closed_voxels == pytest.approx(gone, rel=0.1)


def test_a_mask_is_pulled_along_a_motion():
    rng = np.random.default_rng(0)
    mask = rng.random((20, 24, 28)) < 0.3
    still = RigidMotion.none()
    moved = RigidMotion(np.zeros(3), np.array([2.0, -3.0, 4.0]), np.zeros(3))

    pulled = pull_mask(rows_of(mask), *between(still, moved), 5, 15, (24, 28))

    expected = np.zeros((10, 24, 28), bool)
    expected[:, 3:, :24] = mask[7:17, :21, 4:]
    assert np.array_equal(pulled.astype(bool), expected)


def test_a_series_of_tomograms(tmp_path):
    settings = MeasurementSettings()
    first = (Sheet((50, 80, 80), (0.1, 1, 0.3), 4.0, 40),)
    second = (*first, Sheet((62, 60, 70), (0.2, 0.3, -1), 4.0, 25))
    files = []
    for number, (sheets, drift) in enumerate(
        (((), (0.0, 0.0)), (first, (0.4, -0.8)), (second, (-0.7, 0.3)))
    ):
        grey = make_phantom(sheets=sheets, centre=drift, seed=number, noise=0.08).grey
        reference = Reference(*(files[0], files[-1])) if files else None
        result = measure_tomogram(ArrayVolume(grey, 0.8), settings, reference=reference)
        files.append(tmp_path / f"scan_{number}.h5")
        result.write(files[-1])

    row = result.row()

    assert row["reason"] is None
    assert row["drift_y_um"] / 0.8 == pytest.approx(-0.7, abs=0.05)
    assert row["drift_x_um"] / 0.8 == pytest.approx(0.3, abs=0.05)
    assert row["drift_z_um"] / 0.8 == pytest.approx(0, abs=0.05)
    assert row["new_crack_components"] == 1
    growth = row["crack_growth_um3"]
    assert row["new_crack_volume_um3"] == pytest.approx(growth, rel=0.1)
    # The new crack's middle is at row 62 of a pellet from 38 to 75.
    assert row["new_crack_anode_side_frac"] < 0.5
    assert row["closed_crack_volume_um3"] < 0.02 * growth


def test_another_shape_is_told_and_not_compared(tmp_path):
    make = {"noise": 0.05, "sheets": [Sheet((55, 80, 80), (0.1, 1, 0.3), 4.0, 40)]}
    file = tmp_path / "first.h5"
    measure_tomogram(
        ArrayVolume(make_phantom(**make).grey, 0.8), MeasurementSettings()
    ).write(file)

    row = measure_tomogram(
        ArrayVolume(make_phantom((112, 164, 164), **make).grey, 0.8),
        MeasurementSettings(),
        reference=Reference(file, file),
    ).row()

    assert "another shape" in row["reason"]
    assert row["new_crack_volume_um3"] is None
    assert row["crack_volume_um3"] > 0


def test_a_registration_that_cannot_be_made_costs_the_motion_only(tmp_path):
    grey = make_phantom(noise=0.05, sheets=OLD[:1]).grey
    file = tmp_path / "first.h5"
    measure_tomogram(ArrayVolume(grey, 0.8), MeasurementSettings()).write(file)
    with h5py.File(file, "r+") as result:
        result["entry/registration/pellet"][:] = 0

    row = measure_tomogram(
        ArrayVolume(grey, 0.8), MeasurementSettings(), reference=Reference(file, file)
    ).row()

    assert row["reason"].startswith("not registered: 0 voxels")
    assert row["drift_z_um"] is None
    assert row["crack_volume_um3"] > 0
