"""Scans of a full turn with the axis off the middle: nearly twice the field of view.

Each ray is seen twice where the axis has detector on both sides, from the front and
half a turn later from behind, and once beyond. Weights that add up to one for every
ray make one projection of both; since filtering is linear, the weighted projections of
the full turn give the slice of the whole field, with nothing to stitch.
"""

import numpy as np
from numpy.typing import NDArray

MIN_TURN_DEG = 350.0
MIN_OFF_CENTRE_FRAC = 0.02


def is_off_centre_full_turn(
    angles_deg: NDArray[np.float64], width_px: int, rotation_axis_px: float
) -> bool:
    """Tell whether a scan turns full circle about an axis off the middle."""
    off_centre = abs(rotation_axis_px - (width_px - 1) / 2)
    turned = float(np.ptp(angles_deg)) if len(angles_deg) else 0.0
    return turned >= MIN_TURN_DEG and off_centre > MIN_OFF_CENTRE_FRAC * width_px


def full_turn_size(width_px: int, rotation_axis_px: float) -> int:
    """Return rows and columns of a slice that holds all that was seen."""
    return 2 * int(np.ceil(max(rotation_axis_px, width_px - 1 - rotation_axis_px)))


def full_turn_weights(width_px: int, rotation_axis_px: float) -> NDArray[np.float32]:
    """Return the factor of each column, shape (x,).

    2 where a ray is seen once and 0 .. 2, falling smoothly towards the near end of the
    detector, where it is seen twice.
    """
    place = np.arange(width_px) - rotation_axis_px
    if rotation_axis_px > (width_px - 1) / 2:
        place = -place
    overlap = min(rotation_axis_px, width_px - 1 - rotation_axis_px)
    rise = np.clip(place / max(overlap, 1e-9), -1, 1)
    return (1 + np.sin(0.5 * np.pi * rise)).astype(np.float32)
