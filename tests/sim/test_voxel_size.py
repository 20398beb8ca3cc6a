"""The same cell at other voxel sizes is the same cell."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.camera_settings import CameraSettings
from sim.cell import LITHIUM_UM3_PER_C, CellState
from sim.cell_settings import CellSettings, CrackSettings
from sim.lattice import Lattice
from sim.projector import Projector
from sim.voxels import CellShaper

CELL = CellSettings(
    pellet_diameter_mm=0.16,
    pellet_thickness_mm=0.05,
    lithium_thickness_mm=0.02,
    half_cycle_charge_c=5e-6,
    cracks=CrackSettings(first_volume_fraction=0.025),
)
STATE = CellState(seed=5, half_cycles=3.0, directions=(1, -1, 1), gross_charge_c=1.5e-5)
SIZES_UM = (0.8, 1.2, 1.6)


@cache
def prepared_at(pixel_um):
    rows = round(120 / pixel_um)
    camera = CameraSettings(
        num_columns=round(190 / pixel_um), num_rows=rows, pixel_size_um=pixel_um
    )
    projector = Projector(CELL, camera, seed=5)
    return projector, projector.prepare(STATE)


@pytest.mark.parametrize("pixel_um", SIZES_UM)
def test_volumes_do_not_depend_on_the_voxel(pixel_um):
    projector, prepared = prepared_at(pixel_um)
    totals = prepared.totals
    law = 0.025 + 0.0743 * np.log(2.0)
    assert totals.crack_volume_um3 / CELL.pellet_volume_um3 == pytest.approx(
        law, rel=2e-3
    )
    lithium_um3 = LITHIUM_UM3_PER_C * 1.5e-5
    assert totals.filled_volume_um3 == pytest.approx(lithium_um3, rel=5e-3)
    # Chips take some thousandths, each voxel size its own.
    assert totals.body_volume_um3 / CELL.pellet_volume_um3 == pytest.approx(
        0.998, abs=0.004
    )
    _, finest = prepared_at(SIZES_UM[0])
    mean, other = (
        np.average(
            np.arange(0.05, 12, 0.1)[: len(t.width_volume_um3)],
            weights=t.width_volume_um3,
        )
        for t in (totals, finest.totals)
    )
    assert mean == pytest.approx(other, rel=0.02)
    assert totals.crack_area_um2 == pytest.approx(
        finest.totals.crack_area_um2, rel=0.04
    )


@given(
    thickness_mm=st.floats(0.02, 0.6),
    pellet_row=st.floats(400, 401),
    voxels=st.integers(1000, 10_000_000),
)
def test_rows_of_a_sample_stand_for_the_whole_pellet(thickness_mm, pellet_row, voxels):
    cell = CELL.model_copy(
        update={"pellet_thickness_mm": thickness_mm, "pellet_diameter_mm": 0.02}
    )
    lattice = Lattice.around(cell, 0.8, pellet_row)
    sample = lattice.sample(voxels)
    thickness_um = (sample.disc_rows * sample.rows_each).sum() * 0.8
    assert thickness_um == pytest.approx(1e3 * thickness_mm, rel=1e-5)


def test_a_law_met_on_some_rows_is_met_on_all():
    projector, _ = prepared_at(SIZES_UM[0])
    shaper = CellShaper(CELL, 5, projector.lattice)
    # As of a cell too large for all its rows: every third.
    shaper.network.precise = projector.lattice.sample(1)
    voxels = shaper.voxels(shaper.shape(STATE), projector.lattice)
    law = 0.025 + 0.0743 * np.log(2.0)
    lithium_um3 = LITHIUM_UM3_PER_C * 1.5e-5
    assert voxels.totals().filled_volume_um3 == pytest.approx(lithium_um3, rel=5e-3)
    # The two rows at each face, rough and bent, are taken for the third: half a per
    # cent of 62 rows, a tenth of that in the experiment's 750.
    assert voxels.crack_volume_um3() / CELL.pellet_volume_um3 == pytest.approx(
        law, rel=8e-3
    )


@pytest.mark.parametrize("pixel_um", SIZES_UM[1:])
def test_voids_and_contact_do_not_depend_on_the_voxel(pixel_um):
    lattices, gaps = [], []
    for size in (SIZES_UM[0], pixel_um):
        projector, prepared = prepared_at(size)
        lattices.append(projector.lattice)
        gaps.append(prepared.shape.interfaces)
    for face in range(2):
        fine, coarse = (
            float((gap.gap_um[face] * lattice.disc).sum()) * lattice.pitch_um**2
            for gap, lattice in zip(gaps, lattices, strict=True)
        )
        assert coarse == pytest.approx(fine, rel=0.03)
        one, other = (
            gap.contact_fraction(lattice)[face]
            for gap, lattice in zip(gaps, lattices, strict=True)
        )
        assert other == pytest.approx(one, abs=0.01)


def crack_map(pixel_um):
    """Return crack per column (y, x) in µm, and the places of columns."""
    projector, prepared = prepared_at(pixel_um)
    side = projector.lattice.width
    column = np.zeros(side * side)
    cracks = prepared.voxels.cracks
    column[cracks.columns] = cracks.cover.sum(axis=1) * pixel_um
    return column.reshape(side, side), projector.lattice.across_um


def test_cracks_run_where_they_run_whatever_the_voxel():
    # Voxels of 0.8 and 1.6 um have their middle one on the axis: put each fine column
    # into the coarse one that holds it, halves to both sides.
    fine, across = crack_map(0.8)
    coarse, wide = crack_map(1.6)
    spread = np.zeros((len(wide), len(across)))
    for k, place in enumerate(across):
        overlap = 1 - np.abs(place - wide) / 0.8 + 0.5
        spread[:, k] = overlap.clip(0, 1)
    spread /= spread.sum(axis=0)
    seen = spread @ fine @ spread.T / 4
    both = np.corrcoef(seen.ravel(), coarse.ravel())[0, 1]
    assert both > 0.97
    assert seen.sum() == pytest.approx(coarse.sum(), rel=5e-3)
