"""From counts to attenuation: flat and dark correction with -log, repaired pixels.

A frame becomes ``-log((frame - dark) / (flat - dark))`` in one pass. Pixels that
cannot tell are found once from darks and flats and interpolated in every frame;
what had to be clamped is counted.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from analysis.errors import DataError

DEAD_SIGNAL_FRAC = 0.02
"""A flat below this fraction of the typical one leaves no signal to divide by."""

HOT_DARK_FRAC = 0.1
"""A dark above its neighbours by this fraction of the flat is a hot pixel."""

MAX_BAD_FRAC = 0.2
"""More bad pixels than this are no detector's defects but wrong darks or flats."""


class FrameAverage:
    """Averages frames as they arrive, the lowest and highest value of a pixel left out.

    One zinger or one dropped frame among five or more leaves no trace.

    Parameters
    ----------
    name : str
        What is averaged, for error messages: ``"darks"`` or ``"flats"``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self._sum: NDArray[np.float32] | None = None
        self._lowest: NDArray[np.float32] | None = None
        self._highest: NDArray[np.float32] | None = None

    def add(self, frames: NDArray[Any]) -> None:
        """Take in frames of shape (frame, y, x)."""
        if frames.ndim != 3:
            raise DataError(
                f"{self.name} have shape {frames.shape}; they must be (frame, y, x)"
            )
        for frame in frames:
            values = frame.astype(np.float32)
            if self._sum is None or self._lowest is None or self._highest is None:
                self._sum = values.copy()
                self._lowest = values.copy()
                self._highest = values
            elif values.shape != self._sum.shape:
                raise DataError(
                    f"{self.name} are {values.shape} and {self._sum.shape} (y, x); "
                    "all must agree"
                )
            else:
                self._sum += values
                np.minimum(self._lowest, values, out=self._lowest)
                np.maximum(self._highest, values, out=self._highest)
            self.number += 1

    def mean(self) -> NDArray[np.float32]:
        """Return the average, shape (y, x)."""
        if self._sum is None or self._lowest is None or self._highest is None:
            raise DataError(f"no {self.name}; at least one frame of them is needed")
        if self.number < 5:
            return self._sum / np.float32(self.number)
        trimmed = self._sum - self._lowest - self._highest
        return trimmed / np.float32(self.number - 2)

    def let_go(self) -> None:
        """Give back the memory; how many frames there were stays known."""
        self._sum = self._lowest = self._highest = None


@dataclass(frozen=True)
class PixelCounts:
    """How many pixels were not as they should be.

    Attributes
    ----------
    dead, hot : int
        Pixels of the detector without signal, or bright in the dark; each is
        interpolated in every frame.
    clamped : int
        Values, over all frames, whose transmission was raised to the least allowed.
    non_finite : int
        Values, over all frames, that were no numbers and were interpolated.
    zingers : int
        Values, over all frames, that a stray photon had hit and were interpolated.
    """

    dead: int
    hot: int
    clamped: int = 0
    non_finite: int = 0
    zingers: int = 0


class FlatField:
    """Turns frames into attenuation with one dark and one flat.

    Parameters
    ----------
    dark, flat : ndarray, shape (y, x)
        Averages in counts, see `FrameAverage`.
    min_transmission : float
        Transmissions below it are clamped before the logarithm.
    source : str
        File or dataset that an error names.

    Raises
    ------
    DataError
        The flat is not above its dark in more than `MAX_BAD_FRAC` of the pixels.
    """

    def __init__(
        self,
        dark: NDArray[np.float32],
        flat: NDArray[np.float32],
        *,
        min_transmission: float = 1e-3,
        source: str = "darks and flats",
    ) -> None:
        if dark.shape != flat.shape or dark.ndim != 2:
            raise DataError(
                f"{source}: darks are {dark.shape} and flats {flat.shape} (y, x); "
                "both must be frames of one camera setting"
            )
        signal = flat - dark
        finite = np.isfinite(signal)
        typical = float(np.median(signal[finite])) if finite.any() else 0.0
        if not typical > 0:
            raise DataError(
                f"{source}: flats are not above darks (median of their difference is "
                f"{typical:g} counts); check that the shutter was open for the flats "
                "and closed for the darks"
            )
        dead = ~(signal > max(DEAD_SIGNAL_FRAC * typical, 0.0))
        calm = np.where(np.isfinite(dark), dark, 0.0)
        hot = calm - ndimage.median_filter(calm, 5) > HOT_DARK_FRAC * typical
        hot &= ~dead
        bad = dead | hot
        if bad.mean() > MAX_BAD_FRAC:
            raise DataError(
                f"{source}: {bad.mean():.0%} of the pixels have a flat not above "
                f"their dark (allowed {MAX_BAD_FRAC:.0%}); darks and flats do not "
                "belong together or the beam does not fill the frame: set rows"
            )
        self.shape: tuple[int, int] = (int(dark.shape[0]), int(dark.shape[1]))
        self.dead = int(dead.sum())
        self.hot = int(hot.sum())
        self._dark = np.where(bad, 0, dark).astype(np.float32)
        self._gain = np.where(bad, 0, 1 / np.where(bad, 1, signal)).astype(np.float32)
        self._min_transmission = np.float32(min_transmission)
        self._repair = neighbours_of(bad)

    def attenuation(
        self, frame: NDArray[Any], out: NDArray[np.float32]
    ) -> tuple[int, int]:
        """Write the attenuation of one frame.

        Parameters
        ----------
        frame : ndarray, shape (y, x)
            Counts.
        out : ndarray, shape (y, x), float32
            Attenuation, dimensionless; finite everywhere.

        Returns
        -------
        tuple[int, int]
            Number of clamped and of non-finite values.
        """
        if frame.shape != self.shape:
            raise DataError(
                f"a projection is {frame.shape}, darks and flats are {self.shape} "
                "(y, x); all must be frames of one camera setting"
            )
        non_finite = 0
        repair = self._repair
        if not np.issubdtype(frame.dtype, np.integer):
            wrong = ~np.isfinite(frame)
            non_finite = int(wrong.sum())
            if non_finite == frame.size:
                raise DataError("a projection holds no finite value")
            if non_finite:
                wrong |= self._gain == 0
                repair = neighbours_of(wrong)
                frame = np.where(wrong, self._dark, frame)
        clamped = _attenuate(frame, self._dark, self._gain, self._min_transmission, out)
        clamped -= non_finite
        _interpolate(out, *repair)
        return clamped, non_finite


def neighbours_of(
    bad: NDArray[np.bool_],
) -> tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]
]:
    """Return for each bad pixel two good ones to interpolate between.

    Left and right neighbour in the row where both exist, else the nearest good pixel
    anywhere, as for a dead row.

    Parameters
    ----------
    bad : ndarray, shape (y, x), bool

    Returns
    -------
    place, first, second : ndarray of int64
        Flat indices of the bad pixels and of their good neighbours.
    share : ndarray of float32
        Weight of the second.
    """
    rows, columns = np.nonzero(bad)
    width = bad.shape[1]
    place = np.ravel_multi_index((rows, columns), bad.shape).astype(np.int64)
    if len(place) == 0:
        return place, place, place, np.empty(0, np.float32)
    good = np.flatnonzero(~bad)
    after = np.searchsorted(good, place)
    left = good[np.clip(after - 1, 0, None)]
    right = good[np.clip(after, None, len(good) - 1)]
    both = (left // width == rows) & (right // width == rows) & (left < right)
    nearest = np.asarray(
        ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    )
    alone = nearest[0, rows, columns] * width + nearest[1, rows, columns]
    first = np.where(both, left, alone).astype(np.int64)
    second = np.where(both, right, alone).astype(np.int64)
    span = np.where(both, right - left, 1)
    share = np.where(both, (place - left) / span, 0.0).astype(np.float32)
    return place, first, second, share


@njit(cache=True, nogil=True)
def _interpolate(frame, place, first, second, share):
    values = frame.ravel()
    for i in range(len(place)):
        low = values[first[i]]
        values[place[i]] = low + share[i] * (values[second[i]] - low)


@njit(cache=True, nogil=True, fastmath=True)
def _attenuate(frame, dark, gain, min_transmission, out):
    """Write -log of the transmission; count what was clamped."""
    height, width = frame.shape
    line = np.empty(width, np.float32)
    bits = line.view(np.int32)
    one = np.float32(1)
    clamped = 0
    for y in range(height):
        counts = frame[y]
        below = dark[y]
        scale = gain[y]
        row = out[y]
        for x in range(width):
            value = (np.float32(counts[x]) - below[x]) * scale[x]
            low = value < min_transmission
            clamped += low & (scale[x] > 0)
            line[x] = min_transmission if low else value
        for x in range(width):
            # value = mantissa * 2^exponent with the mantissa in [1/sqrt 2, sqrt 2);
            # log(mantissa) = 2 artanh(s), s = (mantissa - 1) / (mantissa + 1), whose
            # series ends below 1e-9 after s^9.
            raw = bits[x]
            exponent = (raw - 0x3F3504F3) >> 23
            bits[x] = raw - (exponent << 23)
            s = (line[x] - one) / (line[x] + one)
            q = s * s
            series = one + q * (
                np.float32(1 / 3)
                + q
                * (np.float32(1 / 5) + q * (np.float32(1 / 7) + q * np.float32(1 / 9)))
            )
            row[x] = -(
                np.float32(2) * s * series
                + np.float32(exponent) * np.float32(np.log(2))
            )
    return clamped


def remove_air_background(
    attenuation: NDArray[np.float32], columns: int, tolerance: float
) -> bool:
    """Take the beam's fluctuation out of one frame, by the air on both sides.

    The mean attenuation of the outer columns on the left and on the right should be
    zero; a straight line through both is subtracted from every row.

    Parameters
    ----------
    attenuation : ndarray, shape (y, x), float32
        One frame; changed in place.
    columns : int
        Width of each strip in pixels; 0 does nothing.
    tolerance : float
        A strip of greater attenuation holds no air, and the frame stays as it is.

    Returns
    -------
    bool
        Whether the frame was corrected.
    """
    width = attenuation.shape[1]
    if columns < 1 or 4 * columns > width:
        return False
    left = float(attenuation[:, :columns].mean())
    right = float(attenuation[:, -columns:].mean())
    if not (abs(left) <= tolerance and abs(right) <= tolerance):
        return False
    at_left = (columns - 1) / 2
    at_right = width - 1 - at_left
    slope = (right - left) / (at_right - at_left)
    line = left + slope * (np.arange(width) - at_left)
    attenuation -= line.astype(np.float32)
    return True
