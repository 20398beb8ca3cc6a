"""Radial lens distortion of the detector's optics, by a polynomial.

A point at distance r from the centre in the corrected image is seen in the camera's
at ``r (a0 + a1 r + a2 r^2 + ...)`` on the same line through the centre: the backward
model of Vo 2015. Its coefficients come from the image of a
dot target, see `analysis.distortion_calibration`.

References
----------
N. T. Vo, R. C. Atwood and M. Drakopoulos, Opt. Express 23 (2015) 32859,
doi:10.1364/OE.23.032859
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from analysis.settings import DistortionSettings


class Unwarp:
    """Corrects frames of one shape; all that depends on the shape is done once.

    Parameters
    ----------
    model : DistortionSettings
    shape : tuple[int, int]
        Rows and columns of a frame of the camera.
    rows : slice
        Rows of the corrected frame that are wanted.
    """

    def __init__(
        self, model: DistortionSettings, shape: tuple[int, int], rows: slice
    ) -> None:
        height, width = shape
        y = np.arange(*rows.indices(height), dtype=np.float64)[:, None]
        x = np.arange(width, dtype=np.float64)[None]
        y, x = y - model.centre_y_px, x - model.centre_x_px
        stretch = np.polynomial.polynomial.polyval(np.hypot(y, x), model.coefficients)
        # Places beyond the frame take the value at its edge.
        from_y = np.clip(y * stretch + model.centre_y_px, 0, height - 1)
        from_x = np.clip(x * stretch + model.centre_x_px, 0, width - 1)
        low_y = np.clip(from_y.astype(np.int32), 0, height - 2)
        low_x = np.clip(from_x.astype(np.int32), 0, width - 2)
        self._place = (low_y * width + low_x).astype(np.int32)
        self._share_y = (from_y - low_y).astype(np.float32)
        self._share_x = (from_x - low_x).astype(np.float32)

    def __call__(
        self, frame: NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the corrected frame, interpolated between four pixels."""
        if out is None:
            out = np.empty(self._place.shape, np.float32)
        _interpolate(frame, self._place, self._share_y, self._share_x, out)
        return out


@njit(cache=True, nogil=True, fastmath=True)
def _interpolate(frame, place, share_y, share_x, out):
    width = frame.shape[1]
    values = frame.ravel()
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            at = place[y, x]
            part = share_x[y, x]
            above = values[at] + part * (values[at + 1] - values[at])
            at += width
            below = values[at] + part * (values[at + 1] - values[at])
            out[y, x] = above + share_y[y, x] * (below - above)
