"""Grain texture of the pellet: contrast and size, which correlation lives on."""

from functools import cache

import numpy as np
import pytest

from sim.cell import CellState
from sim.cell_settings import CellSettings, PelletSettings
from sim.displacement import bending
from sim.lattice import Lattice
from sim.pellet import grain_factors

PITCH_UM = 0.8
# Between corners of random value the texture runs as 3 u^2 - 2 u^3. The mean square
# of its weights along one axis, and the mean product of those a grain further:
# integrals of that cubic, by hand.
MEAN_SQUARE = 26 / 35
NEIGHBOURS = 9 / 70


@cache
def texture(grain_um=4.0, contrast=0.02, seed=3):
    """Return (x, y, z) densities in a still cube of pellet, some 13 000 grains."""
    settings = CellSettings(
        pellet_diameter_mm=0.14,
        pellet_thickness_mm=0.09,
        pellet=PelletSettings(grain_um=grain_um, grain_contrast=contrast),
    )
    lattice = Lattice.around(settings, PITCH_UM, pellet_row=60.0)
    still = bending(settings, CellState(seed=seed), lattice)
    columns = np.arange(lattice.width**2)
    factors = grain_factors(settings, lattice, still, columns, seed)
    return factors.reshape(lattice.width, lattice.width, -1).astype(float)


def correlation(density, lag, axis):
    """Return the correlation of a texture of zero mean with itself, moved."""
    length = density.shape[axis]
    here = density.take(range(length - lag), axis)
    there = density.take(range(lag, length), axis)
    return (here * there).mean() / (density**2).mean()


def test_grains_have_their_contrast():
    density = texture()
    # 1 / sqrt(13 000) is 0.9 %, of mean and deviation alike.
    assert density.mean() == pytest.approx(1, abs=4 * 0.009 * 0.02)
    assert density.std() == pytest.approx(0.02, rel=0.03)
    assert texture(contrast=0).std() == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("grain_um", [4.0, 5.6])
def test_grains_have_their_size_along_every_axis(axis, grain_um):
    density = texture(grain_um) - 1
    grain = round(grain_um / PITCH_UM)
    # The voxels' phases within a grain are few: 3 %; chance adds 1 to 2 %.
    expected = NEIGHBOURS / MEAN_SQUARE
    assert correlation(density, grain, axis) == pytest.approx(expected, abs=0.05)
    assert correlation(density, 2 * grain, axis) == pytest.approx(0, abs=0.05)
    assert correlation(density, 1, axis) > 0.9


def test_grains_follow_from_the_seed():
    assert np.array_equal(texture(seed=3), texture(seed=3))
    one, other = texture(seed=3) - 1, texture(seed=4) - 1
    assert abs((one * other).mean()) < 0.05 * (one**2).mean()
