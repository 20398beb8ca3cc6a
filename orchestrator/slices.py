"""Pictures of each tomogram for the report, small and embedded.

Orthogonal slices share one grey scale over all states.
"""

import io
import zipfile
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin as hdf5plugin  # registers the filters that h5py reads
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analysis.volume import Hdf5Volume

PICTURE_WIDTH_PX = 420
JPEG_QUALITY = 88
PYRAMID_LEVELS = ("/entry/data_2x/data", "/entry/data_4x/data")


@dataclass(frozen=True)
class OrthogonalSlices:
    """Three slices through the middle of a tomogram.

    Attributes
    ----------
    top : ndarray, shape (y, x)
        Mid-pellet, seen along the axis of rotation.
    front, side : ndarray, shape (z, x) and (z, y)
        Planes that hold the axis of rotation, row 0 at the top.
    voxel_size_um : float
        Of the slices, which may come from a coarser level of the pyramid.
    pixel_size_um : float
        Of the full tomogram, whose grey values are attenuation per this length.
    """

    top: NDArray[np.float32]
    front: NDArray[np.float32]
    side: NDArray[np.float32]
    voxel_size_um: float
    pixel_size_um: float


@dataclass(frozen=True)
class GreyScale:
    """Grey values drawn black and white, in attenuation per pixel."""

    black: float
    white: float


def kept_slices(
    path: Path, keep: Path, centre: tuple[float, float, float] | None = None
) -> OrthogonalSlices:
    """Return the slices of a tomogram, read from it only once.

    The report is rewritten after each tomogram; at paper scale it would read a GB of
    each earlier one every time.

    Parameters
    ----------
    path : Path
        File of the tomogram.
    keep : Path
        NPZ file that keeps the slices; made anew when the tomogram changed.
    centre : tuple of float, optional
        As in `read_slices`.
    """
    stat = path.stat()
    key = np.array([stat.st_mtime_ns, stat.st_size, *(centre or ())], dtype=np.float64)
    try:
        with np.load(keep, allow_pickle=False) as kept:
            if np.array_equal(kept["key"], key):
                size_um, pixel_size_um = (float(value) for value in kept["sizes_um"])
                return OrthogonalSlices(
                    kept["top"], kept["front"], kept["side"], size_um, pixel_size_um
                )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        pass  # not kept yet, or torn
    slices = read_slices(path, centre)
    keep.parent.mkdir(parents=True, exist_ok=True)
    partial = keep.with_name(keep.name + ".partial")
    with open(partial, "wb") as file:
        np.savez(
            file,
            key=key,
            top=slices.top,
            front=slices.front,
            side=slices.side,
            sizes_um=np.array([slices.voxel_size_um, slices.pixel_size_um]),
        )
    partial.replace(keep)
    return slices


def read_slices(
    path: Path, centre: tuple[float, float, float] | None = None
) -> OrthogonalSlices:
    """Read three slices of a tomogram.

    A pyramid level is read where there is one at least as wide as the picture: at
    paper scale the full volume would be 57 GB.

    Parameters
    ----------
    path : Path
        File of the tomogram.
    centre : tuple of float, optional
        Voxel (z, y, x) that the slices meet in; the middle of the volume if absent.

    Raises
    ------
    analysis.errors.DataError, OSError
        The file cannot be read.
    """
    with Hdf5Volume(path) as volume:
        shape, size_um = volume.shape, volume.voxel_size_um
        at = tuple(
            min(max(round(centre[axis]), 0), size - 1) if centre else size // 2
            for axis, size in enumerate(shape)
        )
        with h5py.File(path, "r") as file:
            dataset = _coarse_enough(file)
            if dataset is None:
                return _from_volume(volume, at)
            z, y, x = (
                min(place * size // full, size - 1)
                for place, size, full in zip(at, dataset.shape, shape, strict=True)
            )
            return OrthogonalSlices(
                top=_scaled(dataset, dataset[z]),
                front=_scaled(dataset, dataset[:, y]),
                side=_scaled(dataset, dataset[:, :, x]),
                voxel_size_um=size_um * shape[2] / dataset.shape[2],
                pixel_size_um=size_um,
            )


def _coarse_enough(file: h5py.File) -> h5py.Dataset | None:
    """Return the coarsest level of the pyramid that fills a picture."""
    found = [
        item
        for item in (file.get(name) for name in PYRAMID_LEVELS)
        if isinstance(item, h5py.Dataset)
        and item.ndim == 3
        and item.shape[2] >= PICTURE_WIDTH_PX
    ]
    return min(found, key=lambda item: item.shape[2], default=None)


def _scaled(dataset: h5py.Dataset, stored: NDArray[np.generic]) -> NDArray[np.float32]:
    scale = float(dataset.attrs.get("scale_factor", 1.0))
    offset = float(dataset.attrs.get("add_offset", 0.0))
    return np.asarray(stored, dtype=np.float32) * np.float32(scale) + np.float32(offset)


def _from_volume(volume: Hdf5Volume, at: tuple[int, ...]) -> OrthogonalSlices:
    nz, ny, nx = volume.shape
    front = np.empty((nz, nx), np.float32)
    side = np.empty((nz, ny), np.float32)
    rows = max(1, (64 * 2**20) // (4 * ny * nx))
    for start in range(0, nz, rows):
        stop = min(start + rows, nz)
        slab = volume.slab(start, stop)
        front[start:stop] = slab[:, at[1]]
        side[start:stop] = slab[:, :, at[2]]
    top = volume.slab(at[0], at[0] + 1)[0]
    size_um = volume.voxel_size_um
    return OrthogonalSlices(top, front, side, size_um, size_um)


def common_grey_scale(slices: Sequence[OrthogonalSlices]) -> GreyScale:
    """Return the grey scale that serves all states: set by the first of them."""
    first = slices[0]
    grey = np.concatenate([first.top.ravel(), first.front.ravel(), first.side.ravel()])
    grey = grey[np.isfinite(grey)]
    if grey.size == 0:
        return GreyScale(0.0, 1.0)
    black, white = (float(value) for value in np.percentile(grey, (1.0, 99.7)))
    return GreyScale(black, white if white > black else black + 1.0)


def picture(grey: NDArray[np.float32], scale: GreyScale) -> str:
    """Return a slice as a ``data:`` address of a JPEG, at most 420 pixels wide."""
    spread = np.clip((grey - scale.black) / (scale.white - scale.black), 0.0, 1.0)
    return _embedded(
        Image.fromarray(np.round(255 * np.nan_to_num(spread)).astype(np.uint8))
    )


def embedded_picture(path: Path) -> str | None:
    """Return a picture file as a ``data:`` address; None where there is none to read.

    A picture is made beside the experiment: it may not be there yet.
    """
    try:
        with Image.open(path) as image:
            return _embedded(image.convert("RGB"))
    except (OSError, SyntaxError):  # SyntaxError: Pillow's word for a torn PNG
        return None


def _embedded(image: Image.Image) -> str:
    if image.width > PICTURE_WIDTH_PX:
        height = max(1, round(image.height * PICTURE_WIDTH_PX / image.width))
        image = image.resize((PICTURE_WIDTH_PX, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode()


def scale_bar_um(width_um: float) -> float:
    """Return a round length of a fifth to a half of the picture's width."""
    if not width_um > 0:
        return 0.0
    power = 10.0 ** np.floor(np.log10(width_um / 2))
    for step in (5.0, 2.0, 1.0):
        if step * power <= width_um / 2:
            return float(step * power)
    return float(power)
