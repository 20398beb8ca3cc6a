"""The reconstructed tomogram on disk: HDF5 that a NeXus viewer opens by itself.

``/entry/data/data`` (z, y, x) with its axes in micrometres, and ``/entry/data_2x``,
``/entry/data_4x`` with voxels averaged 2 x 2 x 2 and 4 x 4 x 4 for viewers. While it
is written the file is called ``NAME.partial.h5`` and says ``complete = 0``; a scan
that fails on the way leaves it so.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numba import njit
from numpy.typing import NDArray

from analysis.errors import DataError

CHUNK = (16, 256, 256)
"""At most; a side is cut into equal pieces, so that none stands half empty."""


class TomogramWriter(AbstractContextManager["TomogramWriter"]):
    """Writes a tomogram slab after slab, from the top down.

    Parameters
    ----------
    path : Path
        Where the file stands when it is complete.
    shape : tuple[int, int, int]
        Slices, rows and columns (z, y, x).
    voxel_size_um : float or None
        Edge of a voxel; axes are in pixels where it is unknown.
    output_range : tuple[float, float], optional
        Stores 16-bit integers, 0 and 65535 for these grey values; what lies beyond is
        clipped. The attributes ``scale_factor`` and ``add_offset`` turn them back.
    pyramid_levels : int
        How many times voxels are halved for viewers.
    about : Mapping
        What to say of the reconstruction: plain values.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        *,
        voxel_size_um: float | None,
        output_range: tuple[float, float] | None = None,
        pyramid_levels: int = 2,
        about: Mapping[str, object] | None = None,
    ) -> None:
        self.path = path
        self.partial_path = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._next = 0
        self._shape = shape
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path, shape, 2 if output_range else 4)
        try:
            self._file = h5py.File(self.partial_path, "w")
        except OSError as error:
            raise DataError(
                f"{self.partial_path}: cannot be written: {error}"
            ) from error
        self._entry = self._begin(about or {})
        self._range = output_range
        unit = "pixel" if voxel_size_um is None else "um"
        self._levels = [
            self._level(2**level, voxel_size_um or 1.0, unit)
            for level in range(pyramid_levels + 1)
            if min(shape) >= 2**level
        ]
        self._waiting: list[NDArray[np.float32]] = [
            np.empty((0, 1, 1), np.float32) for _ in self._levels
        ]
        self._written = [0] * len(self._levels)

    def _begin(self, about: Mapping[str, object]) -> h5py.Group:
        self._file.attrs.update({"NX_class": "NXroot", "default": "entry"})
        entry = self._file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "data"})
        entry["title"] = self.path.stem
        process = entry.create_group("reconstruction")
        process.attrs["NX_class"] = "NXprocess"
        process["program"] = "insitu-ct"
        process["version"] = metadata.version("insitu-ct")
        process["date"] = datetime.now(UTC).isoformat()
        process["parameters"] = json.dumps(dict(about), default=str, sort_keys=True)
        process.attrs["complete"] = 0
        self._process = process
        return entry

    def _level(self, factor: int, voxel_size: float, unit: str) -> h5py.Dataset:
        name = "data" if factor == 1 else f"data_{factor}x"
        group = self._entry.create_group(name)
        group.attrs.update(
            {
                "NX_class": "NXdata",
                "signal": "data",
                "axes": ["z", "y", "x"],
            }
        )
        shape = tuple(length // factor for length in self._shape)
        chunk = tuple(
            -(-length // -(-length // most))
            for length, most in zip(shape, CHUNK, strict=True)
        )
        if self._range is None:
            data = group.create_dataset(
                "data", shape, np.float32, chunks=chunk, fillvalue=np.nan
            )
        else:
            low, high = self._range
            data = group.create_dataset("data", shape, np.uint16, chunks=chunk)
            data.attrs["scale_factor"] = (high - low) / 65535
            data.attrs["add_offset"] = low
        data.attrs["long_name"] = "linear attenuation per pixel length"
        data.attrs["units"] = "1/pixel"
        for axis, length, middle in (
            ("z", shape[0], 0),
            ("y", shape[1], self._shape[1] // 2),
            ("x", shape[2], self._shape[2] // 2),
        ):
            place = (np.arange(length) + 0.5) * factor - 0.5 - middle
            group[axis] = place * voxel_size
            group[axis].attrs["units"] = unit
        return data

    def write(self, slices: NDArray[np.float32]) -> None:
        """Write the next slices, shape (z, y, x)."""
        if self._next + len(slices) > self._shape[0]:
            raise DataError(
                f"{self.path}: {self._next + len(slices)} slices for a tomogram of "
                f"{self._shape[0]}"
            )
        self._next += len(slices)
        for level, data in enumerate(self._levels):
            if level > 0:
                if len(self._waiting[level]):
                    slices = np.concatenate([self._waiting[level], slices])
                even = len(slices) // 2 * 2
                self._waiting[level] = slices[even:].copy()
                slices = _halved(slices[:even])
            start = self._written[level]
            if len(slices):
                data[start : start + len(slices)] = self._stored(slices)
            self._written[level] = start + len(slices)

    def _stored(self, slices: NDArray[np.float32]) -> NDArray[Any]:
        if self._range is None:
            return slices
        low, high = self._range
        stored = np.empty(slices.shape, np.uint16)
        scale = 65535 / (high - low)
        _to_sixteen_bits(slices, np.float32(low), np.float32(scale), stored)
        return stored

    def finish(self, about: Mapping[str, object] | None = None) -> Path:
        """Mark the file complete, close it and give it its name."""
        if self._next != self._shape[0]:
            raise DataError(
                f"{self.path}: {self._next} of {self._shape[0]} slices were written"
            )
        for key, value in (about or {}).items():
            if isinstance(value, str | int | float | bool):
                self._process[key] = value
        self._process.attrs["complete"] = 1
        self._file.close()
        self.partial_path.replace(self.path)
        return self.path

    def close(self) -> None:
        """Close the file, complete or not."""
        if self._file:
            self._file.close()

    def __exit__(self, *exception: object) -> None:
        """Close the file, complete or not."""
        self.close()


def _check_room(path: Path, shape: tuple[int, int, int], voxel_bytes: int) -> None:
    # A pyramid adds an eighth of an eighth and so on: a seventh at most.
    needed = voxel_bytes * np.prod(shape, dtype=np.float64) * 8 / 7
    status = os.statvfs(path.parent)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise DataError(
            f"{path}: needs {needed / 1e9:.1f} GB, {path.parent} has {free / 1e9:.1f} "
            "GB free; free space, set rows or binning, or store uint16"
        )


@njit(cache=True, nogil=True)
def _to_sixteen_bits(slices, low, scale, out):
    """Scale, round and clip in one pass: whole arrays in between would be gigabytes."""
    values, stored = slices.ravel(), out.ravel()
    for i in range(len(values)):
        value = np.rint((values[i] - low) * scale)
        stored[i] = np.uint16(min(max(value, np.float32(0)), np.float32(65535)))


def _halved(slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average blocks of 2 x 2 x 2 voxels; an odd last row or column is left out."""
    z, y, x = (length // 2 for length in slices.shape)
    blocks = np.zeros((z, y, x), np.float32)
    for corner in np.ndindex(2, 2, 2):
        part = slices[corner[0] :: 2, corner[1] :: 2, corner[2] :: 2]
        blocks += part[:z, :y, :x]
    blocks *= np.float32(0.125)
    return blocks
