"""Voids from projections: frames in, sinograms, companion, contact lost."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

from analysis.companion import companion_of
from analysis.errors import DataError
from analysis.ingest import ScanIngest
from analysis.measure import measure_tomogram
from analysis.measurement.faces_volume import FacesVolume, faces_file
from analysis.pipeline import reconstruct
from analysis.settings import AnalysisSettings, PhaseSettings, ReconstructionSettings
from analysis.volume import Hdf5Volume

sys.path.insert(0, str(Path(__file__).parent / "measurement"))

from interface_phantom import (
    ENERGY_KEV,
    LITHIUM_DELTA,
    LITHIUM_PER_UM,
    SOLID_DELTA,
    SOLID_DELTA_BETA,
    SOLID_PER_UM,
    VOXEL_UM,
)

SHAPE = (128, 112, 112)
TOP, BOTTOM, RADIUS, LITHIUM_PX = 48.3, 79.6, 44.0, 44.0
DISTANCE_MM = 2.0
COUNTS, ELECTRONS = 40_000, 600_000
"""Of the open beam; a noise of an eighth of the contrast in this small cell."""

LENSES = ((46, 46, 12, 5.0), (66, 62, 9, 3.5), (52, 76, 7, 3.0))
SETTINGS = AnalysisSettings(
    reconstruction=ReconstructionSettings(
        interface_phase=PhaseSettings(
            delta_beta=SOLID_DELTA_BETA, distance_mm=DISTANCE_MM, energy_kev=ENERGY_KEV
        )
    )
)


def cell():
    """Return attenuation and decrement per voxel (z, y, x), and the voids (y, x)."""
    nz, ny, nx = SHAPE
    z = np.arange(nz)[:, None, None]
    y, x = np.mgrid[:ny, :nx].astype(float)
    disc = np.clip(0.5 + RADIUS - np.hypot(y - ny // 2, x - nx // 2), 0, 1)
    void = np.zeros((ny, nx))
    for at_y, at_x, radius, tall in LENSES:
        level = 1 - ((y - at_y) ** 2 + (x - at_x) ** 2) / radius**2
        void = np.maximum(void, tall * np.sqrt(level.clip(0)))

    def between(high, low):
        return np.clip(np.minimum(z + 0.5, low) - np.maximum(z - 0.5, high), 0, 1)

    solid = between(TOP, BOTTOM) * disc
    lithium = between(TOP - LITHIUM_PX, TOP - void)
    lithium = (lithium + between(BOTTOM, BOTTOM + LITHIUM_PX)) * disc
    return (
        VOXEL_UM * (SOLID_PER_UM * solid + LITHIUM_PER_UM * lithium),
        VOXEL_UM * (SOLID_DELTA * solid + LITHIUM_DELTA * lithium),
        void,
    )


def projected(volume, angle_deg):
    """Return line integrals (z, x'); a point (x, y) is seen at x cos + y sin."""
    turn = np.radians(angle_deg)
    nz, ny, nx = volume.shape
    y, x = (axis.ravel() for axis in np.mgrid[:ny, :nx])
    seen = (x - nx // 2) * np.cos(turn) + (y - ny // 2) * np.sin(turn) + nx // 2
    seen = np.clip(seen, 0, nx - 1.001)
    left = seen.astype(int)
    share = seen - left
    weights = sparse.csr_matrix(
        (
            np.concatenate([1 - share, share]),
            (np.concatenate([left, left + 1]), np.tile(np.arange(len(seen)), 2)),
        ),
        shape=(nx, len(seen)),
    )
    return (weights @ volume.reshape(nz, -1).T).T


def frames(angles_deg):
    """Yield the light behind the cell at each angle, fringes and blur included."""
    attenuation, delta, _ = cell()
    nz, _, nx = SHAPE
    z = 2 * np.pi * np.fft.fftfreq(nz, VOXEL_UM)[:, None]
    x = 2 * np.pi * np.fft.rfftfreq(nx, VOXEL_UM)
    squared = z**2 + x**2
    blur = np.exp(-0.5 * (0.7 * VOXEL_UM) ** 2 * squared)
    for angle in angles_deg:
        # Transport of intensity: what bends the light piles it up elsewhere.
        depth, path = (projected(volume, angle) for volume in (attenuation, delta))
        bent = np.fft.irfft2(-squared * np.fft.rfft2(path), (nz, nx))
        light = np.exp(-depth) * (1 + 1e3 * DISTANCE_MM * bent)
        yield np.fft.irfft2(blur * np.fft.rfft2(light), (nz, nx))


def counted_light(light, rng):
    """Return counts of a detector with shot noise."""
    counts = COUNTS / ELECTRONS * rng.poisson(ELECTRONS * light)
    return np.rint(counts).astype(np.uint16)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_voids_are_measured_from_projections(tmp_path):
    angles_deg = np.arange(0, 180, 1.0)
    rng = np.random.default_rng(0)
    tomogram = tmp_path / "scan_0001.h5"
    settings = SETTINGS.reconstruction
    with ScanIngest("scan", len(angles_deg), VOXEL_UM, settings, tmp_path) as ingest:
        ingest.darks.add(np.zeros((1, SHAPE[0], SHAPE[2]), np.uint16))
        flat = rng.poisson(COUNTS, (40, SHAPE[0], SHAPE[2])).astype(np.uint16)
        ingest.flats.add(flat)
        for index, light in enumerate(frames(angles_deg)):
            ingest.put(index, counted_light(light, rng))
        ingest.end()
        axis_px = float(SHAPE[2] // 2)
        reconstruct(
            ingest, angles_deg, axis_px, tomogram, settings, pixel_size_um=VOXEL_UM
        )
        open_faces = companion_of(
            ingest, angles_deg, axis_px, tomogram, SETTINGS, VOXEL_UM
        )
        with Hdf5Volume(tomogram) as volume:
            result = measure_tomogram(
                volume, SETTINGS.measurement, open_faces=open_faces
            )
    row = result.row()

    assert row["interface_source"] == "phase"
    height = result.interfaces.anode.voids.height_px
    seen, (_, _, void) = np.isfinite(height), cell()
    floor_px = result.interfaces.anode.voids.floor_px
    counted = seen & (void > floor_px)
    assert floor_px < 2.0
    lost_frac = counted.sum() / seen.sum()
    assert row["anode_contact_loss_frac"] == pytest.approx(lost_frac, abs=0.03)
    error = abs(row["anode_contact_loss_frac"] - lost_frac)
    assert error < 2 * row["anode_contact_loss_sd_frac"]
    assert row["anode_void_volume_um3"] == pytest.approx(
        void[counted].sum() * VOXEL_UM**3, rel=0.12
    )
    assert row["cathode_contact_loss_frac"] < 0.01
    # What reanalyse goes on with: the same rows again, from the file alone.
    with (
        Hdf5Volume(tomogram) as volume,
        FacesVolume(faces_file(tomogram)) as faces,
    ):
        again = measure_tomogram(
            volume, SETTINGS.measurement, open_faces=lambda *_: faces
        ).row()
    assert again["anode_void_volume_um3"] == row["anode_void_volume_um3"]


def test_a_file_that_is_no_companion_says_so(tmp_path):
    path = tmp_path / "scan_0001.faces.h5"
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.zeros((4, 4, 4), np.float32)
    with pytest.raises(DataError, match="not readable as companion"):
        FacesVolume(path)


def test_without_a_distance_there_is_no_companion(tmp_path):
    made = companion_of(
        None, np.zeros(2), 0.0, tmp_path / "scan.h5", AnalysisSettings(), 1.0
    )
    assert made is None
