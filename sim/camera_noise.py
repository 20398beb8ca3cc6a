"""What the sensor makes of light: counts with noise, the same for the same seed."""

import numpy as np
from numba import njit, uint64


@njit(cache=True, nogil=True)
def _mix(state: np.uint64) -> np.uint64:
    """Return a well mixed 64-bit number (SplitMix64)."""
    z = state
    z = (z ^ (z >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> uint64(27))) * uint64(0x94D049BB133111EB)
    return z ^ (z >> uint64(31))


@njit(cache=True, nogil=True)
def _poisson(mean: float, state: np.uint64) -> tuple[float, np.uint64]:
    """Draw a small Poisson number by inversion."""
    state = state + uint64(0x9E3779B97F4A7C15)
    u = (_mix(state) >> uint64(11)) * 1.1102230246251565e-16
    term = np.exp(-mean)
    total = term
    number = 0
    while u > total and number < 200:
        number += 1
        term *= mean / number
        total += term
    return float(number), state


@njit(cache=True, nogil=True)
def expose(
    electrons: np.ndarray,
    pixel_gain: np.ndarray,
    dark_e: np.ndarray,
    read_noise_e: float,
    electrons_per_count: float,
    offset_counts: float,
    shot_noise: bool,
    seed: int,
    frame_index: int,
) -> np.ndarray:
    """Return one frame of counts.

    Parameters
    ----------
    electrons : numpy.ndarray
        (rows, columns) float32 electrons that light frees in a perfect pixel.
    pixel_gain : numpy.ndarray
        (rows, columns) float32 response of each pixel.
    dark_e : numpy.ndarray
        (rows, columns) float32 electrons of the dark current.
    read_noise_e : float
        Standard deviation of the read noise.
    electrons_per_count : float
        Conversion.
    offset_counts : float
        Counts of a pixel without any electron.
    shot_noise : bool
        Whether the number of electrons is a Poisson number.
    seed, frame_index : int
        The same pair gives the same frame.

    Returns
    -------
    numpy.ndarray
        (rows, columns) uint16, saturated at 65535.

    Notes
    -----
    Above 40 electrons the Poisson number is drawn as a normal one with its mean and
    variance; the third moment it lacks is below the read noise.
    """
    rows, columns = electrons.shape
    counts = np.empty((rows, columns), np.uint16)
    per_electron = 1.0 / electrons_per_count
    read2 = read_noise_e * read_noise_e
    base = _mix(uint64(seed) * uint64(0xD1342543DE82EF95) + uint64(frame_index))
    for r in range(rows):
        state = _mix(base + uint64(r) * uint64(0x9E3779B97F4A7C15))
        spare = 0.0
        has_spare = False
        for c in range(columns):
            mean = electrons[r, c] * pixel_gain[r, c] + dark_e[r, c]
            number = mean
            variance = read2
            if shot_noise:
                if mean > 40.0:
                    variance += mean
                elif mean > 0.0:
                    number, state = _poisson(mean, state)
            if variance > 0.0:
                if has_spare:
                    normal = spare
                    has_spare = False
                else:
                    state = state + uint64(0x9E3779B97F4A7C15)
                    first = _mix(state)
                    u = ((first >> uint64(32)) + 0.5) * 2.3283064365386963e-10
                    v = (first & uint64(0xFFFFFFFF)) * 1.4629180792671596e-9
                    radius = np.sqrt(-2.0 * np.log(u))
                    normal = radius * np.cos(v)
                    spare = radius * np.sin(v)
                    has_spare = True
                number += np.sqrt(variance) * normal
            level = offset_counts + number * per_electron + 0.5
            if level < 0.0:
                level = 0.0
            elif level > 65535.0:
                level = 65535.0
            counts[r, c] = np.uint16(level)
    return counts
