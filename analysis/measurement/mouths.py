"""Where cracks leave through a face at a small angle.

Its last voxels are a notch in the face, shallower than the roughness of a surface and
wider than a crack is followed there. What tells it from roughness is its width: the
grey that columns lack across the face, averaged over some of them, and that it goes on
from where the crack is seen.
"""

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analysis.measurement.body import Body

OUTSIDE_PX = 3.0
ACROSS_SIGMA_PX = 2.0
LEAST_PX = 0.25
"""Shallower notches are not followed."""

ROUGH_SPREADS = 5.0
"""What is so many times deeper than a face's outer side is rough is no roughness."""

FARTHEST_PX = 24
"""A notch of two voxels at 5 degrees is as long."""

RIM_PX = 4.0


@numba.njit(cache=True, parallel=True)
def _add_rows(
    deficit: np.ndarray, first_row: int, top: np.ndarray, bottom: np.ndarray,
    inside_px: float, lack: np.ndarray,
) -> None:  # fmt: skip
    """Add to ``lack`` (face, y, x) what the columns miss across both faces."""
    rows, ny, nx = deficit.shape
    outside = np.float32(-OUTSIDE_PX)
    for y in numba.prange(ny):
        for row in range(rows):
            z = np.float32(first_row + row)
            for x in range(nx):
                if outside < z - top[y, x] < inside_px:
                    lack[0, y, x] += deficit[row, y, x]
                if outside < bottom[y, x] - z < inside_px:
                    lack[1, y, x] += deficit[row, y, x]


class FaceNotches:
    """What columns lack across both faces, added up while the rows go by.

    Parameters
    ----------
    body : Body
        With surfaces of its own.
    deep_px : float
        Depth from which a crack is seen without doubt.
    """

    def __init__(self, body: Body, deep_px: float) -> None:
        self._body = body
        self._inside_px = deep_px + 1.0
        self._middle = 0.5 * (body.top + body.bottom)
        self._lack = np.zeros((2, *body.top.shape), np.float32)
        reach = self._inside_px + 1
        self._near = (
            (float(body.top.min()) - reach, float(body.top.max()) + reach),
            (float(body.bottom.min()) - reach, float(body.bottom.max()) + reach),
        )

    def near_a_face(self, start: int, stop: int) -> bool:
        """Return whether rows hold a part of a face."""
        return any(start < high and stop > low for low, high in self._near)

    def add(self, first_row: int, deficit: NDArray[np.float32]) -> None:
        """Add the rows (row, y, x) from ``first_row`` on."""
        if self.near_a_face(first_row, first_row + len(deficit)):
            body = self._body
            _add_rows(
                deficit, first_row, body.top, body.bottom, self._inside_px, self._lack
            )

    def side(self, first_row: int, number: int) -> NDArray[np.bool_]:
        """Return which voxels (row, y, x) lie in the half next to the anode."""
        rows = np.arange(first_row, first_row + number)[:, None, None]
        return rows < self._middle

    def grown(self, seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the columns (face, y, x) that a notch fills, from its seeds on.

        Parameters
        ----------
        seeds : ndarray of bool, shape (face, y, x)
            Columns in which a crack was followed to the surface.
        """
        radius, _ = self._body.polar()
        within = radius < float(np.median(self._body.rim)) - RIM_PX
        out = np.zeros(seeds.shape, np.bool_)
        for face, lack in enumerate(self._lack):
            if not seeds[face].any():
                continue
            mean = ndimage.gaussian_filter(lack, ACROSS_SIGMA_PX)
            # A face that lies elsewhere than the smooth one all over is no notch.
            mean = mean - float(np.median(mean[within]))
            outer = mean[within & (mean < 0)]
            rough = 1.4826 * float(np.median(-outer)) if outer.size else 0.0
            notch = within & (mean > max(LEAST_PX, ROUGH_SPREADS * rough))
            out[face] = ndimage.binary_dilation(
                seeds[face] & notch, np.ones((3, 3)), FARTHEST_PX, mask=notch
            )
        return out
