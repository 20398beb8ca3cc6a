import numpy as np
import pytest

from analysis.errors import DataError
from analysis.normalise import FlatField, FrameAverage
from analysis.nxtomo_reader import NXtomoScan
from analysis.rotation_axis import find_rotation_axis, half_turn_pair


# The bound of the issue; noise is that of 10 % of the largest attenuation in a pixel
# or less, over the 200 rows of a small scan.
@pytest.mark.parametrize(
    ("width", "angles", "axis_px", "noise"),
    [
        (320, np.arange(360) * 0.5, 161.3, 0.0),
        (320, np.arange(360) * 0.5, 150.85, 0.1),
        (161, -88.2 + np.arange(181), 80.0, 0.05),
    ],
)
def test_the_axis_is_found_to_a_tenth_of_a_pixel(oracle, width, angles, axis_px, noise):
    sinogram = oracle.phantom_sinogram(width, angles, axis_px)
    rng = np.random.default_rng(1)

    def frame(index):
        rows = np.repeat(sinogram[None, index], 200, axis=0)
        return rows + rng.normal(0, noise, rows.shape).astype(np.float32)

    assert find_rotation_axis(frame, angles) == pytest.approx(axis_px, abs=0.1)


def test_the_axis_of_the_real_scan_from_the_papers_beamline(shared_data):
    with NXtomoScan(shared_data / "projections/nxtomo_24737_i13.nxs") as scan:
        darks, flats = FrameAverage("darks"), FrameAverage("flats")
        darks.add(scan.frames[scan.darks])
        flats.add(scan.frames[scan.flats])
        field = FlatField(darks.mean(), flats.mean())

        def frame(index):
            out = np.empty(field.shape, np.float32)
            field.attenuation(scan.frames[int(scan.projections[index])], out)
            return out

        found = find_rotation_axis(frame, scan.angles_deg)
    # 85.5-85.75 in the data's notes; two finders disagree by up to 0.1 px on it.
    assert 85.4 <= found <= 85.85


def test_the_pair_nearest_to_half_a_turn_is_taken():
    assert half_turn_pair(np.array([10.0, 190.5, 0.0, 180.1, 90.0])) == (2, 3)


def test_a_scan_of_less_than_half_a_turn_has_no_pair():
    with pytest.raises(DataError, match="from 0 to 120 deg.*set rotation_axis_px"):
        half_turn_pair(np.linspace(0, 120, 50))


def test_an_empty_beam_has_no_axis():
    with pytest.raises(DataError, match="nothing in common"):
        find_rotation_axis(lambda _: np.zeros((4, 32), np.float32), np.arange(181.0))
