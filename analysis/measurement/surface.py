"""Smooth surfaces through heights that cracks, chips and noise spoil."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analysis.errors import MeasurementError

TUKEY = 4.685  # 95 % efficient for normal errors
ROUGH_SPREADS = 4.0
SMOOTH_PX = 0.1
"""What is no deeper than this is shape even of the smoothest face."""
PLANE = [0, 1, 4]
"""The terms 1, v and u of a low-order surface that is not periodic."""


def robust_surface(
    heights: NDArray[np.float64],
    window: tuple[float, float],
    *,
    periodic: bool = False,
) -> NDArray[np.float64]:
    """Return a smooth surface through the greater part of the heights.

    A low-order surface is fitted by iteratively reweighted least squares; then the
    median of what is left in a window is followed, so that a dip narrower than half
    the window is bridged and a wider one is kept as the shape of the body.

    Parameters
    ----------
    heights : ndarray, shape (row, column)
        NaN where unknown.
    window : tuple[float, float]
        Window in rows and columns.
    periodic : bool
        The columns go once around: the last is beside the first.
    """
    known = np.isfinite(heights)
    if known.sum() < 12:
        raise MeasurementError(
            f"a surface of the pellet is seen at {known.sum()} places, at least 12 are "
            "needed; check the voxel size and that the pellet is in view"
        )
    fitted = _low_order_fit(heights, known, periodic)
    residual = heights - fitted
    scale = _spread(residual[known])
    # An unknown height and a wild one say nothing: they take the fit's place.
    usable = known & (np.abs(residual) < max(8 * scale, 4.0))
    residual = np.where(usable, residual, 0.0)
    size = tuple(
        int(min(2 * (length // 2) + 1, 2 * ((number - 1) // 2) + 1))
        for length, number in zip(window, heights.shape, strict=True)
    )
    residual = _windowed_median(residual, usable, size, periodic)
    sigma = [max(length / 6, 0.5) for length in size]
    padded = _padded(residual, size, periodic)
    smooth = ndimage.gaussian_filter(padded, sigma)
    return fitted + _unpadded(smooth, size)


def face_surface(
    heights: NDArray[np.float64], window: float, inward: int
) -> NDArray[np.float64]:
    """Return a smooth face through heights that cracks make deeper, never higher.

    A sheet that leaves the body at a small angle opens over many voxels, like a dent.
    So the face is followed in three steps, each within what the one before leaves: a
    low-order surface along the outer side of the heights, dips narrower than half of
    three windows bridged, then the roughness within a window. What lies deeper than
    the roughness is no shape of the face.

    Parameters
    ----------
    heights : ndarray, shape (row, column)
        NaN where unknown.
    window : float
        Window in rows and columns.
    inward : int
        1 where a greater height is deeper in the body, else -1.
    """
    known = np.isfinite(heights)
    if known.sum() < 12:
        raise MeasurementError(
            f"a surface of the pellet is seen at {known.sum()} places, at least 12 are "
            "needed; check the voxel size and that the pellet is in view"
        )
    surface = _low_order_fit(heights, known, periodic=False, inward=inward)
    for length in (3 * window, window):
        residual = heights - surface
        deeper = np.where(known, inward * residual, 0.0)
        spread = _spread_of_negative(deeper[known])
        # As far as the roughness goes a dip is shape; a wider one goes deeper.
        usable = known & (np.abs(residual) < max(8 * spread, 4.0))
        detail = _smoothed_median(np.where(usable, residual, 0.0), usable, length)
        if length == window:
            inner = inward * detail
            rough = ROUGH_SPREADS * _spread_of_negative(inner[known])
            detail[inner > max(rough, SMOOTH_PX)] = 0.0
        surface = surface + detail
    return surface


def _smoothed_median(
    residual: NDArray[np.float64], usable: NDArray[np.bool_], length: float
) -> NDArray[np.float64]:
    size = tuple(
        int(min(2 * (length // 2) + 1, 2 * ((number - 1) // 2) + 1))
        for number in residual.shape
    )
    residual = _windowed_median(residual, usable, size, periodic=False)
    sigma = [max(side / 6, 0.5) for side in size]
    padded = _padded(residual, size, periodic=False)
    return _unpadded(ndimage.gaussian_filter(padded, sigma), size)


def _padded(
    values: NDArray[np.float64], margin: tuple[int, ...], periodic: bool
) -> NDArray[np.float64]:
    """Continue a map on all sides: around where periodic, else by its last values."""
    rows, columns = margin
    across = "wrap" if periodic else "edge"
    wider = np.pad(values, ((0, 0), (columns, columns)), mode=across)
    return np.pad(wider, ((rows, rows), (0, 0)), mode="edge")


def _unpadded(
    values: NDArray[np.float64], margin: tuple[int, ...]
) -> NDArray[np.float64]:
    rows, columns = margin
    return values[rows:-rows, columns:-columns]


def _spread(values: NDArray[np.float64]) -> float:
    """Return the standard deviation that the median absolute deviation implies."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _spread_of_negative(values: NDArray[np.float64]) -> float:
    """Return the standard deviation that the values below 0 imply."""
    below = values[values < 0]
    return 1.4826 * float(np.median(-below)) if below.size else 0.0


def _low_order_fit(
    heights: NDArray[np.float64],
    known: NDArray[np.bool_],
    periodic: bool,
    inward: int = 0,
) -> NDArray[np.float64]:
    """Fit a low-order surface, robust to heights that lie elsewhere.

    With ``inward`` only the heights on the outer side tell their scatter, and those
    deeper by more than that are left out.
    """
    rows, columns = heights.shape
    v = np.linspace(-1, 1, rows)[:, None] * np.ones((1, columns))
    if periodic:
        angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None, :] + 0 * v
        around = [np.ones_like(v)]
        for order in range(1, 5):
            around += [np.cos(order * angle), np.sin(order * angle)]
        terms = around + [v * term for term in around[:3]] + [v**2]
    else:
        u = np.linspace(-1, 1, columns)[None, :] + 0 * v
        terms = [u**i * v**j for i in range(4) for j in range(4 - i)]
    design = np.stack([term[known] for term in terms], axis=1)
    values = heights[known]
    stride = max(1, len(values) // 20_000)
    design, values = design[::stride], values[::stride]
    weight = np.ones(len(values))
    # The median first: a least-squares start would be pulled by the cracks.
    weight[np.abs(values - np.median(values)) > 10 * max(_spread(values), 1.0)] = 0
    solution = np.zeros(design.shape[1])
    for step in range(24 if inward else 12):
        # A plane first: a crack along a part of a face would bend more.
        used = PLANE if inward and step < 12 else slice(None)
        weighted = design[:, used] * weight[:, None]
        solution[:] = 0
        solution[used], *_ = np.linalg.lstsq(
            design[:, used].T @ weighted, weighted.T @ values, rcond=1e-10
        )
        residual = values - design @ solution
        if inward:
            deeper = inward * residual
            spread = _spread_of_negative(deeper)
            weight = _tukey(residual, spread)
            # Strict until the outer side is found, then fair to a rough face.
            weight[deeper > (2 if step < 18 else 4) * max(spread, 0.05)] = 0
        else:
            weight = _tukey(residual, _spread(residual))
    return np.tensordot(solution, np.stack(terms), axes=1)


def _tukey(residual: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    ratio = residual / (TUKEY * max(spread, 0.05))
    return np.where(np.abs(ratio) < 1, (1 - ratio**2) ** 2, 0.0)


def _windowed_median(
    residual: NDArray[np.float64],
    usable: NDArray[np.bool_],
    size: tuple[int, ...],
    periodic: bool,
) -> NDArray[np.float64]:
    """Median over a window, of a residual thinned so that the cost stays small."""
    rows, columns = residual.shape
    # Cells divide the columns, so that a periodic map stays periodic.
    cell_rows = max(1, size[0] // 8)
    cell_columns = max(1, size[1] // 8)
    while columns % cell_columns:
        cell_columns -= 1
    small = _cell_medians(np.where(usable, residual, np.nan), cell_rows, cell_columns)
    window = (max(3, size[0] // cell_rows | 1), max(3, size[1] // cell_columns | 1))
    padded = _padded(small, window, periodic)
    small = _unpadded(ndimage.median_filter(padded, size=window), window)
    at = np.meshgrid(
        (np.arange(rows) + 0.5) / cell_rows - 0.5,
        (np.arange(columns) + 0.5) / cell_columns - 0.5,
        indexing="ij",
    )
    mode = "grid-wrap" if periodic else "nearest"
    return np.asarray(ndimage.map_coordinates(small, at, order=1, mode=mode))


def _cell_medians(
    values: NDArray[np.float64], rows: int, columns: int
) -> NDArray[np.float64]:
    """Return the median of what is known in each cell, 0 where nothing is."""
    if rows == columns == 1:
        return np.nan_to_num(values)
    missing = -values.shape[0] % rows
    padded = np.pad(values, ((0, missing), (0, 0)), constant_values=np.nan)
    shape = len(padded) // rows, rows, values.shape[1] // columns, columns
    cells = padded.reshape(shape).transpose(0, 2, 1, 3)
    cells = cells.reshape(*cells.shape[:2], rows * columns)
    known = np.isfinite(cells).any(axis=2)
    out = np.zeros(known.shape)
    out[known] = np.nanmedian(cells[known], axis=1)
    return out
