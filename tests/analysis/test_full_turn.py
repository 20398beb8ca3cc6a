import numpy as np
import pytest

from analysis.full_turn import (
    full_turn_size,
    full_turn_weights,
    is_off_centre_full_turn,
)
from analysis.gridrec import Gridrec

TURN = np.arange(720) * 0.5


@pytest.mark.parametrize("axis_px", [35.0, 40.25, 160.0])
def test_both_views_of_a_ray_count_once(axis_px):
    weights = full_turn_weights(200, axis_px)
    place = np.arange(200) - axis_px
    mirrored = np.interp(-place, place, weights, left=0, right=0)
    seen_twice = np.abs(place) <= min(axis_px, 199 - axis_px)
    # Interpolated between columns where the axis lies between two.
    assert np.allclose((weights + mirrored)[seen_twice], 2, atol=2e-3)


@pytest.mark.parametrize("axis_px", [40.25, 160.0])
def test_a_full_turn_off_the_axis_shows_the_whole_field(oracle, axis_px):
    # 200 columns see one side of a sample of 282 px.
    ellipses = tuple(
        tuple(value * 1.6 for value in ellipse[:4]) + ellipse[4:]
        for ellipse in oracle.ELLIPSES
    )
    sinogram = oracle.phantom_sinogram(200, TURN, axis_px, ellipses=ellipses)
    assert is_off_centre_full_turn(TURN, 200, axis_px)
    size = full_turn_size(200, axis_px)
    weighted = sinogram * full_turn_weights(200, axis_px)
    made = Gridrec(TURN, 200, axis_px, size_px=size).reconstruct(weighted[None])[0]
    whole = oracle.phantom_sinogram(
        size, TURN, size / 2, ellipses=_scaled(ellipses, 200 / size)
    )
    exact = oracle.exact_fbp(whole[:360], TURN[:360], size / 2)
    place = np.arange(size) - size // 2
    inside = np.hypot(place[:, None], place[None]) < 0.48 * size
    error = np.sqrt(((made - exact)[inside] ** 2).mean())
    # 3 %: columns are averaged over their width, and both views fall between columns.
    assert error < 0.03 * np.sqrt((exact[inside] ** 2).mean())


def _scaled(ellipses, factor):
    return tuple(
        tuple(value * factor for value in ellipse[:4]) + ellipse[4:]
        for ellipse in ellipses
    )


def test_a_half_turn_and_a_central_axis_are_left_alone():
    assert not is_off_centre_full_turn(TURN[:361], 200, 40.0)
    assert not is_off_centre_full_turn(TURN, 200, 100.0)
