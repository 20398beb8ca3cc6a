"""Phase fringes: the wave behind the cell travels on to the scintillator."""

import numpy as np
from scipy import fft

KEV_TIMES_NM = 1.23984198


def wavelength_um(energy_kev: float) -> float:
    """Return the wavelength of photons of an energy."""
    return KEV_TIMES_NM / energy_kev * 1e-3


def propagate(
    depth: np.ndarray,
    phase: np.ndarray,
    distance_mm: float,
    energy_kev: float,
    pixel_size_um: float,
) -> np.ndarray:
    """Return the intensity of a wave some way behind the cell.

    Parameters
    ----------
    depth : numpy.ndarray
        (rows, columns) optical depth of the cell.
    phase : numpy.ndarray
        (rows, columns) phase shift in radians, negative for matter.
    distance_mm : float
        Distance from the cell to the scintillator.
    energy_kev : float
        Photon energy.
    pixel_size_um : float
        Size of a pixel.

    Returns
    -------
    numpy.ndarray
        (rows, columns) float32 relative to the beam before the cell.

    Notes
    -----
    Fresnel propagation in reciprocal space, ``exp(-i pi lambda z f**2)``, of the
    frame continued by repeating its edges over a margin, so that one edge does not
    make fringes on the other.
    """
    wave = np.exp(np.complex64(1j) * phase.astype(np.float32) - depth / 2)
    wave = wave.astype(np.complex64)
    rows, columns = wave.shape
    tall = fft.next_fast_len(rows + 32)
    wide = fft.next_fast_len(columns + 32)
    above, left = (tall - rows) // 2, (wide - columns) // 2
    wave = np.pad(
        wave, ((above, tall - rows - above), (left, wide - columns - left)), "edge"
    )
    turn = -np.pi * wavelength_um(energy_kev) * distance_mm * 1e3
    down = np.exp(1j * turn * fft.fftfreq(tall, pixel_size_um) ** 2)
    across = np.exp(1j * turn * fft.fftfreq(wide, pixel_size_um) ** 2)
    spectrum = np.asarray(fft.fft2(wave, overwrite_x=True))
    spectrum *= down.astype(np.complex64)[:, None]
    spectrum *= across.astype(np.complex64)
    wave = np.asarray(fft.ifft2(spectrum, overwrite_x=True))
    wave = wave[above : above + rows, left : left + columns]
    return np.square(np.abs(wave))
