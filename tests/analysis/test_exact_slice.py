"""The benchmark's compiled yardstick is the plain one."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

EXACT = Path(__file__).parents[2] / "benchmarks" / "exact_slice.py"


@pytest.fixture(scope="module")
def exact_slice():
    spec = importlib.util.spec_from_file_location("exact_slice", EXACT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.exact_slice


# 1e-12 of the largest value: float64, sums of a hundred terms. Wider than a tile, odd,
# and off the middle.
@pytest.mark.parametrize(
    ("width", "num_angles", "axis_px"), [(64, 40, 31.5), (101, 45, 44.3), (96, 33, 70)]
)
def test_the_compiled_yardstick_is_the_plain_one(
    oracle, exact_slice, width, num_angles, axis_px
):
    angles = np.arange(num_angles) * 180 / num_angles
    sinogram = oracle.phantom_sinogram(width, angles, axis_px)
    plain = oracle.exact_fbp(sinogram, angles, axis_px)
    compiled = exact_slice(sinogram, angles, axis_px)
    assert np.abs(compiled - plain).max() < 1e-12 * np.abs(plain).max()
    some = exact_slice(sinogram, angles, axis_px, rows=[3, width - 1])
    assert np.array_equal(some, compiled[[3, width - 1]])
