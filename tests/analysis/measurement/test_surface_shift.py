"""What a surface one voxel elsewhere would do, beside measuring it there."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.measure import measure_tomogram
from analysis.measurement.cracks import measure_cracks
from analysis.measurement.settings import MeasurementSettings
from analysis.volume import ArrayVolume

sys.path.insert(0, str(Path(__file__).parent))

from measurement_phantom import Sheet, make_phantom

SETTINGS = MeasurementSettings()


def test_shifted_surfaces_change_the_volume_as_measuring_there_does():
    sheet = Sheet((55, 80, 128), (0.1, 1, 0.3), 4.0, 30)  # opens to rim and faces
    volume = ArrayVolume(make_phantom(sheets=[sheet], psf=0.9).grey, 0.8)

    result = measure_tomogram(volume, SETTINGS)

    row, body, crack = result.row(), result.body, result.crack
    here_px = crack.volume.deficit_px
    for name, change in (
        ("faces_in", {"top": body.top + 1, "bottom": body.bottom - 1}),
        ("faces_out", {"top": body.top - 1, "bottom": body.bottom + 1}),
        ("rim_in", {"rim": body.rim - 1}),
        ("rim_out", {"rim": body.rim + 1}),
    ):
        moved = measure_cracks(
            volume, replace(body, **change), result.levels, SETTINGS, is_mask=False
        )
        exact_px = moved.volume.deficit_px - here_px
        shift_px = row[f"crack_volume_{name}_um3"] / 0.8**3 - here_px
        # The mask is kept: measured there, it loses little inwards, but grows along
        # the layer that a surface too far out leaves beside the crack.
        least, most = (0.8, 1.3) if name.endswith("in") else (0.4, 1.0)
        assert least < shift_px / exact_px < most, name


@pytest.mark.parametrize(
    ("declared", "voxel_um"),
    [
        ({"pellet_diameter_um": 124 * 0.8}, 1.6),
        ({"pellet_thickness_um": 36.3 * 0.8}, 0.4),
        ({"pellet_diameter_um": 99.0, "pellet_thickness_um": 29.0}, 0.325),
    ],
)
def test_a_wrong_voxel_size_is_told_by_the_pellet(declared, voxel_um):
    grey = make_phantom(noise=0.05).grey
    settings = MeasurementSettings(**declared)

    right = measure_tomogram(ArrayVolume(grey, 0.8), settings).row()
    wrong = measure_tomogram(ArrayVolume(grey, voxel_um), settings).row()

    assert "voxel" not in str(right["reason"])
    assert f"not {voxel_um:.4g}" in wrong["reason"]
    told = float(wrong["reason"].split("a voxel would be ")[1].split(" um")[0])
    assert told == pytest.approx(0.8, rel=0.01)
    assert wrong["crack_volume_um3"] is not None  # told, and measured all the same
