"""The body that cracks: a smooth pellet, or the whole volume."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
        total = 0.0
        for z in range(self.rim.shape[0]):
            height = np.minimum(self.bottom, z + 0.5) - np.maximum(self.top, z - 0.5)
            across = np.clip(self.rim[z][nearest] - radius + 0.5, 0, 1)
            total += float((np.clip(height, 0, 1) * across).sum(dtype=np.float64))
        return total


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
