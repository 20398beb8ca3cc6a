"""The sum of the missing grey over a blurred sheet of known volume."""

import numpy as np
import pytest
from scipy.special import ndtr

from analysis.measurement.crack_volume import (
    SUM_HALO_PX,
    CrackSums,
    crack_volume,
    distance_squared,
    sum_rows,
)
from analysis.measurement.deficit import CLEAR, INSIDE, NOT_RIM

SHAPE = (40, 40, 48)
WIDTH_PX = 2.4
BLUR_PX = 1.0


@pytest.mark.parametrize("background_frac", [0.0, 0.03])
def test_blur_is_gathered_and_the_background_taken_off(background_frac):
    x = np.arange(SHAPE[2]) - 23.7
    sheet = ndtr((x + WIDTH_PX / 2) / BLUR_PX) - ndtr((x - WIDTH_PX / 2) / BLUR_PX)
    deficit = np.broadcast_to(sheet + background_frac, SHAPE).astype(np.float32)
    mask = (deficit > 0.5).astype(np.uint8)
    distance = np.empty(SHAPE, np.uint8)
    distance_squared(mask, SUM_HALO_PX, distance)
    region = np.full(SHAPE, INSIDE | CLEAR | NOT_RIM, np.uint8)

    table = sum_rows(deficit, deficit, region, distance, mask, 0.5)
    found = crack_volume(CrackSums(0, table), 0.0, 1.0)

    # Beyond 3 voxels from the mask a blur of 1 voxel leaves 0.1 % of the sheet.
    true_px = WIDTH_PX * SHAPE[0] * SHAPE[1]
    assert found.deficit_px == pytest.approx(true_px, rel=0.003)
    np.testing.assert_allclose(found.profile_px, true_px / SHAPE[0], rtol=0.003)
    assert found.background_frac == pytest.approx(background_frac, abs=1e-3)
