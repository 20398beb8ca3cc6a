"""Phase retrieval from one distance, for a sample of one material.

Behind a weakly absorbing sample fringes stand along every edge. If the sample is one
material, whose delta and beta stand in a fixed ratio, a low-pass filter turns a frame
with fringes into the frame that stands directly behind the sample: noise falls with
the fringes, and so does what is finer than them.

References
----------
D. Paganin et al., J. Microsc. 206 (2002) 33, doi:10.1046/j.1365-2818.2002.01010.x
"""

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from analysis.settings import PhaseSettings

PLANCK_LIGHT_KEV_UM = 1.2398419843320026e-3
"""Wavelength in micrometres times photon energy in keV."""

MARGIN_LENGTHS = 8
"""A frame is carried on by its mirror image over so many lengths of the filter, or its
opposite sides would be joined."""


class PhaseRetrieval:
    """Filters frames of one shape.

    Parameters
    ----------
    settings : PhaseSettings
    shape : tuple[int, int]
        Rows and columns.
    pixel_size_um : float
        At the sample.
    """

    def __init__(
        self, settings: PhaseSettings, shape: tuple[int, int], pixel_size_um: float
    ) -> None:
        wavelength_um = PLANCK_LIGHT_KEV_UM / settings.energy_kev
        distance_um = 1e3 * settings.distance_mm
        self._shape = shape
        strength = np.pi * wavelength_um * distance_um * settings.delta_beta
        length_px = np.sqrt(strength) / (2 * np.pi * pixel_size_um)
        margin = int(np.ceil(MARGIN_LENGTHS * length_px)) + 8
        self._padded = tuple(
            scipy.fft.next_fast_len(length + min(margin, length), True) or length
            for length in shape
        )
        y = np.fft.fftfreq(self._padded[0], pixel_size_um)[:, None]
        x = np.fft.rfftfreq(self._padded[1], pixel_size_um)[None]
        response = 1 / (1 + strength * (y**2 + x**2))
        self._response = response.astype(np.float32)

    def __call__(self, attenuation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the attenuation directly behind the sample, shape (y, x)."""
        beyond = [
            (0, padded - length)
            for padded, length in zip(self._padded, self._shape, strict=True)
        ]
        # The mirror image of one side and then of the other: it joins without a step.
        transmission = np.pad(np.exp(-attenuation), beyond, mode="symmetric")
        for axis, (length, (_, more)) in enumerate(
            zip(self._shape, beyond, strict=True)
        ):
            _mirror_the_far_half(transmission, axis, length, more)
        spectrum = np.asarray(scipy.fft.rfft2(transmission))
        spectrum *= self._response
        filtered = np.asarray(scipy.fft.irfft2(spectrum, self._padded))
        inside = filtered[: self._shape[0], : self._shape[1]]
        return -np.log(np.maximum(inside, np.float32(1e-6)))


def _mirror_the_far_half(
    padded: NDArray[np.float32], axis: int, length: int, more: int
) -> None:
    """Let the second half of the margin mirror what the period begins with."""
    view = np.moveaxis(padded, axis, 0)
    half = more // 2
    if half:
        view[length + more - half :] = view[half - 1 :: -1][:half]
