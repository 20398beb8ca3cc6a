"""Electrolyte, lithium and lens-shaped voids between them, as a tomogram shows them.

A void's height is known in each column, and a voxel is covered by the overlap of its
length with the void: the true volume is the sum of the heights. Fringes are those of
the transport of intensity, in all three directions: what is true of a projection and
its filter is true of the volume, since both are linear and turn with the sample.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

VOXEL_UM = 0.8
ENERGY_KEV = 22.3
WAVELENGTH_UM = 1.23984e-3 / ENERGY_KEV
SOLID_PER_UM, LITHIUM_PER_UM = 7.86e-4, 0.095e-4  # facts/measurement.md, 14
SOLID_DELTA, LITHIUM_DELTA = 7.70e-7, 1.93e-7
SOLID_DELTA_BETA = SOLID_DELTA / (SOLID_PER_UM * WAVELENGTH_UM / 4 / np.pi)
BOUNDARY_DELTA_BETA = (SOLID_DELTA - LITHIUM_DELTA) / (
    (SOLID_PER_UM - LITHIUM_PER_UM) * WAVELENGTH_UM / 4 / np.pi
)
MARGIN = 16


@dataclass(frozen=True)
class InterfacePhantom:
    """The volume (z, y, x), the face (y, x) and the voids' heights (y, x), voxels."""

    grey: NDArray[np.float32]
    face: NDArray[np.float64]
    void: NDArray[np.float64]


def make_interface(
    lenses=(),
    shape=(72, 96, 96),
    *,
    face=44.3,
    roughness=0.0,
    distance_mm=0.0,
    retrieved=True,
    psf=0.9,
    noise=0.10,
    seed=0,
):
    """Draw lithium above electrolyte; ``lenses`` are (y, x, radius, height)."""
    rng = np.random.default_rng(seed)
    nz, ny, nx = shape
    y, x = np.mgrid[:ny, :nx].astype(float)
    rough = rng.standard_normal((ny, nx))
    rough = ndimage.gaussian_filter(rough, 6, mode="wrap")
    height = face + roughness * rough / rough.std()
    void = np.zeros((ny, nx))
    for at_y, at_x, radius, tall in lenses:
        level = 1 - ((y - at_y) ** 2 + (x - at_x) ** 2) / radius**2
        void = np.maximum(void, tall * np.sqrt(level.clip(0)))
    z = np.arange(nz)[:, None, None]
    solid = np.clip(z + 0.5 - height, 0, 1)
    empty = np.minimum(z + 0.5, height) - np.maximum(z - 0.5, height - void)
    lithium = np.clip(1 - solid - empty.clip(0, 1), 0, 1)
    grey = VOXEL_UM * (SOLID_PER_UM * solid + LITHIUM_PER_UM * lithium)
    delta = VOXEL_UM * (SOLID_DELTA * solid + LITHIUM_DELTA * lithium)
    white = noise * SOLID_PER_UM * VOXEL_UM * rng.standard_normal(shape)
    squared, transform, back = _fourier(shape)
    seen = transform(grey) + 1e3 * distance_mm * squared * transform(delta)
    seen *= np.exp(-0.5 * (psf * VOXEL_UM) ** 2 * squared)
    seen += transform(white)
    if distance_mm and retrieved:
        strength = 1e3 * distance_mm * WAVELENGTH_UM * BOUNDARY_DELTA_BETA / 4 / np.pi
        seen /= 1 + strength * squared
    return InterfacePhantom(back(seen).astype(np.float32), height, void)


def _fourier(shape):
    """Return the squared angular frequencies and a transform with mirrored margins."""
    sizes = [size + 2 * MARGIN for size in shape]
    z, y, x = (
        2 * np.pi * frequency
        for frequency in (
            np.fft.fftfreq(sizes[0], VOXEL_UM),
            np.fft.fftfreq(sizes[1], VOXEL_UM),
            np.fft.rfftfreq(sizes[2], VOXEL_UM),
        )
    )
    squared = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2

    def transform(values):
        return np.fft.rfftn(np.pad(values, MARGIN, mode="symmetric"))

    def back(spectrum):
        inner = slice(MARGIN, -MARGIN)
        return np.fft.irfftn(spectrum, sizes, axes=(0, 1, 2))[inner, inner, inner]

    return squared, transform, back
