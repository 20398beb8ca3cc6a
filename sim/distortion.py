"""What lens and alignment do to the picture: radial distortion and a tilted axis."""

from math import cos, hypot, radians, sin

import numpy as np
from numba import njit


def warp(
    image: np.ndarray,
    *,
    tilt_deg: float,
    pivot: tuple[float, float],
    corner_shift_px: float,
) -> np.ndarray:
    """Return the picture as a tilted, distorting camera sees it.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns) float32 ideal picture.
    tilt_deg : float
        Angle of the rotation axis to the columns; positive turns the picture
        clockwise, the top to the right.
    pivot : tuple[float, float]
        Row and column about which it turns.
    corner_shift_px : float
        How far outwards a corner is seen; the shift grows with the cube of the
        distance from the middle (barrel distortion is negative).

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32, interpolated by cubics that keep sharp edges.
    """
    rows, columns = image.shape
    corner = hypot((rows - 1) / 2, (columns - 1) / 2)
    return _warp(
        np.ascontiguousarray(image, dtype=np.float32),
        cos(radians(tilt_deg)),
        sin(radians(tilt_deg)),
        pivot[0],
        pivot[1],
        corner_shift_px / corner**3,
    )


@njit(cache=True, nogil=True)
def _cubic(t: float) -> tuple[float, float, float, float]:
    """Return the weights of four neighbours (Catmull-Rom)."""
    a = t * (-0.5 + t * (1 - 0.5 * t))
    b = 1 + t * t * (-2.5 + 1.5 * t)
    c = t * (0.5 + t * (2 - 1.5 * t))
    d = t * t * (-0.5 + 0.5 * t)
    return a, b, c, d


@njit(cache=True, nogil=True)
def _warp(
    image: np.ndarray,
    cosine: float,
    sine: float,
    pivot_row: float,
    pivot_column: float,
    bend: float,
) -> np.ndarray:
    rows, columns = image.shape
    out = np.empty((rows, columns), np.float32)
    middle_row, middle_column = (rows - 1) / 2, (columns - 1) / 2
    for r in range(rows):
        for c in range(columns):
            y, x = r - middle_row, c - middle_column
            # Invert r' = r + bend r**3 by two fixed-point steps: it is a pixel or two.
            scale = 1.0
            for _ in range(3):
                scale = 1 / (1 + bend * (x * x + y * y) * scale * scale)
            y = y * scale + middle_row - pivot_row
            x = x * scale + middle_column - pivot_column
            row = cosine * y - sine * x + pivot_row
            column = sine * y + cosine * x + pivot_column
            i, j = int(np.floor(row)), int(np.floor(column))
            down, across = _cubic(row - i), _cubic(column - j)
            total = 0.0
            for a in range(4):
                k = min(max(i + a - 1, 0), rows - 1)
                for b in range(4):
                    m = min(max(j + b - 1, 0), columns - 1)
                    total += down[a] * across[b] * image[k, m]
            out[r, c] = total
    return out
