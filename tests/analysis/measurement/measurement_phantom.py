"""An analytic cracked pellet between electrodes, with all that spoils a tomogram.

Every body is a signed distance; a voxel is covered by ``clip(0.5 + distance, 0, 1)``,
whose integral across a surface is exact. So the true volumes are sums of coverage and
the true widths those of the sheets, and no code of the analysis is involved.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

HIGH = 6.3e-4  # LPS at 22.3 keV, per voxel of 0.8 um
LITHIUM = 0.012 * HIGH


@dataclass(frozen=True)
class Sheet:
    """A crack: the part within ``radius`` of ``centre`` of a plane or a sphere's shell.

    ``curvature_radius`` 0 is a plane; lengths in voxels, points (z, y, x).
    """

    centre: tuple[float, float, float]
    normal: tuple[float, float, float]
    width: float
    radius: float
    curvature_radius: float = 0.0

    def coverage(self, z, y, x) -> NDArray[np.float32]:
        n = np.asarray(self.normal, float)
        n /= np.linalg.norm(n)
        dz, dy, dx = z - self.centre[0], y - self.centre[1], x - self.centre[2]
        if self.curvature_radius:
            away = self.curvature_radius
            distance = (
                np.sqrt(
                    (dz + away * n[0]) ** 2
                    + (dy + away * n[1]) ** 2
                    + (dx + away * n[2]) ** 2
                )
                - away
            )
        else:
            distance = dz * n[0] + dy * n[1] + dx * n[2]
        across = np.clip(0.5 + self.width / 2 - np.abs(distance), 0, 1)
        if self.width < 1:
            across = np.minimum(across, self.width)
        reach = np.sqrt(dz**2 + dy**2 + dx**2)
        return (across * np.clip(0.5 + self.radius - reach, 0, 1)).astype(np.float32)


@dataclass(frozen=True)
class Phantom:
    """The grey volume and what is true of it."""

    grey: NDArray[np.float32]
    crack: NDArray[np.float32]
    pellet: NDArray[np.float32]
    truth: dict[str, float] = field(default_factory=dict)


def make_phantom(
    shape=(112, 160, 160),
    *,
    radius=62.0,
    pellet=(38.3, 74.6),
    lithium=24.0,
    sheets=(),
    psf=0.7,
    noise=0.10,
    rings=0.0,
    fringe=0.0,
    hardening=0.0,
    tilt=(0.0, 0.0),
    centre=(0.0, 0.0),
    roughness=0.0,
    shards=0,
    seed=0,
) -> Phantom:
    """Draw a pellet of height ``pellet`` between lithium of thickness ``lithium``."""
    rng = np.random.default_rng(seed)
    nz, ny, nx = shape
    z, y, x = np.ogrid[:nz, :ny, :nx]
    z, y, x = (axis.astype(np.float32) for axis in (z, y, x))
    cy, cx = ny // 2 + centre[0], nx // 2 + centre[1]
    lean = tilt[0] * (y - cy) + tilt[1] * (x - cx)
    if roughness:
        rough = ndimage.gaussian_filter(rng.standard_normal((2, ny, nx)), (0, 6, 6))
        rough *= roughness / rough.std()
    else:
        rough = np.zeros((2, ny, nx))
    top, bottom = pellet[0] + lean + rough[0], pellet[1] + lean + rough[1]
    disc = np.clip(0.5 + radius - np.hypot(y - cy, x - cx), 0, 1)
    body = np.clip(0.5 + np.minimum(z - top, bottom - z), 0, 1) * disc
    stack = np.clip(
        0.5
        + np.minimum(z - (pellet[0] - lithium) - lean, pellet[1] + lithium + lean - z),
        0,
        1,
    )
    lithium_part = (stack - np.clip(0.5 + np.minimum(z - top, bottom - z), 0, 1)) * disc
    crack = np.zeros(shape, np.float32)
    for sheet in sheets:
        np.maximum(crack, sheet.coverage(z, y, x), out=crack)
    crack *= body
    grey = HIGH * (body - crack) + LITHIUM * np.clip(lithium_part, 0, 1)
    for _ in range(shards):
        at = rng.uniform(
            (pellet[0] - 15, cy - 30, cx - 30), (pellet[0] - 8, cy + 30, cx + 30)
        )
        away = np.sqrt((z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2)
        grey = np.maximum(grey, HIGH * np.clip(0.5 + 4 - away, 0, 1))
    square = ((y - ny // 2) ** 2 + (x - nx // 2) ** 2) / radius**2
    if hardening:
        grey = grey * (1 - hardening * (1 - np.minimum(square, 1)))
    grey = ndimage.gaussian_filter(grey.astype(np.float32), psf)
    if fringe:
        grey -= fringe * ndimage.laplace(grey)
    if rings:
        pattern = rng.standard_normal((nz, 2 * nx)).astype(np.float32)
        pattern = ndimage.gaussian_filter1d(pattern, 3, axis=0)
        pattern /= pattern.std()
        at = np.hypot(y - ny // 2, x - nx // 2)[0].astype(int)
        grey += rings * HIGH * pattern[:, at]
    if noise:
        grey += noise * HIGH * rng.standard_normal(shape).astype(np.float32)
    truth = {
        "crack_px": float(crack.sum(dtype=float)),
        "pellet_px": float(body.sum(dtype=float)),
        "thickness_px": pellet[1] - pellet[0],
        "lithium_px": lithium,
    }
    return Phantom(grey.astype(np.float32), crack, body.astype(np.float32), truth)
