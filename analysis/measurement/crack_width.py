"""Width of the cracks at random voxels of the mask, below the size of a voxel.

Along the normal of the crack the integral of the deficit is its width, whatever the
blur of the image, as long as the integral stops in the valley before the next crack.
The distance between the crossings of half the contrast stands beside it: where the two
differ by more than half a voxel, cracks meet, end or merge.

References
----------
Ketcham, Slottke, Sharp 2010, https://doi.org/10.1130/GES00543.1
"""

import math
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from analysis.measurement.body import Body

TENSOR_RADIUS = 4
DISC_RADIUS = 2
STEP_PX = 0.5
HALO_PX = TENSOR_RADIUS + 2
DISAGREE_PX = 0.5
NARROWEST_PX = 0.5
"""A smaller width is noise."""
LEAST_POINTS = 30


@numba.njit(cache=True)
def _interpolate(field: np.ndarray, z: float, y: float, x: float) -> float:
    nz, ny, nx = field.shape
    z = min(max(z, 0.0), nz - 1.001)
    y = min(max(y, 0.0), ny - 1.001)
    x = min(max(x, 0.0), nx - 1.001)
    i, j, k = int(z), int(y), int(x)
    fz, fy, fx = z - i, y - j, x - k
    a = field[i, j, k] * (1 - fx) + field[i, j, k + 1] * fx
    b = field[i, j + 1, k] * (1 - fx) + field[i, j + 1, k + 1] * fx
    c = field[i + 1, j, k] * (1 - fx) + field[i + 1, j, k + 1] * fx
    d = field[i + 1, j + 1, k] * (1 - fx) + field[i + 1, j + 1, k + 1] * fx
    return (a * (1 - fy) + b * fy) * (1 - fz) + (c * (1 - fy) + d * fy) * fz


@numba.njit(cache=True)
def _normal(
    field: np.ndarray, z: int, y: int, x: int, radius: int
) -> tuple[float, float, float]:
    """Return the direction in which the field varies most around a voxel."""
    nz, ny, nx = field.shape
    zz = yy = xx = zy = zx = yx = 0.0
    for i in range(max(z - radius, 1), min(z + radius + 1, nz - 1)):
        for j in range(max(y - radius, 1), min(y + radius + 1, ny - 1)):
            for k in range(max(x - radius, 1), min(x + radius + 1, nx - 1)):
                if (i - z) ** 2 + (j - y) ** 2 + (k - x) ** 2 > radius * radius:
                    continue
                gz = field[i + 1, j, k] - field[i - 1, j, k]
                gy = field[i, j + 1, k] - field[i, j - 1, k]
                gx = field[i, j, k + 1] - field[i, j, k - 1]
                zz += gz * gz
                yy += gy * gy
                xx += gx * gx
                zy += gz * gy
                zx += gz * gx
                yx += gy * gx
    # Power iteration from the axis with the most variation: never orthogonal to it.
    a, b, c = zz, zy, zx
    if yy >= zz and yy >= xx:
        a, b, c = zy, yy, yx
    elif xx >= zz:
        a, b, c = zx, yx, xx
    for _ in range(30):
        length = math.sqrt(a * a + b * b + c * c)
        if length == 0:
            return 1.0, 0.0, 0.0
        a, b, c = a / length, b / length, c / length
        a, b, c = (
            zz * a + zy * b + zx * c,
            zy * a + yy * b + yx * c,
            zx * a + yx * b + xx * c,
        )
    length = math.sqrt(a * a + b * b + c * c)
    if length == 0:
        return 1.0, 0.0, 0.0
    return a / length, b / length, c / length


@numba.njit(cache=True)
def _side(
    profile: np.ndarray, peak: int, direction: int, step: float
) -> tuple[float, float, bool]:
    """Return integral, crossing distance and whether a neighbour was met, on one side.

    The integral runs from the peak (half of its own sample) to the valley before the
    next crack, at most 4 voxels beyond the crossing of half the contrast.
    """
    last = len(profile) - 1
    total = 0.5 * profile[peak]
    lowest = profile[peak]
    lowest_total = total
    crossing = math.nan
    beyond = 0.0
    at = peak
    while 0 < at < last and beyond < 4.0:
        before = profile[at]
        at += direction
        value = profile[at]
        total += value
        if math.isnan(crossing):
            if value < 0.5:
                share = (before - 0.5) / (before - value) if before > value else 0.0
                crossing = (abs(at - peak) - 1 + share) * step
        else:
            beyond += step
        if value < lowest:
            lowest = value
            lowest_total = total
        elif value > lowest + 0.12:
            return (lowest_total - 0.5 * lowest) * step, crossing, True
    return total * step, crossing, False


@numba.njit(cache=True, parallel=True)
def measure_widths(
    field: np.ndarray,
    points: np.ndarray,
    half_px: float,
    width: np.ndarray,
    crossing: np.ndarray,
    met: np.ndarray,
    normals: np.ndarray,
) -> None:
    """Measure the crack's width at voxels of the mask.

    Parameters
    ----------
    field : ndarray, float32, shape (z, y, x)
        Smoothed deficit.
    points : ndarray, int64, shape (point, 3)
        Voxels (z, y, x) of the field.
    half_px : float
        Half the length of the profile.
    width, crossing : ndarray, float32, shape (point,)
        Filled with both widths in voxels; NaN where there is no crack.
    met : ndarray, uint8, shape (point,)
        Filled with 1 where a neighbouring crack ended the integral.
    normals : ndarray, float32, shape (point, 3)
        Filled with the unit normals (z, y, x).
    """
    half = int(half_px / STEP_PX)
    for point in numba.prange(len(points)):
        z, y, x = points[point]
        n0, n1, n2 = _normal(field, z, y, x, TENSOR_RADIUS)
        normals[point, 0] = n0
        normals[point, 1] = n1
        normals[point, 2] = n2
        # Two directions in the plane of the crack.
        if abs(n0) < 0.9:
            u0, u1, u2 = 0.0, n2, -n1
        else:
            u0, u1, u2 = -n2, 0.0, n0
        length = math.sqrt(u0 * u0 + u1 * u1 + u2 * u2)
        u0, u1, u2 = u0 / length, u1 / length, u2 / length
        v0, v1, v2 = n1 * u2 - n2 * u1, n2 * u0 - n0 * u2, n0 * u1 - n1 * u0
        profile = np.zeros(2 * half + 1)
        number = 0
        for i in range(-DISC_RADIUS, DISC_RADIUS + 1):
            for j in range(-DISC_RADIUS, DISC_RADIUS + 1):
                if i * i + j * j > DISC_RADIUS * DISC_RADIUS:
                    continue
                number += 1
                for k in range(2 * half + 1):
                    t = (k - half) * STEP_PX
                    profile[k] += _interpolate(
                        field,
                        z + t * n0 + i * u0 + j * v0,
                        y + t * n1 + i * u1 + j * v1,
                        x + t * n2 + i * u2 + j * v2,
                    )
        for k in range(2 * half + 1):
            profile[k] /= number
        # A voxel of the mask may lie beside the middle: climb to it.
        peak = half
        while 0 < peak < 2 * half:
            if profile[peak + 1] > profile[peak]:
                peak += 1
            elif profile[peak - 1] > profile[peak]:
                peak -= 1
            else:
                break
            if abs(peak - half) * STEP_PX > 4.0:
                break
        one, near, met_one = _side(profile, peak, 1, STEP_PX)
        other, far, met_other = _side(profile, peak, -1, STEP_PX)
        width[point] = one + other
        crossing[point] = near + far
        met[point] = 1 if met_one or met_other else 0


@dataclass(frozen=True)
class Widths:
    """Widths at random voxels of the cracks.

    A sample of voxels is weighted by volume, as a thickness map is: a wide crack is
    drawn more often. Weights of 1 / width turn that into a weighting by area.

    Attributes
    ----------
    points : ndarray, int32, shape (point, 3)
        Voxels (z, y, x).
    width_px : ndarray, float32
        By the deficit up to the valley.
    crossing_px : ndarray, float32
        By the crossings of half the contrast; NaN where it is not crossed.
    met : ndarray of bool
        A neighbouring crack ended the integral.
    """

    points: NDArray[np.int32]
    width_px: NDArray[np.float32]
    crossing_px: NDArray[np.float32]
    met: NDArray[np.bool_]

    @property
    def disagree(self) -> NDArray[np.bool_]:
        """Where the two widths differ: cracks meet, end or merge there."""
        return ~(np.abs(self.width_px - self.crossing_px) <= DISAGREE_PX)


def depth_frac(points: NDArray[np.int32], body: Body) -> NDArray[np.float64]:
    """Return how deep voxels (point, 3) lie: 0 at the anode's face, 1 at the other."""
    z, y, x = points.T
    top, bottom = body.top[y, x].astype(np.float64), body.bottom[y, x]
    return (z - top) / (bottom - top)


def side_medians(widths: Widths, body: Body) -> tuple[float | None, float | None]:
    """Return the median width, in voxels, in the thirds beside anode and cathode.

    Weighted by volume; None where fewer than `LEAST_POINTS` were measured. Cracks near
    an electrode narrow and widen as lithium moves, which their middle does not show.
    """
    depth = depth_frac(widths.points, body)
    medians = []
    for side in (depth < 1 / 3, depth > 2 / 3):
        width = widths.width_px[side & (widths.width_px > NARROWEST_PX)]
        enough = len(width) >= LEAST_POINTS
        medians.append(float(np.median(width)) if enough else None)
    return medians[0], medians[1]


@dataclass(frozen=True)
class WidthDistribution:
    """Figures of a distribution of widths, in the unit of the widths."""

    peak: float
    median: float
    mean: float
    quantiles: tuple[float, float, float, float]
    """At 5, 25, 75 and 95 %."""


def width_distribution(
    widths: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> WidthDistribution:
    """Return peak and quantiles of a weighted sample of widths.

    The peak is that of the histogram smoothed by a normal kernel of Silverman's width.
    """
    weights = np.ones(len(widths)) if weights is None else weights
    order = np.argsort(widths)
    values = np.asarray(widths, np.float64)[order]
    share = np.asarray(weights, np.float64)[order]
    share = share / share.sum()
    cumulative = np.cumsum(share) - 0.5 * share
    low, first, median, third, high = np.interp(
        [0.05, 0.25, 0.5, 0.75, 0.95], cumulative, values
    )
    mean = float((values * share).sum())
    effective = 1 / float((share**2).sum())
    spread = max(third - first, 1e-6) / 1.34
    bandwidth = 0.9 * spread * effective**-0.2
    grid = np.linspace(low, high, 512)
    counts, edges = np.histogram(
        values, bins=2048, range=(values[0], values[-1] + 1e-9), weights=share
    )
    centres = 0.5 * (edges[1:] + edges[:-1])
    kernel = np.exp(-0.5 * ((grid[:, None] - centres) / bandwidth) ** 2)
    density = kernel @ counts
    return WidthDistribution(
        peak=float(grid[density.argmax()]),
        median=float(median),
        mean=mean,
        quantiles=(float(low), float(first), float(third), float(high)),
    )
