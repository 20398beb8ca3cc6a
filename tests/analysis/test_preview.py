import numpy as np
import pytest
from PIL import Image

from analysis.preview import PreviewStack, write_slices

ANGLES = np.arange(180.0)


def stack_of(oracle, width=128, rows=40, axis_px=66.0, number=180):
    sinogram = oracle.phantom_sinogram(width, ANGLES, axis_px, scale=0.02)
    height = np.linspace(0.5, 1.0, rows, dtype=np.float32)[:, None]
    stack = PreviewStack(180, rows, width, 0.8)
    for index in range(number):
        stack.put(index, sinogram[index] * height)
    return stack


def test_the_planes_are_those_of_the_volume(oracle):
    planes = stack_of(oracle).slices(ANGLES, 66.0)
    sinogram = oracle.phantom_sinogram(128, ANGLES, 66.0, scale=0.02)

    def hann(frequency):
        return 0.5 * (1 + np.cos(2 * np.pi * frequency))

    whole = oracle.exact_fbp(sinogram, ANGLES, 66.0, window=hann)
    middle = np.linspace(0.5, 1.0, 40)[20]
    inside = slice(20, 108)
    level = np.sqrt((whole[inside, inside] ** 2).mean())
    # 3 %: filtered projections are interpolated straight between columns.
    for made, expected in (
        (planes.xy[inside, inside], middle * whole[inside, inside]),
        (planes.xz[39, inside], whole[64, inside]),
        (planes.yz[39, inside], whole[inside, 64]),
        (planes.xz[0, inside], 0.5 * whole[64, inside]),
    ):
        assert np.sqrt(((made - expected) ** 2).mean()) < 0.03 * level
    assert planes.voxel_size_um == 0.8


def test_wide_frames_are_binned(oracle):
    stack = PreviewStack(1, 100, 1300, 0.8)
    assert stack.binning == 3
    stack.put(0, np.ones((100, 1300), np.float32))
    planes = stack.slices(np.zeros(1), 650.0)
    assert planes.xz.shape == (33, 433)
    assert planes.voxel_size_um == pytest.approx(2.4)


def test_half_a_scan_can_be_looked_at(oracle):
    stack = stack_of(oracle, number=90)
    assert stack.number == 90
    assert np.isfinite(stack.slices(ANGLES, 66.0).xy).all()


def test_a_later_look_adds_the_frames_since(oracle):
    sinogram = oracle.phantom_sinogram(128, ANGLES, 66.0, scale=0.02)
    stack = PreviewStack(180, 40, 128, 0.8)
    early = []
    for index in range(180):
        stack.put(index, np.repeat(sinogram[index : index + 1], 40, axis=0))
        if index in {40, 41, 120}:
            early.append(stack.slices(ANGLES, 66.0).xy)
    late = stack.slices(ANGLES, 66.0)
    at_once = stack_of(oracle, rows=40).slices(ANGLES, 66.0)
    # The last row of the one is like all rows of the other; sums in another order.
    assert np.allclose(late.xz[39], at_once.xz[39], atol=1e-5 * np.ptp(late.xz))
    assert not np.array_equal(early[0], early[1])
    assert early[0].std() < early[2].std() < late.xy.std()


def test_an_axis_that_is_found_elsewhere_is_drawn_anew(oracle):
    stack = stack_of(oracle)
    guessed = stack.slices(ANGLES, 66.2).xy
    # A fifth of a pixel is not seen, and not worth seconds of work.
    assert np.array_equal(stack.slices(ANGLES, 66.0).xy, guessed)
    assert np.array_equal(stack.slices(ANGLES + 0.1, 66.0).xy, guessed)
    found = stack.slices(ANGLES, 64.0).xy
    assert np.array_equal(found, stack_of(oracle).slices(ANGLES, 64.0).xy)
    assert not np.allclose(found, guessed, atol=0.1 * np.ptp(guessed))


def test_pictures_have_a_common_grey_scale_and_a_scale_bar(oracle, tmp_path):
    files = write_slices(
        stack_of(oracle).slices(ANGLES, 66.0), tmp_path / "previews", "preview"
    )
    names = ["preview_xy.png", "preview_xz.png", "preview_yz.png"]
    assert [file.name for file in files] == names
    pixels = [np.asarray(Image.open(file)) for file in files]
    assert [picture.shape for picture in pixels] == [(128, 128), (40, 128), (40, 128)]
    # 20 um are 25 pixels, white, at the lower left.
    bar = pixels[0][-4, :60]
    assert 24 <= (bar == 255).sum() <= 27
    assert not list((tmp_path / "previews").glob("*.tmp"))
