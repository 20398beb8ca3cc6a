"""Thickness of lithium whose faces are rough: the mean over the columns is asked."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from analysis.measurement.grey_levels import find_levels
from analysis.measurement.isolation import find_solid, isolate_pellet
from analysis.measurement.overview import read_overview
from analysis.measurement.settings import MeasurementSettings
from analysis.measurement.thickness import (
    cells_inside,
    fit_electrode,
    fit_pellet_faces,
)
from analysis.volume import ArrayVolume

sys.path.insert(0, str(Path(__file__).parent))

from measurement_phantom import HIGH, LITHIUM

SHAPE = (132, 150, 150)
RADIUS, TOP, BOTTOM, LITHIUM_PX = 60.0, 52.3, 88.6, 32.4


def draw(inner, outer, tilt, psf, noise, seed, fringe=0.0):
    """Return the grey volume and the thickness (y, x) of both electrodes."""
    rng = np.random.default_rng(seed)
    nz, ny, nx = SHAPE
    z, y, x = np.ogrid[:nz, :ny, :nx]
    z = z.astype(np.float32)

    def rough(spread):
        bumps = ndimage.gaussian_filter(rng.standard_normal((ny, nx)), 5)
        return spread * bumps / bumps.std()

    lean = (tilt * (x - nx // 2) - 0.5 * tilt * (y - ny // 2))[0]
    top, bottom = TOP + lean + rough(inner), BOTTOM + lean + rough(inner)
    above = TOP - LITHIUM_PX + 1.3 * lean + rough(outer)
    below = BOTTOM + LITHIUM_PX + 0.7 * lean + rough(outer)
    disc = np.clip(0.5 + RADIUS - np.hypot(y - ny // 2, x - nx // 2), 0, 1)

    def between(high, low):
        return np.clip(np.minimum(z + 0.5, low) - np.maximum(z - 0.5, high), 0, 1)

    grey = HIGH * between(top, bottom)
    grey = grey + LITHIUM * (between(above, top) + between(bottom, below))
    if fringe:
        # Lithium has a quarter of the electrolyte's refractive decrement.
        lithium = between(above, top) + between(bottom, below)
        refracts = (between(top, bottom) + 0.25 * lithium) * disc
        bent = ndimage.laplace(ndimage.gaussian_filter(refracts, psf))
        grey = ndimage.gaussian_filter(grey * disc, psf) - fringe * HIGH * bent
    else:
        grey = ndimage.gaussian_filter((grey * disc).astype(np.float32), psf)
    grey += noise * HIGH * rng.standard_normal(SHAPE).astype(np.float32)
    return grey.astype(np.float32), (top - above, below - bottom)


def errors(**keywords):
    """Return error and stated uncertainty of both electrodes in voxels."""
    grey, thickness = draw(**keywords)
    overview = read_overview(ArrayVolume(grey, 0.8), 2**28)
    levels = find_levels(overview.coarse)
    pellet = find_solid(overview, levels, 0.8)
    body = isolate_pellet(overview, levels, pellet, 0.8, MeasurementSettings())
    body, _ = fit_pellet_faces(overview, body)
    cell = overview.column_factor
    inside = cells_inside(overview, body, 4.0 * cell + 6)
    there = np.kron(inside, np.ones((cell, cell), bool))
    found = []
    for top, true in zip((True, False), thickness, strict=True):
        face = fit_electrode(overview, body, levels, 15.0, top=top)
        error = face.thickness_px - true[there].mean()
        found.append((error, face.thickness_sd_px))
    return np.array(found)


@pytest.mark.parametrize(
    ("inner", "outer", "tilt", "psf"),
    [(0.0, 0.0, 0.0, 0.7), (2.0, 0.0, 0.0, 1.0), (1.0, 1.5, 0.015, 1.2)],
    ids=["smooth", "rough inside", "all"],
)
def test_the_mean_thickness_of_rough_lithium(inner, outer, tilt, psf):
    # The noise of a row's mean over 6600 columns is that of 10 % over the 4.9 million
    # columns of a full pellet within a factor of three.
    found = errors(inner=inner, outer=outer, tilt=tilt, psf=psf, noise=0.01, seed=1)

    assert found[:, 0] == pytest.approx([0, 0], abs=0.06)


def test_the_uncertainty_of_a_small_noisy_cell_is_stated():
    found = errors(inner=1.0, outer=1.0, tilt=0.0, psf=0.8, noise=0.1, seed=0)

    # A step of 1.2 % in a noise of 10 % / sqrt(6600): a fifth of a voxel at best.
    assert (found[:, 1] > 0.1).all()
    assert (np.abs(found[:, 0]) < 3 * found[:, 1]).all()


def test_lithium_is_measured_by_its_fringe_where_that_hides_the_step():
    # 2 mm behind the sample the fringe is 3 voxel² times the Laplacian of delta.
    found = errors(
        inner=0.5, outer=0.5, tilt=0.005, psf=0.8, noise=0.1, seed=2, fringe=3.0
    )

    assert found[:, 0] == pytest.approx([0, 0], abs=0.25)
    assert (found[:, 1] < 0.4).all()
