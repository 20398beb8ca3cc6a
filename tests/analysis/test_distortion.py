import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from analysis.distortion import Unwarp
from analysis.errors import DataError
from analysis.settings import DistortionSettings

MODEL = DistortionSettings(
    centre_x_px=70.3, centre_y_px=41.2, coefficients=(1.0, 2e-4, -3e-7)
)


def test_a_frame_is_sampled_where_the_model_says():
    frame = np.random.default_rng(0).normal(size=(90, 130)).astype(np.float32)
    frame = ndimage.gaussian_filter(frame, 2)
    y, x = np.mgrid[:90, :130].astype(float)
    y, x = y - 41.2, x - 70.3
    r = np.hypot(y, x)
    stretch = 1 + 2e-4 * r - 3e-7 * r**2
    expected = ndimage.map_coordinates(
        frame, [y * stretch + 41.2, x * stretch + 70.3], order=1, mode="nearest"
    )
    made = Unwarp(MODEL, (90, 130), slice(0, 90))(frame)
    assert np.abs(made - expected).max() < 1e-5
    some = Unwarp(MODEL, (90, 130), slice(20, 33))(frame)
    assert np.array_equal(some, made[20:33])


def test_no_distortion_changes_nothing():
    plain = DistortionSettings(centre_x_px=5, centre_y_px=7, coefficients=(1.0,))
    frame = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    # One rounding of single precision.
    assert np.allclose(Unwarp(plain, (20, 30), slice(0, 20))(frame), frame, atol=1e-6)


def grid_of_dots(model, shape, pitch, radius):
    """Draw the dots where a lens with the backward model shows them."""
    image = np.full(shape, 200.0)
    reach = radius + 2
    # Midway between dots: where one stands on the centre itself, the two lines that
    # tell the centre are not straight enough to tell which side it is on.
    places = (np.arange(-max(shape) // pitch, max(shape) // pitch) + 0.5) * pitch
    for row in places:
        for column in places:
            stretch = np.polynomial.polynomial.polyval(
                np.hypot(row, column), model.coefficients
            )
            y = model.centre_y_px + stretch * row
            x = model.centre_x_px + stretch * column
            top, left = max(round(y) - reach, 0), max(round(x) - reach, 0)
            bottom, right = max(round(y) + reach, 0), max(round(x) + reach, 0)
            part = image[top:bottom, left:right]
            near_y, near_x = np.ogrid[: part.shape[0], : part.shape[1]]
            away = np.hypot(near_y + top - y, near_x + left - x)
            part -= 150 * np.clip(radius + 0.5 - away, 0, 1)
    return ndimage.gaussian_filter(image, 1.0)


@pytest.mark.slow
def test_a_drawn_target_is_straightened():
    # As many dots as a beamline's target has, and a corner that is 30 px off.
    model = DistortionSettings(
        centre_x_px=646.3, centre_y_px=485.4, coefficients=(1.0, 0.0, -6e-8)
    )
    from analysis.distortion_calibration import calibrate_distortion

    found = calibrate_distortion(grid_of_dots(model, (1000, 1250), 25, 6))
    assert found.residual_before_px > 8
    # The bounds of the issue.
    assert found.residual_px <= 0.5
    assert found.model.centre_x_px == pytest.approx(646.3, abs=1)
    assert found.model.centre_y_px == pytest.approx(485.4, abs=1)
    r = np.arange(790.0)
    scale, *_ = found.model.coefficients
    made = r * np.polynomial.polynomial.polyval(r, found.model.coefficients) / scale
    truth = r * np.polynomial.polynomial.polyval(r, model.coefficients)
    # Out to the corner, but for the size of a pixel, which no such target tells.
    assert np.abs(made - truth).max() < 0.5


@pytest.mark.slow
def test_the_published_calibration_of_a_real_target(shared_data):
    from analysis.distortion_calibration import calibrate_distortion

    with Image.open(shared_data / "distortion/dot_pattern_01.jpg") as picture:
        target = np.asarray(picture.convert("F"))
    found = calibrate_distortion(target)
    assert found.model.centre_x_px == pytest.approx(1252.15286, abs=1)
    assert found.model.centre_y_px == pytest.approx(1008.90885, abs=1)
    assert found.residual_before_px == pytest.approx(13.06, abs=0.1)
    assert found.residual_px <= 0.5
    # How far the corner of the frame is moved, as with the published coefficients.
    published = (1.00027631, -1.25730878e-6, -1.43170401e-8, -1.65727563e-12)
    corner = 1650.0
    moved = np.polynomial.polynomial.polyval(corner, found.model.coefficients)
    expected = np.polynomial.polynomial.polyval(corner, (*published, 7.8910987e-16))
    assert corner * abs(moved - expected) < 1.0


def test_an_image_without_dots_is_told():
    from analysis.distortion_calibration import calibrate_distortion

    with pytest.raises(DataError, match="no grid of dots"):
        calibrate_distortion(np.zeros((64, 64)))
    with pytest.raises(DataError, match="must be"):
        calibrate_distortion(np.zeros((4, 64, 64)))
