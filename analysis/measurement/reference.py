"""What a tomogram is compared with: the pristine one and the one before."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin as hdf5plugin  # registers the filters that h5py reads
import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.measurement.new_cracks import MaskRows
from analysis.measurement.registration import RigidMotion


@dataclass(frozen=True)
class Reference:
    """Result files of earlier tomograms, as ``TomogramMeasurement.write`` makes them.

    Attributes
    ----------
    pristine_file : Path, optional
        The first tomogram: drift and tilt are told relative to it.
    previous_file : Path, optional
        The tomogram before: cracks that it lacks are new.
    """

    pristine_file: Path | None = None
    previous_file: Path | None = None


@dataclass(frozen=True)
class PristineVolume:
    """The pristine tomogram, binned for the registration.

    Attributes
    ----------
    coarse : ndarray, float32, shape (z, y, x)
        Grey values.
    factor : int
        Its voxel in voxels.
    pellet : ndarray of bool
        Voxels of the pellet and its surface.
    grey_low, grey_high : float
        Grey levels, for a common grey scale.
    """

    coarse: NDArray[np.float32]
    factor: int
    pellet: NDArray[np.bool_]
    grey_low: float
    grey_high: float


def read_pristine(path: Path) -> PristineVolume:
    """Read the pristine tomogram's coarse volume from its result file.

    Raises
    ------
    DataError
        Where the file is not such a result.
    """
    with _opened(path) as file:
        group = _item(file, path, "entry/registration", h5py.Group)
        return PristineVolume(
            coarse=group["data"][()],
            factor=int(group.attrs["factor"]),
            pellet=group["pellet"][()] > 0,
            grey_low=float(group.attrs["grey_low"]),
            grey_high=float(group.attrs["grey_high"]),
        )


@dataclass(frozen=True)
class PreviousCracks:
    """The cracks of the tomogram before, read row by row."""

    rows: MaskRows
    motion: RigidMotion
    shape: tuple[int, ...]
    volume_um3: float


@contextmanager
def previous_cracks(path: Path) -> Iterator[PreviousCracks]:
    """Open the crack mask of an earlier result file.

    Raises
    ------
    DataError
        Where the file holds no mask.
    """
    with _opened(path) as file:
        data = _item(file, path, "entry/crack_mask/data", h5py.Dataset)
        first = int(data.attrs["first_row"])

        def rows(start: int, stop: int) -> NDArray[np.uint8]:
            out = np.zeros((stop - start, *data.shape[1:]), np.uint8)
            begin, end = max(start, first), min(stop, first + data.shape[0])
            if begin < end:
                out[begin - start : end - start] = data[begin - first : end - first]
            return out

        attributes: Any = file["entry"].attrs
        yield PreviousCracks(
            rows,
            read_motion(file),
            tuple(int(size) for size in attributes["shape"]),
            float(attributes.get("crack_volume_um3", np.nan)),
        )


def read_motion(file: h5py.File) -> RigidMotion:
    """Return the motion from the pristine tomogram; none where none is stored."""
    if "entry/motion" not in file:
        return RigidMotion.none()
    group: Any = file["entry/motion"]
    return RigidMotion(
        group["rotation_rad"][()], group["translation_px"][()], group["centre_px"][()]
    )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: not readable as a result of a tomogram ({error})"
        ) from error
    with file:
        yield file


def _item(file: h5py.File, path: Path, name: str, kind: type) -> Any:
    item = file.get(name)
    if not isinstance(item, kind):
        raise DataError(
            f"{path}: holds no {name}; give the result file of a measured tomogram"
        )
    return item
