"""Cracks are sought only where they can be; none may be missed."""

import numpy as np

from sim.camera_settings import CameraSettings
from sim.cell import CellState
from sim.cell_settings import CellSettings
from sim.projector import Projector
from sim.voxels import CellVoxels

CELL = CellSettings(
    pellet_diameter_mm=0.15,
    pellet_thickness_mm=0.05,
    lithium_thickness_mm=0.02,
    half_cycle_charge_c=4e-6,
)
CAMERA = CameraSettings(num_columns=224, num_rows=144)
STATE = CellState(
    seed=3, half_cycles=5.0, directions=(1, -1, 1, -1, 1), gross_charge_c=2e-5
)


def spread(voxels: CellVoxels) -> np.ndarray:
    """Return what is known of the cracks in all columns: (3, columns, rows)."""
    cracks, width = voxels.cracks, voxels.lattice.width
    everywhere = np.zeros((3, width**2, voxels.lattice.num_rows), np.float32)
    everywhere[0, cracks.columns] = cracks.cover
    everywhere[1, cracks.columns] = np.where(cracks.cover > 0, cracks.wide_um, 0)
    everywhere[2, cracks.columns] = voxels.filled
    return everywhere


def test_cracks_are_the_same_laid_at_once_or_some_rows_at_a_time() -> None:
    # Few rows leave few columns to be looked at, all rows nearly all of them.
    projector = Projector(CELL, CAMERA, seed=3)
    shaper, lattice = projector.shaper, projector.lattice
    shape = shaper.shape(STATE)
    whole = spread(shaper.voxels(shape, lattice))
    assert (whole[0] > 0).mean() > 0.01
    for start in range(0, lattice.num_rows, 3):
        block = lattice.rows(start, start + 3)
        part = spread(shaper.voxels(shape, block))
        # Rounding of the tables' depths, in single precision.
        np.testing.assert_allclose(
            part, whole[..., start : start + 3], rtol=0, atol=1e-4
        )
