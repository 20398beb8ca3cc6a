"""A shallow notch that goes on from a crack is told from a rough face."""

import numpy as np
import pytest

from analysis.measurement.body import Body
from analysis.measurement.mouths import FaceNotches

SHAPE = (40, 80, 80)
TOP, BOTTOM, DEEP_PX = 9.5, 29.5, 2.5


def body():
    ny, nx = SHAPE[1:]
    return Body(
        top=np.full((ny, nx), TOP, np.float32),
        bottom=np.full((ny, nx), BOTTOM, np.float32),
        rim=np.full((SHAPE[0], 8), 38.0, np.float32),
        centre=(39.5, 39.5),
        edge_sigma_px=1.0,
    )


def notches(depth_px, at_face, noise=0.12):
    """Return the notches of a face (y, x) that is so much deeper than the smooth."""
    z = np.arange(SHAPE[0])[:, None, None]
    if at_face == 0:
        lack = np.clip(TOP + depth_px - z + 0.5, 0, 1) * (z > TOP)
        lack = lack - np.clip(z + 0.5 - TOP - depth_px, 0, 1) * (z < TOP)
    else:
        lack = np.clip(z + 0.5 - BOTTOM + depth_px, 0, 1) * (z < BOTTOM)
        lack = lack - np.clip(BOTTOM - depth_px - z + 0.5, 0, 1) * (z > BOTTOM)
    rng = np.random.default_rng(0)
    deficit = (lack + noise * rng.standard_normal(SHAPE)).astype(np.float32)
    found = FaceNotches(body(), DEEP_PX)
    for start in range(0, SHAPE[0], 7):
        found.add(start, deficit[start : start + 7])
    return found


def wedge():
    """Depth of a notch that begins at x = 30 and is 2 voxels deep at x = 50."""
    depth = np.zeros(SHAPE[1:])
    depth[20:60, 30:51] = 0.1 * (np.arange(30, 51) - 30)
    return depth


@pytest.mark.parametrize("at_face", [0, 1])
def test_a_notch_is_followed_from_where_the_crack_was_seen(at_face):
    seeds = np.zeros((2, *SHAPE[1:]), np.bool_)
    seeds[at_face, 25:55, 46:50] = True

    columns = notches(wedge(), at_face).grown(seeds)

    assert not columns[1 - at_face].any()
    # A quarter of a voxel deep at x = 32.5, over two voxels of averaging.
    assert columns[at_face, 25:55, 36:46].all()
    assert not columns[at_face, :, :28].any()
    assert not columns[at_face, :15].any()
    assert not columns[at_face, 65:].any()


def test_a_notch_without_a_crack_is_shape():
    seeds = np.zeros((2, *SHAPE[1:]), np.bool_)
    seeds[0, 40, 70] = True

    assert not notches(wedge(), 0).grown(seeds).any()


def test_a_rough_face_is_not_followed():
    rng = np.random.default_rng(1)
    rough = np.kron(rng.standard_normal((16, 16)), np.ones((5, 5)))
    seeds = np.zeros((2, *SHAPE[1:]), np.bool_)
    seeds[0, 25:55, 46:50] = True

    columns = notches(0.5 * rough, 0).grown(seeds)

    assert columns.sum() < 0.02 * columns[0].size
