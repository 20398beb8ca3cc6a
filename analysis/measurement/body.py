"""The body that cracks: a smooth pellet, or the whole volume."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Surfaces(NamedTuple):
    """A body's surfaces in the form that kernels take, for some rows.

    Attributes
    ----------
    top, bottom : ndarray, float32, shape (y, x)
        Height z of the faces.
    lowest_top, highest_bottom : float
        Between these heights no column meets a face.
    rim : ndarray, float32, shape (row, angle)
        Radius of the rim.
    centre : tuple[float, float]
        (y, x) from which the rim is measured.
    radius, angle : ndarray, float32, shape (y, x)
        Of each column, the angle as an index into ``rim``.
    sigma_px : float
        Blur of the surfaces; 0 for sharp ones.
    """

    top: NDArray[np.float32]
    bottom: NDArray[np.float32]
    lowest_top: float
    highest_bottom: float
    rim: NDArray[np.float32]
    centre: tuple[float, float]
    radius: NDArray[np.float32]
    angle: NDArray[np.float32]
    sigma_px: float

    def of_rows(self, start: int, stop: int) -> "Surfaces":
        """Return the same with the rim of these rows only."""
        return self._replace(rim=self.rim[start:stop])


@dataclass(frozen=True)
class Body:
    """Smooth surfaces of the body, in voxel coordinates (centres at integers).

    Attributes
    ----------
    top, bottom : ndarray, float32, shape (y, x)
        Height z of the faces towards the anode (row 0) and the cathode.
    rim : ndarray, float32, shape (z, angle)
        Radius about ``centre`` of the rim; infinite for a body without one.
    centre : tuple[float, float]
        (y, x) from which the rim is measured.
    edge_sigma_px : float
        Blur of the surfaces; 0 for sharp ones.
    """

    top: NDArray[np.float32]
    bottom: NDArray[np.float32]
    rim: NDArray[np.float32]
    centre: tuple[float, float]
    edge_sigma_px: float

    def rows(self, margin: int, number: int) -> tuple[int, int]:
        """Return the rows z (start, stop) that hold the body and a margin."""
        start = max(0, int(np.floor(self.top.min())) - margin)
        stop = min(number, int(np.ceil(self.bottom.max())) + margin + 1)
        return start, stop

    def surfaces(self) -> Surfaces:
        """Return the surfaces of all rows as kernels take them."""
        top, bottom = float(self.top.max()), float(self.bottom.min())
        return Surfaces(
            self.top, self.bottom, top, bottom, self.rim, self.centre, *self.polar(),
            self.edge_sigma_px,
        )  # fmt: skip

    def polar(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return radius and angle index of every column (y, x)."""
        y = (np.arange(self.top.shape[0], dtype=np.float32) - self.centre[0])[:, None]
        x = (np.arange(self.top.shape[1], dtype=np.float32) - self.centre[1])[None, :]
        number = self.rim.shape[1]
        angle = np.arctan2(y, x) * (number / (2 * np.pi))
        return np.hypot(y, x), np.mod(angle, number).astype(np.float32)

    def volume_px(self) -> float:
        """Return the volume inside the surfaces, in voxels."""
        radius, angle = self.polar()
        nearest = np.round(angle).astype(np.intp) % self.rim.shape[1]
        first = max(0, int(np.median(self.top)))
        last = min(len(self.rim), int(np.median(self.bottom)) + 1)
        # The rim leans and bulges little: its mean over the height is enough.
        rim = self.rim[first : max(last, first + 1)].mean(axis=0)
        across = np.clip(rim[nearest] - radius + 0.5, 0, 1)
        height = np.clip(self.bottom - self.top, 0, None)
        return float((height * across).sum(dtype=np.float64))


def whole_body(shape: tuple[int, int, int]) -> Body:
    """Return a body that fills the volume."""
    nz, ny, nx = shape
    return Body(
        top=np.full((ny, nx), -0.5, np.float32),
        bottom=np.full((ny, nx), nz - 0.5, np.float32),
        rim=np.full((nz, 4), np.inf, np.float32),
        centre=(ny / 2 - 0.5, nx / 2 - 0.5),
        edge_sigma_px=0.0,
    )
