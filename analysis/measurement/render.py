"""The cracks in three dimensions: earlier ones red, new ones yellow, pellet a ghost.

A plain ray caster over a binned mask: parallel rays, front-to-back compositing, light
from the viewer's side. It needs no graphics card and no other library.
"""

import math
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from analysis.measurement.body import Body
from analysis.measurement.crack_mask import PackedMask
from analysis.measurement.pictures import nice_length_um

RENDER_SIDE = 256  # widest side of the binned mask, voxels
STEP = 0.5
PICTURE_PX = (720, 560)
AZIMUTH_DEG = 35.0
ELEVATION_DEG = 30.0


def binned_share(mask: PackedMask, factor: int) -> NDArray[np.float32]:
    """Return the share of crack in cubes of ``factor`` voxels, over the mask's rows."""
    rows, ny = mask.bits.shape[:2]
    z, y, x = rows // factor, ny // factor, mask.width // factor
    out = np.zeros((z, y, x), np.float32)
    for row in range(z):
        first = mask.rows[0] + row * factor
        slab = mask.get(first, first + factor)[:, : y * factor, : x * factor]
        plane = slab.sum(axis=0, dtype=np.uint16)
        cubes = plane.reshape(y, factor, x, factor).sum(axis=(1, 3), dtype=np.uint32)
        out[row] = cubes / factor**3
    return out


@numba.njit(cache=True)
def _sample(field: np.ndarray, z: float, y: float, x: float) -> float:
    nz, ny, nx = field.shape
    if not (0 <= z < nz - 1 and 0 <= y < ny - 1 and 0 <= x < nx - 1):
        return 0.0
    i, j, k = int(z), int(y), int(x)
    fz, fy, fx = z - i, y - j, x - k
    a = field[i, j, k] * (1 - fx) + field[i, j, k + 1] * fx
    b = field[i, j + 1, k] * (1 - fx) + field[i, j + 1, k + 1] * fx
    c = field[i + 1, j, k] * (1 - fx) + field[i + 1, j, k + 1] * fx
    d = field[i + 1, j + 1, k] * (1 - fx) + field[i + 1, j + 1, k + 1] * fx
    return (a * (1 - fy) + b * fy) * (1 - fz) + (c * (1 - fy) + d * fy) * fz


@numba.njit(cache=True, parallel=True)
def _cast(
    earlier: np.ndarray, new: np.ndarray, ghost: np.ndarray, occupied: np.ndarray,
    toward: np.ndarray,
    right: np.ndarray, down: np.ndarray, scale: float, picture: np.ndarray,
) -> None:  # fmt: skip
    """Fill ``picture`` (row, column, rgb) with what parallel rays see.

    ``toward``, ``right`` and ``down`` are unit vectors (z, y, x) of the view; a pixel
    is ``scale`` voxels wide.
    """
    nz, ny, nx = earlier.shape
    height, width = picture.shape[:2]
    reach = 0.5 * math.sqrt(nz * nz + ny * ny + nx * nx)
    steps = int(2 * reach / STEP)
    for row in numba.prange(height):
        for column in range(width):
            u = (column - width / 2) * scale
            v = (row - height / 2) * scale
            z = 0.5 * nz + u * right[0] + v * down[0] - reach * toward[0]
            y = 0.5 * ny + u * right[1] + v * down[1] - reach * toward[1]
            x = 0.5 * nx + u * right[2] + v * down[2] - reach * toward[2]
            red = green = blue = 0.0
            left = 1.0
            for _ in range(steps):
                z += STEP * toward[0]
                y += STEP * toward[1]
                x += STEP * toward[2]
                if not (0 <= z < nz and 0 <= y < ny and 0 <= x < nx):
                    continue
                # The nearest voxel is near enough for a veil, and tells where to look.
                body = ghost[int(z), int(y), int(x)]
                if body > 0:
                    # A thin veil, thicker where the ray runs along the surface.
                    veil = 0.05 * body * (1 - body) * 4 + 0.0015 * body
                    red += left * veil * 0.80
                    green += left * veil * 0.84
                    blue += left * veil * 0.90
                    left *= 1 - veil
                if not occupied[int(z), int(y), int(x)]:
                    continue
                for kind in range(2):
                    field = earlier if kind == 0 else new
                    value = _sample(field, z, y, x)
                    if value < 0.12:
                        continue
                    gz = _sample(field, z + 1, y, x) - _sample(field, z - 1, y, x)
                    gy = _sample(field, z, y + 1, x) - _sample(field, z, y - 1, x)
                    gx = _sample(field, z, y, x + 1) - _sample(field, z, y, x - 1)
                    length = math.sqrt(gz * gz + gy * gy + gx * gx) + 1e-9
                    facing = (
                        abs(gz * toward[0] + gy * toward[1] + gx * toward[2]) / length
                    )
                    light = 0.35 + 0.65 * facing
                    cover = min(1.0, (value - 0.12) / 0.15)
                    if kind == 0:
                        cover *= 0.85
                        red += left * cover * light * 0.86
                        green += left * cover * light * 0.16
                        blue += left * cover * light * 0.12
                    else:
                        cover *= 0.30
                        red += left * cover * light * 1.00
                        green += left * cover * light * 0.86
                        blue += left * cover * light * 0.12
                    left *= 1 - cover
                if left < 0.02:
                    break
            background = 0.06
            picture[row, column, 0] = red + left * background
            picture[row, column, 1] = green + left * background
            picture[row, column, 2] = blue + left * (background + 0.02)


def render_cracks(
    cracks: PackedMask,
    new: PackedMask | None,
    body: Body,
    *,
    azimuth_deg: float = AZIMUTH_DEG,
    elevation_deg: float = ELEVATION_DEG,
    size_px: tuple[int, int] = PICTURE_PX,
) -> tuple[NDArray[np.uint8], float]:
    """Draw the cracks seen from a direction.

    Parameters
    ----------
    cracks : PackedMask
        All cracks.
    new : PackedMask, optional
        Those that are new; without it all count as earlier ones.
    body : Body
        The pellet.
    azimuth_deg, elevation_deg : float
        Direction from which it is seen; elevation 90 looks down on the anode's side.
    size_px : tuple[int, int]
        Width and height of the picture.

    Returns
    -------
    tuple[ndarray, float]
        Picture (row, column, rgb) and the width of its pixels in voxels.
    """
    factor = 1
    while max(cracks.bits.shape[1], cracks.width) > factor * RENDER_SIDE:
        factor *= 2
    everything = binned_share(cracks, factor)
    fresh = np.zeros_like(everything) if new is None else binned_share(new, factor)
    earlier = np.maximum(everything - fresh, 0)
    ghost = _ghost(body, cracks.rows, everything.shape, factor)
    z_middle = 0.5 * float(np.median(body.top) + np.median(body.bottom))
    shift = round((z_middle - cracks.rows[0]) / factor - everything.shape[0] / 2)
    earlier, fresh, ghost = (
        np.roll(np.asarray(ndimage.gaussian_filter(field, 0.7), np.float32), -shift, 0)
        for field in (earlier, fresh, ghost)
    )
    occupied = np.asarray(ndimage.maximum_filter(earlier + fresh, 3)) > 0.1
    around, up = math.radians(azimuth_deg), math.radians(elevation_deg)
    toward = np.array(
        [
            math.sin(up),
            math.cos(up) * math.sin(around),
            math.cos(up) * math.cos(around),
        ]
    )
    right = np.array([0.0, math.cos(around), -math.sin(around)])
    down = np.cross(toward, right)
    if down[0] < 0:
        down = -down
    width, height = size_px
    radius = float(np.median(body.rim))
    if not np.isfinite(radius):
        radius = 0.5 * max(body.top.shape)
    scale = 2.15 * radius / factor / min(width, 1.35 * height)
    picture = np.empty((height, width, 3), np.float32)
    _cast(earlier, fresh, ghost, occupied, toward, right, down, scale, picture)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8), scale * factor


def _ghost(
    body: Body, rows: tuple[int, int], shape: tuple[int, ...], factor: int
) -> NDArray[np.float32]:
    """Return the share of the body in the binned voxels, blurred edges included."""
    centre = (factor - 1) / 2
    z = rows[0] + np.arange(shape[0]) * factor + centre
    y = (np.arange(shape[1]) * factor + factor // 2).astype(int)
    x = (np.arange(shape[2]) * factor + factor // 2).astype(int)
    top, bottom = body.top[np.ix_(y, x)], body.bottom[np.ix_(y, x)]
    radius, angle = body.polar()
    radius, angle = radius[np.ix_(y, x)], angle[np.ix_(y, x)]
    nearest = np.round(angle).astype(np.intp) % body.rim.shape[1]
    out = np.empty(shape, np.float32)
    for index, height in enumerate(z):
        row = min(max(round(height), 0), len(body.rim) - 1)
        depth = np.minimum(height - top, bottom - height)
        depth = np.minimum(depth, body.rim[row][nearest] - radius)
        out[index] = np.clip(0.5 + depth / (2 * factor), 0, 1)
    return out


def write_render(
    picture: NDArray[np.uint8], pixel_um: float, path: Path, *, new_known: bool
) -> Path:
    """Write a rendering with its legend and scale bar."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    length_um = nice_length_um(picture.shape[1] * pixel_um)
    bottom, margin = image.height - 16, 16
    length = round(length_um / pixel_um)
    draw.rectangle((margin, bottom - 4, margin + length, bottom), fill="white")
    draw.text((margin, bottom - 24), f"{length_um:g} um", fill="white", font_size=15)
    legend = [("cracks", (219, 41, 31))]
    if new_known:
        legend = [("earlier cracks", (219, 41, 31)), ("new cracks", (255, 219, 31))]
    for line, (text, colour) in enumerate(legend):
        at = 14 + 22 * line
        draw.rectangle((margin, at, margin + 12, at + 12), fill=colour)
        draw.text((margin + 20, at - 3), text, fill="white", font_size=15)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path
