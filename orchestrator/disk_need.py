"""How much of the disk an experiment fills."""

from collections.abc import Sequence
from math import ceil

from orchestrator.config import Experiment
from plans.steps import Step, TomogramStep
from plans.timing import scan_bytes

REPORT_BYTES = 200_000_000  # documents, pictures, tables of a whole experiment
SCRATCH_SCANS = 2  # one comes in while the one before is reconstructed
FACE_RELIEF_FRAC = 0.05
"""Height of a face between its lowest and its highest point, of the pellet's diameter:
a tilt of 3 degrees."""


def bytes_needed(
    experiment: Experiment, frame_shape: tuple[int, int], steps: Sequence[Step]
) -> int:
    """Return the space that these steps fill: frames, tomograms and scratch files.

    Parameters
    ----------
    frame_shape : tuple of int
        Rows and columns of a frame.
    """
    volume = _volume_shape(experiment, frame_shape)
    faces = _face_rows(experiment, volume[0])
    projections = 2 * experiment.scan.num_projections * volume[2]
    each = scan_bytes(experiment.scan, frame_shape)
    each += _tomogram_bytes(experiment, volume)
    each += 4 * faces * volume[1] * volume[2]
    scratch = projections * (SCRATCH_SCANS * volume[0] + faces)
    number = sum(isinstance(step, TomogramStep) for step in steps)
    return number * each + (scratch if number else 0) + REPORT_BYTES


def _volume_shape(
    experiment: Experiment, frame_shape: tuple[int, int]
) -> tuple[int, int, int]:
    ny, nx = frame_shape
    about = experiment.analysis.reconstruction
    start, stop = about.rows or (0, ny)
    width = nx // about.binning
    return max(min(stop, ny) - start, 0) // about.binning, width, width


def _tomogram_bytes(experiment: Experiment, shape: tuple[int, int, int]) -> int:
    about = experiment.analysis.reconstruction
    voxel_bytes = 2 if about.output == "uint16" else 4
    nz, ny, nx = shape
    pyramid = sum(8.0**-level for level in range(about.pyramid_levels + 1))
    return ceil(nz * ny * nx * voxel_bytes * pyramid)


def _face_rows(experiment: Experiment, height: int) -> int:
    """Return about how many rows are kept a second time, their phase retrieved."""
    about = experiment.analysis.reconstruction
    if about.interface_phase is None:
        return 0
    relief_um = FACE_RELIEF_FRAC * 1e3 * experiment.cell.pellet_diameter_mm
    each_um = 2 * experiment.analysis.measurement.void_reach_um + relief_um
    voxel_um = experiment.scan.pixel_size_um * about.binning
    return min(height, ceil(2 * each_um / voxel_um))
