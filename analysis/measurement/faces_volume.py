"""A phase-retrieved companion of a tomogram: the rows around the pellet's faces.

``scan_0007.faces.h5`` beside ``scan_0007.h5``: the rows of both faces, one range below
the other, with ``/entry/faces/rows`` (range; start, stop) in rows of the tomogram.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.measurement.void_optics import VoidOptics, phase_optics
from analysis.volume import Hdf5Volume

FACES_SUFFIX = ".faces.h5"


def faces_file(tomogram_file: Path) -> Path:
    """Return where the companion of a tomogram is kept."""
    return tomogram_file.with_suffix(FACES_SUFFIX)


class FacesVolume(AbstractContextManager["FacesVolume"]):
    """Rows of a companion, numbered as in its tomogram.

    Parameters
    ----------
    path : Path
        Its file.

    Raises
    ------
    DataError
        The file is no companion.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with h5py.File(path, "r") as file:
                group: Any = file["entry/faces"]
                self._ranges = [tuple(map(int, rows)) for rows in group["rows"][()]]
                z, y, x = (int(size) for size in group.attrs["volume_shape"])
                self.delta_beta = float(group.attrs["delta_beta"])
                self.distance_mm = float(group.attrs["distance_mm"])
                self.energy_kev = float(group.attrs["energy_kev"])
        except (OSError, KeyError) as error:
            raise DataError(
                f"{path}: not readable as companion of a tomogram ({error}); remove it "
                "or reconstruct the scan again"
            ) from error
        self.shape = (z, y, x)
        self._volume = Hdf5Volume(path)
        self.voxel_size_um = self._volume.voxel_size_um

    def holds(self, start: int, stop: int) -> bool:
        """Whether the rows ``start`` to ``stop`` are all there."""
        return any(first <= start and stop <= last for first, last in self._ranges)

    def slab(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return rows ``start`` to ``stop``, shape (z, y, x)."""
        above = 0
        for first, last in self._ranges:
            if first <= start and stop <= last:
                return self._volume.slab(above + start - first, above + stop - first)
            above += last - first
        raise DataError(f"{self._path}: rows {start} to {stop} are not in it")

    def optics(self, lithium_per_px: float) -> VoidOptics:
        """Return how a void shows, given the lithium's attenuation per voxel."""
        return phase_optics(
            self.delta_beta, self.distance_mm, self.energy_kev, self.voxel_size_um,
            lithium_per_px / self.voxel_size_um,
        )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self._volume.close()

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self.close()
