"""Reads a scan from an NXtomo file, whoever wrote it.

https://manual.nexusformat.org/classes/applications/NXtomo.html. Files differ in where
they keep things: the entry may be a subentry (``entry1/tomo_entry``), the image key
may lie beside the detector's data or in the NXdata group, the angle in the sample or
in the NXdata group, in degrees or radians.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin as hdf5plugin  # registers the filters that h5py reads
import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.volume import MICROMETRES_PER_UNIT

PROJECTION, FLAT, DARK = 0, 1, 2


class NXtomoScan(AbstractContextManager["NXtomoScan"]):
    """One scan; close it, or use it in a ``with`` statement.

    Parameters
    ----------
    path : Path
        The file.

    Attributes
    ----------
    frames : h5py.Dataset
        (frame, y, x), all frames in order of acquisition.
    image_key : ndarray, shape (frame,)
        0 projection, 1 flat, 2 dark, 3 to be left out.
    angles_deg : ndarray, shape (projection,)
        Angle of each projection.
    pixel_size_um : float or None
        At the sample, if the file says so.

    Raises
    ------
    DataError
        The file is no NXtomo, lacks darks, flats or projections, its angles do not
        match its frames, or it links to data that are not there.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; give the path of a scan")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(f"{self.path}: not readable as HDF5 ({error})") from error
        try:
            self._read()
        except DataError:
            self._file.close()
            raise
        except (
            OSError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
            AttributeError,
        ) as error:
            self._file.close()
            raise DataError(f"{self.path}: damaged NXtomo file ({error})") from error

    def _read(self) -> None:
        entry = self._find_entry()
        self.entry = str(entry.name)
        self.frames = self._dataset(
            entry,
            "frames",
            "instrument/detector/data",
            "instrument/*/data",
            "data/data",
        )
        if self.frames.ndim != 3 or 0 in self.frames.shape:
            raise DataError(
                f"{self.path}: {self.frames.name} has shape {self.frames.shape}; it "
                "must be (frame, y, x)"
            )
        if self.frames.dtype.kind not in "uif":
            raise DataError(
                f"{self.path}: {self.frames.name} is {self.frames.dtype}; counts must "
                "be numbers"
            )
        self._check_sources()
        keys = self._dataset(
            entry,
            "image keys",
            "instrument/detector/image_key",
            "instrument/*/image_key",
            "data/image_key",
        )
        self.image_key = self._one_per_frame(keys).astype(np.int64)
        angles = self._dataset(
            entry,
            "rotation angles",
            "sample/rotation_angle",
            "data/rotation_angle",
            "sample/transformations/rotation_angle",
            "sample/transformations/rotation",
        )
        values = self._one_per_frame(angles).astype(np.float64)
        if _text(angles.attrs.get("units")).strip().lower() in {
            "rad",
            "radian",
            "radians",
        }:
            values = np.rad2deg(values)
        self.projections = np.flatnonzero(self.image_key == PROJECTION)
        self.flats = np.flatnonzero(self.image_key == FLAT)
        self.darks = np.flatnonzero(self.image_key == DARK)
        for name, found in (
            ("projections (image key 0)", self.projections),
            ("flats (image key 1)", self.flats),
            ("darks (image key 2)", self.darks),
        ):
            if len(found) == 0:
                raise DataError(
                    f"{self.path}: {keys.name} marks no {name} among "
                    f"{len(self.image_key)} frames; a scan needs all three kinds"
                )
        self.angles_deg = values[self.projections]
        if not np.all(np.isfinite(self.angles_deg)):
            wrong = int((~np.isfinite(self.angles_deg)).sum())
            raise DataError(
                f"{self.path}: {angles.name} holds {wrong} values that are no numbers"
            )
        self.pixel_size_um = self._length_um(entry, "x_pixel_size")

    def _find_entry(self) -> h5py.Group:
        found = [
            group
            for group in (
                self._file.get("entry/tomo_entry"),
                self._file.get("entry1/tomo_entry"),
                *_groups(self._file),
            )
            if isinstance(group, h5py.Group) and "instrument" in group
        ]
        tomo = [group for group in found if _definition(group) == "NXtomo"]
        if not found:
            raise DataError(
                f"{self.path}: holds no NXtomo entry; an entry with "
                "instrument/detector is needed"
            )
        return (tomo or found)[0]

    def _dataset(self, entry: h5py.Group, what: str, *names: str) -> h5py.Dataset:
        for name in names:
            for path in _expand(entry, name):
                found = self._follow(entry, path)
                if isinstance(found, h5py.Dataset):
                    return found
        raise DataError(
            f"{self.path}: no {what} under {entry.name} (looked for {', '.join(names)})"
        )

    def _follow(self, entry: h5py.Group, path: str) -> object:
        found = entry.get(path)
        if found is not None:
            return found
        parent, _, last = path.rpartition("/")
        group = entry.get(parent) if parent else entry
        if not isinstance(group, h5py.Group) or last not in group:
            return None
        link = group.get(last, getlink=True)
        target = getattr(link, "path", "?")
        file = getattr(link, "filename", self.path.name)
        raise DataError(
            f"{self.path}: {group.name}/{last} links to {target} in {file}, which is "
            "not there; put that file back beside this one"
        )

    def _check_sources(self) -> None:
        """Refuse virtual data whose file is gone: HDF5 would read zeros."""
        if not self.frames.is_virtual:
            return
        for source in self.frames.virtual_sources():
            file = self.path if source.file_name == "." else Path(source.file_name)
            if not file.is_absolute():
                file = self.path.parent / file
            if not file.is_file():
                raise DataError(
                    f"{self.path}: {self.frames.name} is put together from "
                    f"{source.file_name}, which is not there; put that file back"
                )

    def _one_per_frame(self, dataset: h5py.Dataset) -> NDArray[Any]:
        values = np.atleast_1d(np.asarray(dataset[()])).ravel()
        if len(values) != len(self.frames):
            raise DataError(
                f"{self.path}: {dataset.name} has {len(values)} values, "
                f"{self.frames.name} has {len(self.frames)} frames; they must match"
            )
        return values

    def _length_um(self, entry: h5py.Group, name: str) -> float | None:
        for path in (f"instrument/detector/{name}", f"sample/{name}"):
            found = entry.get(path)
            if isinstance(found, h5py.Dataset):
                unit = _text(found.attrs.get("units", "m")).strip()
                factor = MICROMETRES_PER_UNIT.get(unit)
                values = np.asarray(found[()]).ravel()
                if factor is None or len(values) == 0 or values.dtype.kind not in "iuf":
                    continue
                value = float(values[0])
                if np.isfinite(value) and value > 0:
                    return value * factor
        return None

    def read(self, indices: NDArray[np.intp], rows: slice) -> Iterator[NDArray[Any]]:
        """Yield frames one after the other, shape (y, x), rows cut out of each."""
        for index in indices:
            try:
                yield self.frames[int(index), rows]
            except OSError as error:
                raise DataError(
                    f"{self.path}: frame {index} of {self.frames.name} cannot be read "
                    f"({error})"
                ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self.close()


def _groups(file: h5py.File) -> list[h5py.Group]:
    """Return entries and their subentries."""
    found = []
    for entry in file.values():
        if isinstance(entry, h5py.Group):
            found.append(entry)
            found += [
                below
                for name, below in entry.items()
                if isinstance(below, h5py.Group) and name != "instrument"
            ]
    return found


def _definition(group: h5py.Group) -> str:
    definition = group.get("definition")
    if not isinstance(definition, h5py.Dataset):
        return ""
    values = np.asarray(definition[()]).ravel()
    return _text(values[0]) if len(values) else ""


def _expand(entry: h5py.Group, name: str) -> list[str]:
    """Return the paths that a name with a star stands for."""
    before, star, after = name.partition("/*/")
    if not star:
        return [name]
    group = entry.get(before)
    if not isinstance(group, h5py.Group):
        return []
    return [
        f"{before}/{below}/{after}"
        for below, item in group.items()
        if isinstance(item, h5py.Group) and after in item
    ]


def _text(value: object) -> str:
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return "" if value is None else str(value)
