"""The ramp filter of filtered back-projection, its windows, and angular weights."""

import numpy as np
from numpy.typing import NDArray

WINDOWS = ("ramp", "shepp-logan", "cosine", "hann", "parzen")

MAX_GAP_RATIO = 3.0
"""A gap between angles wider than this many typical ones is a missing wedge."""


def ramp_filter(length: int) -> NDArray[np.float64]:
    """Return the band-limited ramp filter, sampled over the FFT's frequencies.

    It is the transform of the kernel h(0) = 1/4, h(odd i) = -1/(pi i)^2, h(even i) = 0
    and not the sampled modulus of the frequency: that one sets the mean of every
    filtered projection to zero, which shows as an offset and as cupping.

    Parameters
    ----------
    length : int
        Number of samples of the padded projection, even.

    Returns
    -------
    ndarray, shape (length,), float64
        In cycles per pixel, in the order of ``scipy.fft.fftfreq``.

    References
    ----------
    A. C. Kak and M. Slaney, Principles of Computerized Tomographic Imaging,
    SIAM 2001, chapter 3, doi:10.1137/1.9780898719277
    """
    if length < 2 or length % 2:
        raise ValueError(f"length of the filter is {length}; it must be even, from 2")
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = np.arange(1, length // 2 + 1, 2)
    kernel[odd] = -1.0 / (np.pi * odd) ** 2
    kernel[-odd] = kernel[odd]
    return np.fft.fft(kernel).real


def window(length: int, name: str) -> NDArray[np.float64]:
    """Return the apodisation that multiplies the ramp filter.

    Parameters
    ----------
    length : int
        Number of samples, as in `ramp_filter`.
    name : str
        One of `WINDOWS`; ``"ramp"`` is 1 everywhere. The others lower noise and
        widen edges: ``parzen`` makes a gap of 3.0 px 3.4 px wide.

    Returns
    -------
    ndarray, shape (length,), float64
        1 at frequency zero.
    """
    frequency = np.abs(np.fft.fftfreq(length))
    if name == "ramp":
        return np.ones(length)
    if name == "shepp-logan":
        return np.sinc(frequency)
    if name == "cosine":
        return np.cos(np.pi * frequency)
    if name == "hann":
        return 0.5 * (1 + np.cos(2 * np.pi * frequency))
    if name == "parzen":
        relative = 2 * frequency
        return np.where(
            relative <= 0.5,
            1 - 6 * relative**2 * (1 - relative),
            2 * (1 - relative) ** 3,
        )
    raise ValueError(f"window is {name!r}; it must be one of {', '.join(WINDOWS)}")


def angle_weights(angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the half turn that each projection stands for.

    Half the way to either neighbour, modulo 180 degrees: angles may start anywhere,
    come in any order, be uneven, hold both 0 and 180 or turn full circle. Past a gap
    of more than `MAX_GAP_RATIO` typical ones the data are taken as missing and not
    made up by the projections beside it.

    Parameters
    ----------
    angles_deg : ndarray, shape (angle,)
        Angle of each projection in degrees.

    Returns
    -------
    ndarray, shape (angle,), float64
        In radians; their sum is pi where no wedge is missing.
    """
    number = len(angles_deg)
    if number < 2:
        return np.full(number, np.pi)
    folded = np.mod(np.asarray(angles_deg, np.float64), 180.0)
    order = np.argsort(folded, kind="stable")
    ascending = folded[order]
    gaps = np.diff(ascending, append=ascending[0] + 180.0)
    # Repeated angles (0 and 180, a full turn) leave gaps of nearly nothing: the
    # typical gap is that of the angles that differ.
    typical = np.median(gaps[gaps > 0.5 * 180.0 / number]) if number > 2 else 90.0
    gaps = np.minimum(gaps, MAX_GAP_RATIO * typical)
    weights = np.empty(number)
    weights[order] = np.deg2rad(0.5 * (gaps + np.roll(gaps, 1)))
    return weights
