"""Rigid registration against motions that are known."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from analysis.measurement.registration import RigidMotion, between, register_rigid

sys.path.insert(0, str(Path(__file__).parent))

from measurement_phantom import HIGH, Sheet, make_phantom

SNOW = Path(__file__).parents[4] / "shared/data/dvc"


@pytest.mark.skipif(not SNOW.is_dir(), reason="needs ../shared/data (snow, rigid)")
def test_real_texture_moved_rigidly():
    fixed = tifffile.imread(SNOW / "A_snow_ref.tif").astype(np.float32)
    moving = tifffile.imread(SNOW / "A_snow_def_rigid.tif").astype(np.float32)

    motion = register_rigid(fixed, moving)

    # 2 % noise on 200 000 points; an independent code comes to 0.0005 voxel.
    assert motion.translation == pytest.approx([1.3, -0.7, 2.1], abs=0.003)
    assert np.degrees(motion.rotation) == pytest.approx([2, -1, 3], abs=0.004)
    assert motion.residual_frac < 0.02


def test_a_cracked_pellet_against_a_pristine_one():
    pristine = make_phantom(noise=0.05).grey
    sheets = [
        Sheet((55, 80, 80), (0.1, 1, 0.3), 5.0, 56),
        Sheet((50, 90, 60), (0.1, 0.2, 1), 4.0, 50),
    ]
    cracked = make_phantom(noise=0.05, sheets=sheets, centre=(0.6, -1.3), seed=1).grey

    motion = register_rigid(pristine, cracked, contrast=HIGH, rotation_sd_rad=1e-3)

    middle = np.array([56.0, 80.0, 80.0])
    assert motion.apply(middle) - middle == pytest.approx([0, 0.6, -1.3], abs=0.05)
    # A disc's turn about its axis is not seen: it must not be made up.
    assert abs(np.degrees(motion.rotation[0])) < 0.05
    assert motion.step_px < 0.01


def test_between_two_motions_goes_through_the_pristine_frame():
    centre = np.array([50.0, 40.0, 30.0])
    one = RigidMotion(np.array([0.02, 0, 0.01]), np.array([1.0, 2, 3]), centre)
    other = RigidMotion(np.array([0, 0.03, 0]), np.array([-1.0, 0, 2]), centre)
    point = np.array([12.0, 34.0, 56.0])

    matrix, offset = between(one, other)

    assert matrix @ one.apply(point) + offset == pytest.approx(other.apply(point))


def test_rigid_motion_of_a_binned_volume_in_voxels():
    motion = RigidMotion(np.array([0.1, 0, 0]), np.array([1.0, 0.5, 0]), np.ones(3))
    coarse_point = np.array([3.0, 4.0, 5.0])

    fine = motion.in_voxels_of(4)

    expected = (motion.apply(coarse_point) + 0.5) * 4 - 0.5
    assert fine.apply((coarse_point + 0.5) * 4 - 0.5) == pytest.approx(expected)


def test_shapes_must_agree():
    grey = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(32,) * 3), 2)
    with pytest.raises(ValueError, match="one shape"):
        register_rigid(grey, grey[1:])
