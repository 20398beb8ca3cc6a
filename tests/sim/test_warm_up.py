"""What the simulation compiles, it compiles before it says that it is ready."""

import subprocess
import sys

import pytest

# In a process of its own: other tests compile too.
PROGRAM = """
import sys
from sim.camera_settings import CameraSettings
from sim.cell import CellState
from sim.cell_settings import CellSettings
from sim.projector import Projector

def compiled():
    return {
        (name, key, str(signature))
        for name, module in list(sys.modules.items()) if name.startswith("sim.")
        for key, value in vars(module).items()
        for signature in getattr(value, "signatures", ())
    }

Projector.warm_up()
before = compiled()
cell = CellSettings(
    pellet_diameter_mm=0.2, pellet_thickness_mm=0.06, lithium_thickness_mm=0.05
)
camera = CameraSettings(
    num_columns=320, num_rows=224, prepared_angles_deg=(0.0, 30.0, 7)
)
for most_voxels in (60_000_000, 0):
    projector = Projector(cell, camera, seed=7, most_voxels=most_voxels)
    for directions in ((), (1,), (1, -1, 1, -1, 1, -1, 1)):
        state = CellState(7, float(len(directions)), directions, 1e-5 * len(directions))
        prepared = projector.prepare(state)
        for angle_deg in (0.0, 10.0):
            projector.frame(
                prepared, angle_deg=angle_deg, shutter_open=True, frame_index=0,
                ring_current_ma=300.0, exposure_time_s=0.1, time_s=0.0,
            )
for name, key, _ in sorted(compiled() - before):
    print(name, key)
"""


@pytest.mark.slow
def test_nothing_is_compiled_once_the_beamline_is_ready() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
