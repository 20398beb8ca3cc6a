"""Both interfaces magnified: the same crop of every state on one grey scale."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analysis.measurement.body import Body
from analysis.measurement.faces_volume import FacesVolume
from analysis.measurement.interfaces import FACES, Interface, Interfaces
from analysis.measurement.pictures import to_grey, with_scale_bar

WIDE_UM, TALL_UM = 120.0, 48.0
"""Size of the crop, centred on the axis of rotation and on the face."""

MAGNIFIED_PX = 960
PANEL_GAP_PX = 4
VOID_WHITE_UM = 8.0
"""Thickness of a void that is drawn brightest in the map."""

UNSEEN = (0, 0, 60)


def write_interface_pictures(
    front: NDArray[np.float32],
    faces: FacesVolume | None,
    interfaces: Interfaces,
    body: Body,
    grey: tuple[float, float],
    voxel_um: float,
    directory: Path,
) -> tuple[Path, ...]:
    """Write ``anode_interface.png``, ``anode_voids.png`` and the cathode's.

    Parameters
    ----------
    front : ndarray, shape (z, x)
        Plane of the tomogram through the axis of rotation.
    faces : FacesVolume, optional
        The phase-retrieved companion; its crop is drawn below the tomogram's.
    interfaces : Interfaces
        Voids to draw face on.
    body : Body
        Tells where the faces are.
    grey : tuple[float, float]
        Grey levels of the pristine tomogram.
    voxel_um : float
        Voxel of the tomogram.
    directory : Path
        Where the pictures go.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = []
    for name, face in zip(FACES, (body.top, body.bottom), strict=True):
        y, x = face.shape[0] // 2, face.shape[1] // 2
        row = float(np.median(face[y, max(x - 20, 0) : x + 20]))
        panels = [_crop(front, row, voxel_um)]
        if faces is not None:
            plane = _plane(faces, y, row, voxel_um)
            panels.append(_crop(plane, row, voxel_um))
        gap = np.full((PANEL_GAP_PX, panels[0].shape[1]), np.nan)
        stacked = np.concatenate([part for one in panels for part in (one, gap)][:-1])
        picture = to_grey(np.where(np.isfinite(stacked), stacked, grey[0]), *grey)
        picture[~np.isfinite(stacked)] = 0
        file = directory / f"{name}_interface.png"
        with_scale_bar(picture, voxel_um, MAGNIFIED_PX).save(file)
        files.append(file)
        one: Interface = getattr(interfaces, name)
        if one.voids is not None:
            file = directory / f"{name}_voids.png"
            _void_map(one.voids.height_px * voxel_um, voxel_um).save(file)
            files.append(file)
    return tuple(files)


def _crop(
    plane: NDArray[np.float32], row: float, voxel_um: float
) -> NDArray[np.float32]:
    """Return the crop around a row; NaN where it leaves the plane."""
    half_rows = round(TALL_UM / voxel_um / 2)
    half_columns = min(round(WIDE_UM / voxel_um / 2), plane.shape[1] // 2)
    first, left = round(row) - half_rows, plane.shape[1] // 2 - half_columns
    crop = np.full((2 * half_rows, 2 * half_columns), np.nan, np.float32)
    start, stop = max(first, 0), min(first + len(crop), len(plane))
    if start < stop:
        crop[start - first : stop - first] = plane[
            start:stop, left : left + 2 * half_columns
        ]
    return crop


def _plane(
    faces: FacesVolume, y: int, row: float, voxel_um: float
) -> NDArray[np.float32]:
    """Return the plane (z, x) of the companion near a row; NaN where it has none."""
    plane = np.full((faces.shape[0], faces.shape[2]), np.nan, np.float32)
    half_rows = round(TALL_UM / voxel_um / 2)
    first = max(round(row) - half_rows, 0)
    for z in range(first, min(first + 2 * half_rows, faces.shape[0])):
        if faces.holds(z, z + 1):
            plane[z] = faces.slab(z, z + 1)[0, y]
    return plane


def _void_map(height_um: NDArray[np.float32], voxel_um: float) -> Image.Image:
    """Draw voids bright on the dark face; what cannot be seen is blue."""
    seen = np.isfinite(height_um)
    share = np.clip(np.nan_to_num(height_um) / VOID_WHITE_UM, 0, 1)
    grey = np.where(share > 0, 90 + 165 * share, 40).astype(np.uint8)
    barred = with_scale_bar(grey, voxel_um).convert("RGB")
    enlarge = barred.width // grey.shape[1]
    hidden = np.kron(~seen, np.ones((enlarge, enlarge), np.bool_))
    colours = np.array(barred)
    # The bar lies over the corner, which is beyond the rim.
    colours[hidden & (colours[..., 0] == 40)] = UNSEEN
    return Image.fromarray(colours)
