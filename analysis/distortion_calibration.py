"""Finds the lens distortion from the image of a dot target, with discorpy.

https://discorpy.readthedocs.io. Kept apart from its use: discorpy brings half of the
scientific stack with it, which a running scan need not load.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.settings import DistortionSettings

with warnings.catch_warnings():
    # discorpy 1.7 imports from a scipy module that is to go.
    warnings.simplefilter("ignore", DeprecationWarning)
    from discorpy.post import postprocessing
    from discorpy.prep import preprocessing
    from discorpy.proc import processing


@dataclass(frozen=True)
class Calibration:
    """Distortion found from a dot target.

    Attributes
    ----------
    model : DistortionSettings
        For the settings of a reconstruction.
    residual_before_px, residual_px : float
        Farthest that a dot stands off the straight line of its row or column, before
        and after the correction.
    num_dots : int
        Dots that told, rows and columns counted apart.
    """

    model: DistortionSettings
    residual_before_px: float
    residual_px: float
    num_dots: int


def calibrate_distortion(
    target: NDArray[Any], *, num_coefficients: int = 5
) -> Calibration:
    """Find centre and coefficients from the image of a grid of dots.

    Parameters
    ----------
    target : ndarray, shape (y, x)
        Dark dots on bright ground or the reverse.
    num_coefficients : int
        Of the polynomial, at least 2.

    Raises
    ------
    DataError
        No grid of dots is seen.
    """
    image = np.asarray(target, np.float32)
    if image.ndim != 2:
        raise DataError(f"a dot target has shape {image.shape}; it must be (y, x)")
    if not np.ptp(image) > 0:
        raise DataError(f"no grid of dots is seen in an even image of {image.shape}")
    with warnings.catch_warnings():
        # discorpy 1.7 calls scipy and scikit-image by names that are to go.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            rows, columns = _lines_of_dots(image)
            x, y = processing.find_cod_coarse(rows, columns)
            found = processing.calc_coef_backward(rows, columns, x, y, num_coefficients)
        except (ValueError, IndexError, ZeroDivisionError, TypeError) as error:
            raise DataError(
                f"no grid of dots is seen in an image of {image.shape} (y, x): {error}"
            ) from error
    after = [
        postprocessing.unwarp_line_backward(lines, x, y, found)
        for lines in (rows, columns)
    ]
    return Calibration(
        model=DistortionSettings(
            centre_x_px=float(x),
            centre_y_px=float(y),
            coefficients=tuple(float(value) for value in found),
        ),
        residual_before_px=_residual_px(rows, columns, x, y),
        residual_px=_residual_px(after[0], after[1], x, y),
        num_dots=sum(len(line) for line in (*rows, *columns)),
    )


def _lines_of_dots(image: NDArray[np.float32]) -> tuple[list[Any], list[Any]]:
    """Return the centres of the dots (y, x), row by row and column by column."""
    dots = preprocessing.binarization(image)
    size, distance = preprocessing.calc_size_distance(dots)
    dots = preprocessing.select_dots_based_size(dots, size)
    dots = preprocessing.select_dots_based_ratio(dots)
    across = preprocessing.calc_hor_slope(dots)
    down = preprocessing.calc_ver_slope(dots)
    rows = preprocessing.group_dots_hor_lines(dots, across, distance)
    columns = preprocessing.group_dots_ver_lines(dots, down, distance)
    return (
        preprocessing.remove_residual_dots_hor(rows, across),
        preprocessing.remove_residual_dots_ver(columns, down),
    )


def _residual_px(rows: list[Any], columns: list[Any], x: float, y: float) -> float:
    across = postprocessing.calc_residual_hor(rows, x, y)
    down = postprocessing.calc_residual_ver(columns, x, y)
    return float(max(across[:, 1].max(), down[:, 1].max()))
