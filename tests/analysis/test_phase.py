import numpy as np
import pytest

from analysis.phase import PhaseRetrieval
from analysis.settings import PhaseSettings

SETTINGS = PhaseSettings(delta_beta=220, distance_mm=10, energy_kev=22.3)


def test_fringes_of_one_material_are_undone():
    # The transport of intensity of a blob of one material, undone by its inverse:
    # behind = T - z / (k beta/delta ...) laplace T, all in the Fourier plane.
    y, x = np.mgrid[-128:128, -128:128]
    attenuation = 0.4 * np.exp(-(y**2 + x**2) / (2 * 12.0**2))
    transmission = np.exp(-attenuation)
    frequency = np.fft.fftfreq(256, 0.8)
    squared = frequency[:, None] ** 2 + frequency[None] ** 2
    wavelength_um = 1.23984e-3 / 22.3
    strength = np.pi * wavelength_um * 1e4 * 220
    seen = np.fft.ifft2(np.fft.fft2(transmission) * (1 + strength * squared)).real
    assert np.abs(seen - transmission).max() > 0.01
    retrieval = PhaseRetrieval(SETTINGS, (256, 256), 0.8)
    retrieved = retrieval(-np.log(seen).astype(np.float32))
    # Single precision and the margin.
    assert np.abs(retrieved - attenuation).max() < 2e-4


def test_an_even_frame_stays_even_to_its_sides():
    retrieval = PhaseRetrieval(SETTINGS, (40, 61), 0.8)
    assert np.allclose(retrieval(np.full((40, 61), 0.7, np.float32)), 0.7, atol=1e-5)


def test_the_sides_are_not_joined():
    frame = np.tile(np.linspace(0, 1, 200, dtype=np.float32), (32, 1))
    retrieved = PhaseRetrieval(SETTINGS, frame.shape, 0.8)(frame)
    # A ramp stays a ramp but for its ends, which blur into their mirror image.
    assert np.abs(retrieved - frame)[:, 20:-20].max() < 0.02
    assert np.abs(retrieved - frame).max() < 0.1


def test_noise_falls():
    noise = np.random.default_rng(0).normal(0.5, 0.05, (128, 128)).astype(np.float32)
    retrieved = PhaseRetrieval(SETTINGS, noise.shape, 0.8)(noise)
    assert retrieved.std() < 0.2 * noise.std()
    assert retrieved.mean() == pytest.approx(noise.mean(), abs=0.005)
