"""Line integrals through the cell.

Detector columns are whole numbers at pixel centres. At angle theta a point (x, y),
counted in pixels from the rotation axis, is seen at column
``axis + x cos(theta) + y sin(theta)``. A line integral is the mean over a pixel's
width, so that no attenuation is lost between pixels.
"""

from math import cos, radians, sin

import numpy as np
from numba import njit


def chord_px(columns: np.ndarray, middle: float, radius: float) -> np.ndarray:
    """Return a circle's chord, averaged over each pixel.

    Parameters
    ----------
    columns : numpy.ndarray
        Pixel centres.
    middle : float
        Column of the circle's centre.
    radius : float
        Radius in pixels.

    Returns
    -------
    numpy.ndarray
        Length in pixels, exact: the difference of the chord's antiderivative.
    """
    if radius <= 0:
        return np.zeros(len(columns))

    def antiderivative(edge: np.ndarray) -> np.ndarray:
        t = np.clip(edge / radius, -1, 1)
        return radius**2 * (t * np.sqrt(1 - t * t) + np.arcsin(t))

    left = np.asarray(columns, dtype=float) - middle - 0.5
    return antiderivative(left + 1) - antiderivative(left)


def row_cover(rows: np.ndarray, top: float, bottom: float) -> np.ndarray:
    """Return the part of each pixel row between two heights given in rows."""
    high = np.minimum(rows + 0.5, bottom)
    low = np.maximum(rows - 0.5, top)
    return np.clip(high - low, 0, 1)


def project_columns(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    *,
    angle_deg: float,
    middle: float,
    num_columns: int,
) -> np.ndarray:
    """Project columns of voxels onto the detector.

    Parameters
    ----------
    x, y : numpy.ndarray
        (n,) place of each column in pixels, relative to the lattice's middle.
    values : numpy.ndarray
        (n, rows) float32 value of each voxel; a voxel is a pixel wide.
    angle_deg : float
        Angle of rotation.
    middle : float
        Detector column at which the lattice's middle is seen.
    num_columns : int
        Width of the detector.

    Returns
    -------
    numpy.ndarray
        (num_columns, rows) float32 line integrals in pixels.
    """
    image = np.zeros((num_columns, values.shape[1]), dtype=np.float32)
    angle = radians(angle_deg)
    _splat(image, x, y, values, cos(angle), sin(angle), middle)
    return image


@njit(cache=True, nogil=True)
def _covered(edge: float, flat: float, wide: float) -> float:
    """Return the part of a square's shadow left of `edge`.

    The shadow is a trapezoid: level for `flat` on both sides of its middle, falling
    to zero at `wide`.
    """
    if edge <= -wide:
        return 0.0
    if edge >= wide:
        return 1.0
    slope = wide - flat
    height = 1.0 / (wide + flat)
    if edge < -flat:
        run = edge + wide
        return 0.5 * height * run * run / slope
    if edge <= flat:
        return 0.5 + height * edge
    run = wide - edge
    return 1.0 - 0.5 * height * run * run / slope


@njit(cache=True, nogil=True, fastmath=True)
def _splat(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    cosine: float,
    sine: float,
    middle: float,
) -> None:
    num_columns, rows = image.shape
    a, b = abs(cosine) / 2, abs(sine) / 2
    flat, wide = abs(a - b), a + b
    for k in range(len(x)):
        seen = middle + x[k] * cosine + y[k] * sine
        first = int(np.floor(seen - wide + 0.5))
        last = int(np.floor(seen + wide + 0.5))
        source = values[k]
        before = _covered(first - 0.5 - seen, flat, wide)
        for column in range(first, last + 1):
            after = _covered(column + 0.5 - seen, flat, wide)
            weight = np.float32(after - before)
            before = after
            if weight > 0 and 0 <= column < num_columns:
                target = image[column]
                for z in range(rows):
                    target[z] += weight * source[z]
