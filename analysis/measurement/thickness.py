"""Thickness of the pellet and of the electrodes from averaged grey profiles.

Columns along z are shifted so that a smooth face lies at zero, averaged, and an error
function is fitted: many columns locate an edge to a hundredth of a voxel.
"""

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from analysis.measurement.body import Body
from analysis.measurement.grey_levels import Levels
from analysis.measurement.overview import Overview

PROFILE_PX = 10
BIN_PX = 0.25
TRUSTED_PX = 0.12
SHARP_SIGMA_PX = 0.4


@dataclass(frozen=True)
class Edge:
    """An edge in an averaged profile, in voxels along the profile.

    Attributes
    ----------
    position, position_sd : float
        Where the grey is half way, and its uncertainty by the fit.
    sigma : float
        Blur: point spread and what roughness the smooth face leaves.
    step, step_sd : float
        Grey after less grey before.
    columns : int
        Number of columns averaged.
    """

    position: float
    position_sd: float
    sigma: float
    step: float
    step_sd: float
    columns: int


def fit_edge(
    at: NDArray[np.float64],
    grey: NDArray[np.float64],
    sd: NDArray[np.float64],
    columns: int,
) -> Edge:
    """Fit a blurred step to a profile.

    Raises
    ------
    RuntimeError
        Where the fit does not converge.
    """

    def blurred(u: np.ndarray, before: float, step: float, where: float, sigma: float):
        return before + 0.5 * step * (
            1 + special.erf((u - where) / (sigma * math.sqrt(2)))
        )

    quarter = max(2, len(at) // 4)
    before, after = float(grey[:quarter].mean()), float(grey[-quarter:].mean())
    middle = float(at[np.abs(grey - 0.5 * (before + after)).argmin()])
    floor = 1e-3 * abs(after - before)
    with warnings.catch_warnings():
        warnings.simplefilter("error", optimize.OptimizeWarning)
        try:
            found, covariance = optimize.curve_fit(
                blurred, at, grey, p0=(before, after - before, middle, 1.0),
                sigma=np.maximum(sd, max(floor, 1e-30)), absolute_sigma=True,
                maxfev=2000,
            )  # fmt: skip
        except optimize.OptimizeWarning:
            # An edge within one voxel does not tell its blur.
            edge = _fit_faint_edge(at, grey, SHARP_SIGMA_PX, columns)
            return replace(edge, position=_centroid(at, grey, edge.position))
    deviation = np.sqrt(np.diag(covariance))
    position = _centroid(at, grey, float(found[2]))
    return Edge(
        position,
        float(deviation[2]),
        abs(float(found[3])),
        float(found[1]),
        float(deviation[1]),
        columns,
    )


def _fit_faint_edge(
    at: NDArray[np.float64], grey: NDArray[np.float64], sigma: float, columns: int
) -> Edge:
    """Fit a step of known blur; the scatter of the rows gives the uncertainties.

    The noise of a row's mean is not that of its voxels but of its flat field, so it
    can only be told from the fit.
    """

    def blurred(u: np.ndarray, before: float, step: float, where: float):
        return before + 0.5 * step * (
            1 + special.erf((u - where) / (sigma * math.sqrt(2)))
        )

    half = len(at) // 2
    before, after = float(np.median(grey[:half])), float(np.median(grey[half:]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", optimize.OptimizeWarning)
        try:
            found, covariance = optimize.curve_fit(
                blurred, at, grey, p0=(before, after - before, float(at[half])),
                maxfev=2000,
            )  # fmt: skip
        except optimize.OptimizeWarning as warning:
            raise RuntimeError("the edge's profile does not fix a fit") from warning
    deviation = np.sqrt(np.diag(covariance))
    return Edge(
        float(found[2]), float(deviation[2]), sigma, float(found[1]),
        float(deviation[1]), columns,
    )  # fmt: skip


def _centroid(at: NDArray[np.float64], grey: NDArray[np.float64], near: float) -> float:
    """Return where a sharp step would have the integral of the profile.

    That holds for any symmetric blur and any fringe, where the error function, whose
    shape the voxels and a fringe change, is biased by some hundredths of a voxel.
    """
    reach = min(6.0, near - at[0], at[-1] - near)
    if reach < 3:
        return near
    outer, inner = at < near - 0.6 * reach, at > near + 0.6 * reach
    outer &= at > near - 1.6 * reach
    inner &= at < near + 1.6 * reach
    before, after = float(grey[outer].mean()), float(grey[inner].mean())
    ends = np.array([near - reach, near + reach])
    inside = (at > ends[0]) & (at < ends[1])
    u = np.concatenate([ends[:1], at[inside], ends[1:]])
    share = (np.interp(u, at, grey) - before) / (after - before)
    area = (0.5 * (share[1:] + share[:-1]) * np.diff(u)).sum()
    return float(ends[1] - area)


@dataclass(frozen=True)
class PelletFaces:
    """Faces of the pellet, fitted relative to its smooth surfaces."""

    top: Edge
    bottom: Edge
    thickness_px: float
    thickness_sd_px: float
    variation_px: float
    """Standard deviation of the smooth thickness over the pellet."""


def cells_inside(overview: Overview, body: Body, margin_px: float) -> NDArray[np.bool_]:
    """Return the cells of the overview's columns inside the rim."""
    cell = overview.column_factor
    ny, nx = overview.columns.shape[1:]
    y = (np.arange(ny) + 0.5) * cell - 0.5 - body.centre[0]
    x = (np.arange(nx) + 0.5) * cell - 0.5 - body.centre[1]
    radius = np.hypot(y[:, None], x[None, :])
    return radius < float(np.median(body.rim)) - margin_px


def _at_cells(
    full: NDArray[np.float32], cell: int, shape: tuple[int, int]
) -> np.ndarray:
    ny, nx = shape
    part = full[: ny * cell, : nx * cell].reshape(ny, cell, nx, cell)
    return part.mean(axis=(1, 3), dtype=np.float64)


def face_profile(
    overview: Overview,
    faces: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    direction: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int]:
    """Return depth, mean grey, its sd and the number of columns, across a face.

    Columns over a crack, which differ from the median column, are left out.
    """
    rows, cells = np.nonzero(chosen)
    height = faces[rows, cells]
    nz = overview.shape[0]
    base = np.floor(height).astype(int)
    offsets = np.arange(-PROFILE_PX, PROFILE_PX + 1)
    z = base[None] + direction * offsets[:, None]
    whole = ((z >= 0) & (z < nz)).all(axis=0)
    z, rows, cells = z[:, whole], rows[whole], cells[whole]
    depth = direction * (z - height[whole][None])
    grey = overview.columns[z, rows, cells].astype(np.float64)
    solid = _alike(depth, grey)
    depth, grey = depth[:, solid], grey[:, solid]
    edges = np.arange(-PROFILE_PX + 1, PROFILE_PX - 1 + BIN_PX, BIN_PX)
    index = np.digitize(depth.ravel(), edges) - 1
    number = len(edges) - 1
    valid = (index >= 0) & (index < number)
    index, values = index[valid], grey.ravel()[valid]
    counts = np.bincount(index, minlength=number)
    sums = np.bincount(index, values, minlength=number)
    squares = np.bincount(index, values**2, minlength=number)
    depths = np.bincount(index, depth.ravel()[valid], minlength=number)
    used = counts > 3
    mean = sums[used] / counts[used]
    variance = np.maximum(squares[used] / counts[used] - mean**2, 0)
    return (
        depths[used] / counts[used],
        mean,
        np.sqrt(variance / counts[used]),
        int(solid.sum()),
    )


def _alike(depth: NDArray[np.float64], grey: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which columns (depth, column) are like the median column."""
    number = grey.shape[1]
    if number < 16:
        raise RuntimeError(f"{number} columns at a face of the pellet are in view")
    bins = np.arange(-PROFILE_PX, PROFILE_PX + 1)
    index = np.round(depth).astype(int)
    typical = np.array(
        [np.median(grey[index == at]) if (index == at).any() else np.nan for at in bins]
    )
    known = np.isfinite(typical)
    expected = np.interp(depth, bins[known], typical[known])
    # A crack below the face or a shard above it: three voxels in a row tell.
    less = expected - grey
    runs = (less[:-2] + less[1:-1] + less[2:]) / 3
    worst = np.abs(runs).max(axis=0)
    middle = np.median(worst)
    below = worst[worst < middle]
    scatter = 1.4826 * np.median(middle - below) if below.size else 0.0
    return worst <= middle + 2 * scatter


def fit_pellet_faces(overview: Overview, body: Body) -> tuple[Body, PelletFaces]:
    """Fit both faces; return the body with its faces and blur corrected, and the fit.

    Raises
    ------
    RuntimeError
        Where a face cannot be fitted.
    """
    cell = overview.column_factor
    shape = overview.columns.shape[1], overview.columns.shape[2]
    chosen = cells_inside(overview, body, 3.0 * cell + 6)
    fitted = []
    for face, direction in ((body.top, 1), (body.bottom, -1)):
        depth, grey, sd, number = face_profile(
            overview, _at_cells(face, cell, shape), chosen, direction
        )
        edge = fit_edge(depth, grey, sd, number)
        if abs(edge.position) > TRUSTED_PX:
            # The smooth surface is never that far off: cracks along the face are.
            edge = replace(edge, position=0.0, position_sd=TRUSTED_PX / 2)
        fitted.append(edge)
    top, bottom = fitted
    corrected = Body(
        top=(body.top + top.position).astype(np.float32),
        bottom=(body.bottom - bottom.position).astype(np.float32),
        rim=body.rim,
        centre=body.centre,
        edge_sigma_px=float(np.clip(0.5 * (top.sigma + bottom.sigma), 0.3, 3.0)),
    )
    apart = _at_cells(corrected.bottom - corrected.top, cell, shape)[chosen]
    return corrected, PelletFaces(
        top,
        bottom,
        float(apart.mean()),
        math.hypot(top.position_sd, bottom.position_sd),
        float(apart.std()),
    )


@dataclass(frozen=True)
class ElectrodeFace:
    """Outer face of an electrode; ``edge`` is None where it is not in view."""

    edge: Edge | None
    thickness_px: float | None
    thickness_sd_px: float | None
    reason: str


def fit_electrode(
    overview: Overview, body: Body, levels: Levels, window_px: float, *, top: bool
) -> ElectrodeFace:
    """Find the outer face of the electrode above (``top``) or below the pellet.

    Lithium stands out of air by some 1.2 % of the contrast only; the mean over all
    columns of the pellet shows it.
    """
    cell = overview.column_factor
    shape = overview.columns.shape[1], overview.columns.shape[2]
    chosen = cells_inside(overview, body, 4.0 * cell + 6)
    face = _at_cells(body.top if top else body.bottom, cell, shape)[chosen]
    inner = float(face.mean())
    if top:
        first = int(face.min()) - 5
        rows = range(first, -1, -1)
    else:
        first = int(face.max()) + 5
        rows = range(first, len(overview.columns))
    if len(rows) < 12:
        return ElectrodeFace(None, None, None, "outer face is out of view")
    grey = np.array(
        [overview.columns[row][chosen].mean(dtype=np.float64) for row in rows]
    )
    number = len(grey)
    # The step between the means on both sides, where it is largest.
    reach = max(4, min(int(window_px), number // 3))
    sums = np.concatenate([[0.0], np.cumsum(grey)])
    cuts = np.arange(reach, number - reach + 1)
    before = (sums[cuts] - sums[cuts - reach]) / reach
    after = (sums[cuts + reach] - sums[cuts]) / reach
    cut = int(cuts[(np.abs(after - before)).argmax()])
    part = slice(max(0, cut - reach), min(number, cut + reach))
    at = np.arange(number, dtype=np.float64)[part]
    try:
        edge = _fit_faint_edge(at, grey[part], body.edge_sigma_px, int(chosen.sum()))
    except RuntimeError:
        return ElectrodeFace(None, None, None, "outer face cannot be fitted")
    significant = abs(edge.step) > 5 * edge.step_sd
    if not (significant and at[0] < edge.position < at[-1]):
        return ElectrodeFace(None, None, None, "outer face is out of view")
    z = first - edge.position if top else first + edge.position
    thickness = inner - z if top else z - inner
    return ElectrodeFace(edge, thickness, edge.position_sd, "")
