"""Where the voxels of a tomogram come from, a slab at a time.

A volume at paper scale is 57 GB: whoever measures it reads slabs of slices and never
the whole. Axes are (z, y, x), z along the axis of rotation from the top row of the
detector down.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import h5py
import hdf5plugin as hdf5plugin  # registers the filters that h5py reads
import numpy as np
import tifffile
from numpy.typing import NDArray

from analysis.errors import DataError

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx")
TIFF_SUFFIXES = (".tif", ".tiff")
NUMPY_SUFFIXES = (".npy", ".npz")

MICROMETRES_PER_UNIT = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
}


@runtime_checkable
class VolumeSource(Protocol):
    """Voxels that can be read slab by slab."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        ...

    @property
    def voxel_size_um(self) -> float:
        """Edge of a voxel in micrometres."""
        ...

    def slab(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return slices ``start`` to ``stop`` (exclusive) as float32 (z, y, x)."""
        ...


class ArrayVolume:
    """A volume that is in memory already.

    Parameters
    ----------
    voxels : ndarray, shape (z, y, x)
        Grey values of any real dtype.
    voxel_size_um : float
        Edge of a voxel in micrometres.
    """

    def __init__(self, voxels: NDArray[Any], voxel_size_um: float) -> None:
        if voxels.ndim != 3:
            raise DataError(f"a volume has 3 axes (z, y, x); this has {voxels.ndim}")
        self._voxels = voxels
        self._voxel_size_um = _checked_voxel_size(voxel_size_um, "array")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        return _three(self._voxels.shape)

    @property
    def voxel_size_um(self) -> float:
        """Edge of a voxel in micrometres."""
        return self._voxel_size_um

    def slab(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return slices ``start`` to ``stop`` (exclusive) as float32 (z, y, x)."""
        _check_slab(start, stop, self.shape[0], "array")
        return np.ascontiguousarray(self._voxels[start:stop], dtype=np.float32)


class Hdf5Volume(AbstractContextManager["Hdf5Volume"]):
    """A volume in an HDF5 file; close it, or use it in a ``with`` statement.

    A dataset with the attributes ``scale_factor`` and ``add_offset`` holds integers;
    ``slab`` returns ``stored * scale_factor + add_offset``.

    Parameters
    ----------
    path : Path
        The file.
    dataset : str, optional
        Path of the dataset in the file. Without it the NeXus ``@default`` chain is
        followed to the signal, and ``/entry/data/data`` is tried.
    voxel_size_um : float, optional
        Needed where the file does not tell it by its axes.
    """

    def __init__(
        self,
        path: Path | str,
        dataset: str | None = None,
        voxel_size_um: float | None = None,
    ) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise DataError(f"{self._path}: no such file; give the path of a volume")
        try:
            self._file = h5py.File(self._path, "r")
        except OSError as error:
            raise DataError(f"{self._path}: not readable as HDF5 ({error})") from error
        try:
            self._data = self._find_dataset(dataset)
            if self._data.ndim != 3:
                raise DataError(
                    f"{self._path}: {self._data.name} has shape {self._data.shape}; a "
                    "volume has 3 axes (z, y, x)"
                )
            self._scale = float(self._data.attrs.get("scale_factor", 1.0))
            self._offset = float(self._data.attrs.get("add_offset", 0.0))
            if voxel_size_um is None:
                voxel_size_um = self._voxel_size_from_axes()
            self._voxel_size_um = _checked_voxel_size(voxel_size_um, str(self._path))
        except BaseException:
            self._file.close()
            raise

    def _find_dataset(self, name: str | None) -> h5py.Dataset:
        candidates = [name] if name is not None else _default_signals(self._file)
        for candidate in candidates:
            found = self._file.get(candidate)
            if isinstance(found, h5py.Dataset):
                return found
        wanted = name or "a default signal or /entry/data/data"
        raise DataError(
            f"{self._path}: holds no dataset {wanted}; name the dataset to read"
        )

    def _voxel_size_from_axes(self) -> float | None:
        folder = str(self._data.name).rpartition("/")[0]
        for axis in ("x", "y", "z"):
            coordinates = self._file.get(f"{folder}/{axis}")
            if not isinstance(coordinates, h5py.Dataset) or len(coordinates) < 2:
                continue
            unit = coordinates.attrs.get("units", "")
            unit = unit.decode() if isinstance(unit, bytes) else str(unit)
            factor = MICROMETRES_PER_UNIT.get(unit.strip())
            if factor is not None:
                first, second = coordinates[:2]
                return abs(float(second) - float(first)) * factor
        return None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        return _three(self._data.shape)

    @property
    def voxel_size_um(self) -> float:
        """Edge of a voxel in micrometres."""
        return self._voxel_size_um

    def slab(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return slices ``start`` to ``stop`` (exclusive) as float32 (z, y, x)."""
        _check_slab(start, stop, self.shape[0], str(self._path))
        try:
            voxels = np.asarray(self._data[start:stop], dtype=np.float32)
        except OSError as error:
            raise DataError(
                f"{self._path}: slices {start} to {stop} of {self._data.name} cannot "
                f"be read ({error})"
            ) from error
        if self._scale != 1.0 or self._offset != 0.0:
            voxels *= np.float32(self._scale)
            voxels += np.float32(self._offset)
        return voxels

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self.close()


class TiffVolume:
    """A volume in one TIFF file of many pages, or in a folder of TIFF slices.

    Parameters
    ----------
    path : Path
        File, or folder whose TIFF files are the slices in order of their names.
    voxel_size_um : float
        Edge of a voxel in micrometres.
    """

    def __init__(self, path: Path | str, voxel_size_um: float | None) -> None:
        self._path = Path(path)
        self._files: Sequence[Path] = ()
        if self._path.is_dir():
            self._files = sorted(
                file
                for file in self._path.iterdir()
                if file.suffix.lower() in TIFF_SUFFIXES
            )
            if not self._files:
                raise DataError(f"{self._path}: holds no TIFF files")
            first = _read_tiff(self._files[0])
            number = len(self._files)
        else:
            if not self._path.is_file():
                raise DataError(f"{self._path}: no such file or folder")
            first, number = _first_page(self._path)
        if first.ndim != 2:
            raise DataError(
                f"{self._path}: a page has shape {first.shape}; a slice has 2 axes"
            )
        self._shape = (number, int(first.shape[0]), int(first.shape[1]))
        self._voxel_size_um = _checked_voxel_size(voxel_size_um, str(self._path))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        return self._shape

    @property
    def voxel_size_um(self) -> float:
        """Edge of a voxel in micrometres."""
        return self._voxel_size_um

    def slab(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return slices ``start`` to ``stop`` (exclusive) as float32 (z, y, x)."""
        _check_slab(start, stop, self._shape[0], str(self._path))
        out = np.empty((stop - start, *self._shape[1:]), np.float32)
        for index in range(start, stop):
            if self._files:
                page = _read_tiff(self._files[index])
            else:
                page = _read_tiff(self._path, key=index)
            if page.shape != self._shape[1:]:
                raise DataError(
                    f"{self._path}: slice {index} has shape {page.shape}, the first "
                    f"has {self._shape[1:]}; all must agree"
                )
            out[index - start] = page
        return out


def open_volume(
    path: Path | str,
    *,
    voxel_size_um: float | None = None,
    dataset: str | None = None,
) -> VolumeSource:
    """Open a volume by what its name says.

    Parameters
    ----------
    path : Path
        HDF5 or NeXus file, TIFF file of many pages, folder of TIFF slices, ``.npy``,
        or ``.npz`` that holds one array of three axes.
    voxel_size_um : float, optional
        Edge of a voxel in micrometres; needed where the file does not tell it.
    dataset : str, optional
        HDF5: path of the dataset. NPZ: name of the array.

    Raises
    ------
    DataError
        There is no such volume, or its voxel size is unknown.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir() or suffix in TIFF_SUFFIXES:
        return TiffVolume(path, voxel_size_um)
    if suffix in HDF5_SUFFIXES:
        return Hdf5Volume(path, dataset, voxel_size_um)
    if suffix in NUMPY_SUFFIXES:
        voxels = _read_numpy(path, dataset)
        return ArrayVolume(voxels, _checked_voxel_size(voxel_size_um, str(path)))
    known = ", ".join((*HDF5_SUFFIXES, *TIFF_SUFFIXES, *NUMPY_SUFFIXES))
    raise DataError(
        f"{path}: unknown kind of volume; it must be a folder of TIFF slices or end "
        f"with one of {known}"
    )


def _default_signals(file: h5py.File) -> list[str]:
    """Return paths to try, the signal at the end of the ``@default`` chain first."""
    node: h5py.Group = file
    for _ in range(4):
        default = _text(node.attrs.get("default"))
        below = node.get(default) if default else None
        if not isinstance(below, h5py.Group):
            break
        node = below
    names = []
    signal = _text(node.attrs.get("signal"))
    if signal:
        names.append(f"{node.name}/{signal}")
    return [*names, "/entry/data/data", "/entry1/data/data", "/data"]


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return "" if value is None else str(value)


def _read_numpy(path: Path, name: str | None) -> NDArray[Any]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a volume")
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as NumPy file ({error})") from error
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded as archive:
        names = [name] if name is not None else archive.files
        if len(names) != 1 or names[0] not in archive.files:
            raise DataError(
                f"{path}: holds the arrays {', '.join(archive.files)}; name one of them"
            )
        return archive[names[0]]


def _read_tiff(path: Path, key: int | None = None) -> NDArray[Any]:
    try:
        return np.asarray(tifffile.imread(path, key=key))
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        page = "" if key is None else f" page {key}"
        raise DataError(f"{path}:{page} not readable as TIFF ({error})") from error


def _first_page(path: Path) -> tuple[NDArray[Any], int]:
    try:
        with tifffile.TiffFile(path) as tiff:
            return tiff.pages[0].asarray(), len(tiff.pages)
    except (OSError, ValueError, IndexError, tifffile.TiffFileError) as error:
        raise DataError(f"{path}: not readable as TIFF ({error})") from error


def _checked_voxel_size(voxel_size_um: float | None, name: str) -> float:
    if voxel_size_um is None:
        raise DataError(f"{name}: voxel size unknown; give it in micrometres")
    if not (np.isfinite(voxel_size_um) and voxel_size_um > 0):
        raise DataError(f"{name}: voxel size is {voxel_size_um} um; it must be above 0")
    return float(voxel_size_um)


def _check_slab(start: int, stop: int, number: int, name: str) -> None:
    if not 0 <= start < stop <= number:
        raise DataError(
            f"{name}: slices {start} to {stop} asked for; there are {number}"
        )


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    z, y, x = shape
    return int(z), int(y), int(x)
