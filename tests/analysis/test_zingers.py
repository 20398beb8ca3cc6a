import numpy as np

from analysis.zingers import remove_zingers


def test_bright_spots_of_one_frame_go_and_are_counted(oracle):
    angles = np.arange(360) * 0.5
    clean = oracle.phantom_sinogram(160, angles, 79.5, scale=0.02)
    spoilt = clean.copy()
    spoilt[100, 80] -= 1.0
    spoilt[200, 40:43] -= 0.8
    spoilt[0, 90] -= 1.0
    spoilt[359, 91] -= 1.0
    spoilt[150, 0] -= 1.0
    assert remove_zingers(spoilt, 0.3) == 7
    # What one step of the angle changes, and no more.
    assert np.abs(spoilt - clean).max() < 0.1


def test_the_edges_of_a_sample_are_no_zingers(oracle):
    # A small dense grain on the rim crosses pixels in single frames of a coarse scan.
    grain = ((0.8, 0.0, 0.02, 0.02, 0.0, 30.0), (0.0, 0.0, 0.9, 0.9, 0.0, 1.0))
    sinogram = oracle.phantom_sinogram(
        160, np.arange(60) * 3.0, 79.5, scale=0.02, ellipses=grain
    )
    before = sinogram.copy()
    assert remove_zingers(sinogram, 0.3) == 0
    assert np.array_equal(sinogram, before)


def test_a_sinogram_too_small_to_tell_is_left_alone():
    assert remove_zingers(np.zeros((2, 50), np.float32), 0.3) == 0
    assert remove_zingers(np.zeros((50, 8), np.float32), 0.3) == 0
