"""Chips at the rim, cut out of an analytic pellet."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from analysis.measurement.chips import chips_row, find_chips
from analysis.measurement.grey_levels import find_levels
from analysis.measurement.isolation import find_solid, isolate_pellet
from analysis.measurement.overview import read_overview
from analysis.measurement.settings import MeasurementSettings
from analysis.measurement.thickness import fit_pellet_faces
from analysis.volume import ArrayVolume

sys.path.insert(0, str(Path(__file__).parent))

from measurement_phantom import HIGH, Sheet, make_phantom

VOXEL_UM = 0.8
SHAPE = (96, 200, 200)
PELLET = (24.3, 72.6)
RADIUS = 80.0
# Height, angle, how far outside the rim the middle lies, radius of the ball: two chips
# at the edges to the faces, and one across the first angle.
BALLS = ((24, 1.2, 4, 12), (45, 6.28, 5, 14), (73, 2.5, 6, 15))
CRACK = Sheet((48, 100, 100), (0.1, 1, 0.3), 4.0, 90)


def chipped(balls=BALLS, sheets=(), noise=0.1):
    """Return the grey volume and the volume of the chips in voxels."""
    phantom = make_phantom(
        SHAPE, radius=RADIUS, pellet=PELLET, lithium=15, sheets=sheets, noise=0, psf=0
    )
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    kept = np.ones(SHAPE, np.float32)
    for height, angle, outside, radius in balls:
        at_y = SHAPE[1] // 2 + (RADIUS + outside) * np.sin(angle)
        at_x = SHAPE[2] // 2 + (RADIUS + outside) * np.cos(angle)
        away = np.sqrt((z - height) ** 2 + (y - at_y) ** 2 + (x - at_x) ** 2)
        kept = np.minimum(kept, np.clip(0.5 + away - radius, 0, 1))
    lost = (phantom.pellet - phantom.crack) * (1 - kept)
    grey = ndimage.gaussian_filter(phantom.grey * kept, 0.8)
    grey += noise * HIGH * np.random.default_rng(0).standard_normal(SHAPE)
    return grey.astype(np.float32), float(lost.sum(dtype=float))


def find(grey):
    overview = read_overview(ArrayVolume(grey, VOXEL_UM), 2**28)
    levels = find_levels(overview.coarse)
    pellet = find_solid(overview, levels, VOXEL_UM)
    body = isolate_pellet(overview, levels, pellet, VOXEL_UM, MeasurementSettings())
    body, _ = fit_pellet_faces(overview, body)
    return find_chips(overview, levels, body, VOXEL_UM)


@pytest.mark.parametrize("sheets", [(), (CRACK,)], ids=["whole", "cracked"])
def test_chips_are_counted_and_a_crack_is_none(sheets):
    grey, lost_px = chipped(sheets=sheets)

    chips = find(grey)

    assert chips.number == 3
    # Balls cut by the faces; the error of the stated uncertainty, twice.
    assert chips.volume_px == pytest.approx(lost_px, rel=0.12)
    assert abs(chips.volume_px - lost_px) < 2 * chips.volume_sd_px
    row = chips_row(chips, VOXEL_UM)
    assert row["chip_volume_um3"] == pytest.approx(chips.volume_px * 0.512)


def test_a_whole_rim_has_no_chips():
    chips = find(chipped(balls=(), sheets=(CRACK,), noise=0.15)[0])

    assert chips.number == 0
    assert chips.volume_px == 0
