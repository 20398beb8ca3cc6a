"""The voxels around a face of the pellet, laid flat: one axis goes away from it."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.volume import VolumeSource


@dataclass(frozen=True)
class FaceBand:
    """Columns across a face, in order from inside the pellet outwards.

    Attributes
    ----------
    grey : ndarray, float32, shape (y, x, offset)
        Grey of the voxel ``offset - inside_px`` voxels outside the face's row.
    shift : ndarray, float32, shape (y, x)
        How far outside the face the voxel of offset ``inside_px`` lies, voxels.
    inside_px : int
        Voxels of each column that lie inside.
    within : ndarray of bool, shape (y, x)
        Columns inside the rim.
    reach_px : int
        Greatest thickness of a void; the lithium's grey is taken from beyond.
    sigma_px : float
        Blur of the pellet's face.
    """

    grey: NDArray[np.float32]
    shift: NDArray[np.float32]
    inside_px: int
    within: NDArray[np.bool_]
    reach_px: int
    sigma_px: float

    @property
    def outward_px(self) -> NDArray[np.float32]:
        """Whole voxels outwards of each offset; add ``shift`` for the distance."""
        number = self.grey.shape[2]
        return np.arange(number, dtype=np.float32) - np.float32(self.inside_px)


def read_face_band(
    volume: VolumeSource,
    face: NDArray[np.float32],
    *,
    top: bool,
    inside_px: int,
    outside_px: int,
    within: NDArray[np.bool_],
    reach_px: int,
    sigma_px: float,
    slab_bytes: int,
) -> FaceBand | None:
    """Read the columns across a face; None where they leave the volume.

    Parameters
    ----------
    volume : VolumeSource
        The grey volume.
    face : ndarray, shape (y, x)
        Height z of the face.
    top : bool
        The face looks towards row 0.
    inside_px, outside_px : int
        Voxels of each column inside and outside the face.
    within, reach_px, sigma_px
        As in `FaceBand`.
    slab_bytes : int
        Size of the slab of the volume held at once.
    """
    nz, ny, nx = volume.shape
    nearest = np.rint(face).astype(np.int32)
    outward = -1 if top else 1
    ends = nearest - outward * inside_px, nearest + outward * (outside_px - 1)
    first = int(min(end.min() for end in ends))
    last = int(max(end.max() for end in ends))
    if first < 0 or last >= nz:
        return None
    grey = np.empty((ny, nx, inside_px + outside_px), np.float32)
    step = max(1, slab_bytes // (4 * ny * nx))
    for start in range(first, last + 1, step):
        stop = min(start + step, last + 1)
        slab = np.ascontiguousarray(volume.slab(start, stop), dtype=np.float32)
        _take(slab, start, nearest, outward, inside_px, grey)
    shift = outward * (nearest - face)
    return FaceBand(
        grey, shift.astype(np.float32), inside_px, within, reach_px, sigma_px
    )


@numba.njit(cache=True, parallel=True)
def _take(
    slab: np.ndarray,
    first: int,
    nearest: np.ndarray,
    outward: int,
    inside_px: int,
    grey: np.ndarray,
) -> None:
    for y in numba.prange(grey.shape[0]):
        for x in range(grey.shape[1]):
            for offset in range(grey.shape[2]):
                row = nearest[y, x] + outward * (offset - inside_px) - first
                if 0 <= row < slab.shape[0]:
                    grey[y, x, offset] = slab[row, y, x]
