"""TomoPy's gridrec behind our conventions.

TomoPy's slices stand upside down beside ours and its rows turn about ``size / 2 - 1``;
both are undone here. Its grey values are not quantitative: it sets the mean of every
filtered projection to zero and its values grow with the radius, see
``docs/reconstruction.md``. It serves those who want to compare with earlier work.
"""

import importlib
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.filters import WINDOWS

TOMOPY_FILTERS = {
    "ramp": "ramlak",
    "shepp-logan": "shepp",
    "cosine": "cosine",
    "hann": "hann",
    "parzen": "parzen",
}


class TomopyGridrec:
    """Reconstructs slices of one geometry with ``tomopy.recon``.

    Parameters are those of `analysis.gridrec.Gridrec`; ``size_px`` must be the width.
    """

    name = "tomopy"
    batch = 16

    def __init__(
        self,
        angles_deg: NDArray[np.float64],
        width_px: int,
        rotation_axis_px: float,
        *,
        filter_window: str = "ramp",
        padding: str = "zero",
        size_px: int | None = None,
        threads: int | None = None,
    ) -> None:
        if filter_window not in WINDOWS:
            raise ValueError(
                f"window is {filter_window!r}; it must be one of {', '.join(WINDOWS)}"
            )
        if size_px not in {None, width_px}:
            raise ValueError(
                f"engine tomopy gives slices as wide as the detector, {width_px} px; "
                f"{size_px} px asked for"
            )
        self._angles_rad = np.deg2rad(np.asarray(angles_deg, np.float64))
        self._width = width_px
        self._axis_px = rotation_axis_px
        self._filter = TOMOPY_FILTERS[filter_window]
        self._edge = padding == "edge"
        self._threads = threads or len(os.sched_getaffinity(0))

    def reconstruct(
        self, sinograms: NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Turn sinograms (slice, angle, x) into slices (slice, y, x)."""
        # No dependency: TomoPy has no wheel, and most machines go without it.
        tomopy = importlib.import_module("tomopy")
        # An even width: about an odd one TomoPy turns between two pixels.
        left = self._width // 2 if self._edge else 0
        right = left + self._width % 2
        padded = np.pad(
            sinograms,
            ((0, 0), (0, 0), (left, right)),
            mode="edge" if self._edge else "constant",
        )
        slices: NDArray[Any] = tomopy.recon(
            padded,
            self._angles_rad,
            center=self._axis_px + left,
            sinogram_order=True,
            algorithm="gridrec",
            filter_name=self._filter,
            ncore=self._threads,
        )
        turned = upright(slices, self._width)
        if out is None:
            return turned
        out[:] = turned
        return out


def upright(slices: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Turn TomoPy's slices the way ours stand and clear what lies off the circle.

    Parameters
    ----------
    slices : ndarray, shape (slice, width, width), float32
        Width even, the axis of rotation at row ``width / 2 - 1``, column
        ``width / 2``, y up.
    size : int
        Rows and columns wanted, axis at pixel (size // 2, size // 2).

    Returns
    -------
    ndarray, shape (slice, size, size), float32
    """
    start = slices.shape[1] // 2 - size // 2
    inside = slice(start, start + size)
    turned = np.ascontiguousarray(slices[:, ::-1][:, inside, inside], np.float32)
    place = np.arange(size) - size // 2
    off = place[:, None] ** 2 + place[None] ** 2 > (size / 2) ** 2
    turned[:, off] = 0
    return turned
