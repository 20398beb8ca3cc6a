import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def oracle():
    """The independent exact filtered back-projection and its phantom."""
    spec = importlib.util.spec_from_file_location("exact_fbp", HERE / "exact_fbp.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared_data():
    folder = HERE.parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data are not beside the project (../shared/data)")
    return folder


@pytest.fixture
def write_frames():
    """Write a camera file as the HDF5 plugin does."""

    def write(path, frames):
        with h5py.File(path, "w", libver="latest") as file:
            file.create_dataset(
                "entry/data/data",
                data=frames,
                chunks=(1, *frames.shape[1:]),
                maxshape=(None, *frames.shape[1:]),
            )
        return path

    return write


@pytest.fixture
def counts_of(oracle):
    """Darks, flats and projections, in counts, of a cylinder of the phantom."""

    def counts(width=96, rows=20, angles_deg=None, axis_px=48.3, seed=0, noise=True):
        angles = np.arange(0, 180, 1.5) if angles_deg is None else angles_deg
        sinogram = oracle.phantom_sinogram(width, angles, axis_px, scale=0.02)
        rng = np.random.default_rng(seed)
        beam = 20000 * (1 + 0.1 * np.cos(np.linspace(-2, 2, width)))[None, None]
        height = np.linspace(0.7, 1.0, rows)[None, :, None]
        expected = beam * np.exp(-sinogram[:, None, :] * height)

        def frames(values):
            values = rng.poisson(values) if noise else np.rint(values)
            return (values + 100).astype(np.uint16)

        darks = np.full((5, rows, width), 100, np.uint16)
        flats = frames(np.broadcast_to(beam, (8, rows, width)))
        return darks, flats, frames(expected), angles

    return counts
