"""Which projections are spoilt: pure checks on the levels of the frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices.errors import FramesLostError

from .reference_check import FrameLevels
from .settings import ScanSettings

# A frame is spoilt when it leaves the median of its neighbours by so much of it ...
LEVEL_SPREAD_FRAC = 0.1
# ... and by so many times what they differ among themselves: a flat cell changes its
# absorption steeply as it turns edge-on, a lone frame does it alone.
NEIGHBOUR_SPREADS = 4.0
NEIGHBOURS = np.array([-2, -1, 1, 2])
# No sample takes so much of the light out of a whole frame.
DEAD_FRAC = 0.05
LISTED = 5


@dataclass(frozen=True)
class SpoiltFrame:
    """A projection that is left out, and why.

    Attributes
    ----------
    index : int
        Of the frame in its file.
    reason : str
        ``dark``, ``bright`` or ``saturated``, with the numbers.
    """

    index: int
    reason: str


def spoilt_projections(
    levels: FrameLevels, dark_counts: float, scan: ScanSettings, path: Path
) -> tuple[SpoiltFrame, ...]:
    """Return the projections to leave out.

    Parameters
    ----------
    levels : FrameLevels
        Of every projection.
    dark_counts : float
        Level of the darks.
    scan : ScanSettings
        Says how many may be left out.
    path : Path
        Named in the error.

    Raises
    ------
    FramesLostError
        When more are spoilt than may be left out.
    """
    signal = levels.mean_counts - dark_counts
    expected, spread = _neighbourhood(signal)
    dead = DEAD_FRAC * float(np.median(signal))
    spoilt = []
    for index, saturated_frac in enumerate(levels.saturated_frac):
        departure = signal[index] - expected[index]
        allowed = max(
            LEVEL_SPREAD_FRAC * abs(expected[index]), NEIGHBOUR_SPREADS * spread[index]
        )
        if saturated_frac > scan.saturated_frac_max:
            reason = f"saturated: {saturated_frac:.2%} of its pixels"
        elif abs(departure) > allowed or signal[index] < dead:
            what = "dark" if departure < 0 else "bright"
            reason = (
                f"{what}: {signal[index]:.0f} counts above the darks, its neighbours"
                f" {expected[index]:.0f}"
            )
        else:
            continue
        spoilt.append(SpoiltFrame(index, reason))
    allowed = int(scan.projections_lost_frac_max * signal.size)
    if len(spoilt) > allowed:
        listed = "; ".join(f"frame {s.index} {s.reason}" for s in spoilt[:LISTED])
        raise FramesLostError(
            f"{path}: {len(spoilt)} of {np.size(signal)} projections are spoilt"
            f" ({listed}); at most {allowed} may be left out"
            " (projections_lost_frac_max): retake"
        )
    return tuple(spoilt)


def _neighbourhood(
    signal: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the median of each frame's neighbours and what they differ from it."""
    index = np.arange(signal.size)[:, None] + NEIGHBOURS
    last = signal.size - 1
    # At the ends, the nearest frames instead of those that are not there.
    index = np.where(index < 0, np.abs(index) + 2, index)
    index = np.where(index > last, 2 * last - index - 2, index)
    near = signal[np.clip(index, 0, last)]
    expected = np.median(near, axis=1)
    spread = np.median(np.abs(near - expected[:, None]), axis=1)
    return expected, spread
