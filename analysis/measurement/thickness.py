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

SHAPE_FRAC = 0.018
"""Error of a fitted edge by the shape of its roughness, as a share of that: the bumps
of a face are no error function (0.016 to 0.021 with a hundred bumps in view)."""

FRINGE_STEPS = 2.0
"""What swings by so many steps below and above an edge's greys is a fringe."""

FRINGE_HALVES = 5.0
"""So many times half the distance of its extremes away a fringe has gone."""

FRINGE_REACH_PX = 4

FRINGE_SD_PX = 0.25
"""Bias of an edge by what is not odd in its fringe: the logarithm, the voxels."""

ROUGHEST_PX = 4.0
"""Roughness and tilt of an electrode's outer face blur it by no more."""

MEAN_REACH_PX = 8
"""Roughness of a face reaches no farther from the smooth face."""

CLEAR_OF_FACE_PX = 3
CRACK_SHARE = 0.7
"""Two voxels behind the face that are darker than this share are a crack."""

FARTHEST_SPREADS = 4.0
MEAN_LEVEL_PX = 6
"""Voxels beyond that tell the grey on both sides."""


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
    # What the step does not fit, a fringe above all, makes its place less certain.
    left = (grey - blurred(at, *found)) / np.maximum(sd, max(floor, 1e-30))
    excess = float((left**2).sum()) / max(1, len(at) - len(found))
    deviation = np.sqrt(np.diag(covariance) * max(1.0, excess))
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


def _fit_rough_edge(
    at: NDArray[np.float64], grey: NDArray[np.float64], sigma: float, columns: int
) -> Edge:
    """Fit a faint step whose blur is the point spread and an unknown roughness."""
    if (fringed := _fit_fringed_edge(at, grey, columns)) is not None:
        return fringed
    narrow = _fit_faint_edge(at, grey, sigma, columns)

    def blurred(
        u: np.ndarray, before: float, step: float, where: float, blur: float
    ) -> np.ndarray:
        return before + 0.5 * step * (
            1 + special.erf((u - where) / (blur * math.sqrt(2)))
        )

    start = (float(grey[: len(at) // 2].mean()), narrow.step, narrow.position, sigma)
    ends = (
        (-np.inf, -np.inf, float(at[0]), 0.99 * sigma),
        (np.inf, np.inf, float(at[-1]), sigma + ROUGHEST_PX),
    )
    if not at[0] < narrow.position < at[-1]:
        return narrow
    with warnings.catch_warnings():
        warnings.simplefilter("error", optimize.OptimizeWarning)
        try:
            found, covariance = optimize.curve_fit(
                blurred, at, grey, p0=start, bounds=ends, maxfev=4000
            )
        except (optimize.OptimizeWarning, RuntimeError):
            return narrow
    deviation = np.sqrt(np.diag(covariance))
    if not np.isfinite(deviation).all():
        return narrow
    step, where, blur = (float(value) for value in found[1:])
    left = grey - blurred(at, float(found[0]), step, where, blur)
    roughness = math.sqrt(max(blur**2 - sigma**2, 0.0))
    sd = math.hypot(float(deviation[2]) * _stretch(left), SHAPE_FRAC * roughness)
    # The integral of the profile is right for a roughness of any shape, but it takes
    # in the noise of all rows across the edge.
    reach = 3 * blur + 1
    integral_sd = float(left.std()) * math.sqrt(2 * reach) / abs(step)
    integral_sd *= _stretch(left)
    if integral_sd < sd:
        where, sd = _centroid(at, grey, where, reach), integral_sd
    return Edge(where, sd, blur, step, float(deviation[1]), columns)


def _fit_fringed_edge(
    at: NDArray[np.float64], grey: NDArray[np.float64], columns: int
) -> Edge | None:
    """Fit a faint step that hides in its own phase fringe; None where there is none.

    A few millimetres behind the sample the fringe of lithium in air is thirty times
    its step: dark outside, bright inside, odd about the edge. It tells the place, and
    the grey beyond it the step.
    """
    first, last = sorted((int(grey.argmin()), int(grey.argmax())))
    middle, half = 0.5 * (at[first] + at[last]), 0.5 * (at[last] - at[first])
    beyond = np.abs(at - middle) > FRINGE_HALVES * half
    sides = [grey[beyond & (at < middle)], grey[beyond & (at > middle)]]
    if not 0 < half < ROUGHEST_PX or min(len(side) for side in sides) < 4:
        return None
    before, after = (float(np.median(side)) for side in sides)
    step = after - before
    step_sd = math.hypot(*(float(side.std()) / math.sqrt(len(side)) for side in sides))
    swing = float(grey[last] - grey[first])
    least = FRINGE_STEPS * abs(step)
    if (
        swing * step <= 0
        or grey.max() - max(before, after) < least
        or min(before, after) - grey.min() < least
    ):
        return None

    def fringed(u: np.ndarray, where: float, blur: float, height: float) -> np.ndarray:
        t = (u - where) / blur
        odd = height * t * np.exp(0.5 - 0.5 * t**2)
        return before + step * special.ndtr(t) + odd

    with warnings.catch_warnings():
        warnings.simplefilter("error", optimize.OptimizeWarning)
        try:
            found, covariance = optimize.curve_fit(
                fringed, at, grey, p0=(middle, half, 0.5 * swing), maxfev=4000
            )
        except (optimize.OptimizeWarning, RuntimeError):
            return None
    where, blur = float(found[0]), abs(float(found[1]))
    if abs(where - middle) > half + 1:
        return None
    sd = math.hypot(math.sqrt(float(covariance[0, 0])), FRINGE_SD_PX)
    return Edge(where, sd, blur, step, step_sd, columns)


def _stretch(left: NDArray[np.float64]) -> float:
    """Return how much less neighbouring rows tell when their noise is alike."""
    total = float((left**2).sum())
    if total == 0:
        return 1.0
    alike = float((left[1:] * left[:-1]).sum()) / total
    alike = min(max(alike, 0.0), 0.8)
    return math.sqrt((1 + alike) / (1 - alike))


def _centroid(
    at: NDArray[np.float64],
    grey: NDArray[np.float64],
    near: float,
    widest: float = 6.0,
) -> float:
    """Return where a sharp step would have the integral of the profile.

    That holds for any symmetric blur and any fringe, where the error function, whose
    shape the voxels and a fringe change, is biased by some hundredths of a voxel.
    """
    reach = min(widest, near - at[0], at[-1] - near)
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


def mean_height(
    overview: Overview,
    faces: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    direction: int,
) -> tuple[float, float]:
    """Return the mean height of a rough face over columns, and its uncertainty.

    The grey that a column lacks across the face is its height, whatever its shape: the
    mean is exact for any roughness, where a smooth surface follows the greater part of
    it. Only what lies well below and above the face tells whether a crack or a shard
    is there, so that high and low columns are taken alike.

    Parameters
    ----------
    overview : Overview
        Mean columns.
    faces : ndarray, shape (y, x)
        Smooth height of the face in each cell.
    chosen : ndarray of bool, shape (y, x)
        Cells to take.
    direction : int
        1 where the pellet lies at larger z, else -1.
    """
    rows, cells = np.nonzero(chosen)
    height = faces[rows, cells]
    base = np.floor(height).astype(int)
    reach = MEAN_REACH_PX + MEAN_LEVEL_PX
    offsets = np.arange(-reach, reach + 1)
    z = base[None] + direction * offsets[:, None]
    whole = ((z >= 0) & (z < overview.shape[0])).all(axis=0)
    if whole.sum() < 16:
        return float(height.mean()), math.inf
    grey = overview.columns[z[:, whole], rows[whole], cells[whole]].astype(np.float64)
    height, base = height[whole], base[whole]
    outside, inside = grey[:MEAN_LEVEL_PX], grey[-MEAN_LEVEL_PX:]
    low, high = float(np.median(outside)), float(np.median(inside))
    contrast = high - low
    sound = np.abs(inside.mean(axis=0) - high) < 0.1 * contrast
    sound &= np.abs(outside.mean(axis=0) - low) < 0.1 * contrast
    sound &= ~_dark_below_the_face((grey - low) / contrast)
    if sound.sum() < 16:
        return float(faces[chosen].mean()), math.inf
    grey, height, base = grey[:, sound], height[sound], base[sound]
    low = float(grey[:MEAN_LEVEL_PX].mean())
    high = float(grey[-MEAN_LEVEL_PX:].mean())
    across = grey[MEAN_LEVEL_PX:-MEAN_LEVEL_PX]
    share = ((high - across) / (high - low)).sum(axis=0)
    # A sharp face at the base's centre would lack half of the voxels there.
    found = base + direction * (share - MEAN_REACH_PX - 0.5)
    off = found - height
    # What is farther off than a rough face ever is: a crack that starts at the face.
    middle = float(np.median(off))
    spread = 1.4826 * float(np.median(np.abs(off - middle)))
    off = off[np.abs(off - middle) < FARTHEST_SPREADS * spread + 1e-6]
    offset = float(off.mean())
    sd = float(off.std()) / math.sqrt(len(off))
    return float(faces[chosen].mean()) + offset, sd


def _dark_below_the_face(share: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the columns (offset, column) that turn dark again behind their face.

    Where a column's own face lies does not matter: high and low ones are kept alike.
    """
    entered = (share > 0.5).argmax(axis=0)
    pair = 0.5 * (share[1:] + share[:-1])
    behind = np.arange(len(pair))[:, None] >= entered + CLEAR_OF_FACE_PX
    return np.where(behind, pair, 1.0).min(axis=0) < CRACK_SHARE


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
    faces = _at_cells(body.top if top else body.bottom, cell, shape)
    face = faces[chosen]
    inner, inner_sd = mean_height(overview, faces, chosen, 1 if top else -1)
    if not math.isfinite(inner_sd):
        inner_sd = TRUSTED_PX / 2
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
    most = int(np.abs(after - before).argmax())
    cut = int(cuts[most])
    # A fringe turns over at the edge itself; half of it would look like the step.
    begin = max(0, cut - reach - FRINGE_REACH_PX)
    jumps = np.abs(np.diff(grey[begin : cut + reach + FRINGE_REACH_PX]))
    if jumps.max() > FRINGE_STEPS * abs(after[most] - before[most]):
        cut = begin + int(jumps.argmax()) + 1
    part = slice(max(0, cut - reach), min(number, cut + reach))
    at = np.arange(number, dtype=np.float64)[part]
    try:
        edge = _fit_rough_edge(at, grey[part], body.edge_sigma_px, int(chosen.sum()))
    except RuntimeError:
        return ElectrodeFace(None, None, None, "outer face cannot be fitted")
    significant = abs(edge.step) > 5 * edge.step_sd
    if not (significant and at[0] < edge.position < at[-1]):
        return ElectrodeFace(None, None, None, "outer face is out of view")
    z = first - edge.position if top else first + edge.position
    thickness = inner - z if top else z - inner
    sd = math.hypot(edge.position_sd, inner_sd)
    return ElectrodeFace(edge, thickness, sd, "")
