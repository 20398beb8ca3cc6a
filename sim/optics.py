"""The beam, the scintillator with its lens, and the sensor's lasting flaws."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from sim.camera_settings import CameraSettings

_STREAM = 0xBEA3
# Pixels of the sensor that the rate of zingers is given for.
_FULL_SENSOR = 2560 * 2160


@dataclass(frozen=True)
class Sensor:
    """Lasting differences between pixels, each (rows, columns) float32.

    Attributes
    ----------
    gain : numpy.ndarray
        Response to light; 0 for a dead pixel.
    dark_rate_e_per_s : numpy.ndarray
        Dark current.
    flickering : numpy.ndarray
        (n,) flat indices of pixels whose gain jumps.
    """

    gain: np.ndarray
    dark_rate_e_per_s: np.ndarray
    flickering: np.ndarray


def make_sensor(camera: CameraSettings, seed: int) -> Sensor:
    """Return a sensor whose flaws follow from the seed."""
    rng = np.random.default_rng([seed, _STREAM, 1])
    shape = (camera.num_rows, camera.num_columns)
    gain = np.ones(shape, dtype=np.float32)
    dark = np.full(shape, camera.dark_rate_e_per_s, dtype=np.float32)
    flaw = rng.random(shape, dtype=np.float32)
    odd = flaw < camera.imperfect_pixels_fraction
    gain[odd] = 1 + 0.08 * rng.standard_normal(int(odd.sum()))
    flaw = rng.random(shape, dtype=np.float32)
    gain[flaw < camera.dead_pixels_fraction] = 0
    hot = flaw > 1 - camera.hot_pixels_fraction
    dark[hot] += 0.3 * camera.flat_counts_per_s * camera.electrons_per_count
    flickers = rng.random(shape, dtype=np.float32) < camera.flickering_pixels_fraction
    return Sensor(gain, dark, np.flatnonzero(flickers))


def disturb(
    electrons: np.ndarray, sensor: Sensor, camera: CameraSettings, frame_seed: list[int]
) -> None:
    """Let pixels flicker and stray X-rays hit the sensor, in place.

    Parameters
    ----------
    electrons : numpy.ndarray
        (rows, columns) float32.
    sensor, camera
        The camera.
    frame_seed : list[int]
        Numbers that belong to the frame alone.
    """
    rng = np.random.default_rng(frame_seed)
    jumps = rng.random(len(sensor.flickering)) < 0.5
    electrons.ravel()[sensor.flickering[jumps]] *= 0.85
    mean = camera.zingers_per_frame * electrons.size / _FULL_SENSOR
    full_e = 65535 * camera.electrons_per_count
    for _ in range(rng.poisson(mean)):
        r, c = rng.integers(electrons.shape[0]), rng.integers(electrons.shape[1])
        size = rng.integers(1, 3)
        electrons[r : r + size, c : c + size] += full_e * rng.uniform(0.3, 2.0)


class Beam:
    """The intensity over the detector without a sample.

    A broad profile with the stripes of the optics moves slowly over the fixed marks
    of the scintillator.

    Parameters
    ----------
    camera : CameraSettings
        Size and amplitudes.
    seed : int
        Seed of stripes and marks.
    """

    # Rows added above and below, over which the drifting pattern wraps.
    _MARGIN = 16

    def __init__(self, camera: CameraSettings, seed: int) -> None:
        rng = np.random.default_rng([seed, _STREAM, 2])
        rows, columns = camera.num_rows, camera.num_columns
        self._camera = camera
        tall = rows + 2 * self._MARGIN
        height = (np.arange(tall) - tall / 2)[:, None] / rows
        across = (np.arange(columns) - columns / 2) / columns
        spread = camera.beam_width_fraction
        profile = np.exp(-0.5 * (height**2 + across**2) / spread**2)
        stripes = gaussian_filter(
            rng.standard_normal((tall, columns)), (1.5, columns / 6), mode="wrap"
        )
        stripes /= max(float(stripes.std()), 1e-12)
        self._pattern = (profile * (1 + 0.5 * camera.beam_structure * stripes)).astype(
            np.float32
        )
        marks = gaussian_filter(rng.standard_normal((rows, columns)), 2.0)
        marks /= max(float(marks.std()), 1e-12)
        # Only the strongest specks are marks; the rest of the screen is even.
        specks = np.clip(marks - 2.5, 0, None)
        self._marks = (1 - camera.beam_structure * specks.clip(0, 2)).astype(np.float32)

    def intensity(self, time_s: float) -> np.ndarray:
        """Return the relative intensity, (rows, columns) float32."""
        camera = self._camera
        drift = camera.beam_drift_px_per_h * time_s / 3600
        # A beam wanders to and fro; it does not leave.
        drift = self._MARGIN * 0.9 * np.sin(drift / (self._MARGIN * 0.9))
        start = self._MARGIN + drift
        whole = int(np.floor(start))
        part = np.float32(start - whole)
        rows = camera.num_rows
        low = self._pattern[whole : whole + rows]
        high = self._pattern[whole + 1 : whole + 1 + rows]
        return (low + part * (high - low)) * self._marks


def blur_kernel(blur_px: float) -> np.ndarray:
    """Return a normalised Gaussian of odd length, float32."""
    if blur_px <= 0:
        return np.ones(1, dtype=np.float32)
    half = int(np.ceil(4 * blur_px))
    x = np.arange(-half, half + 1)
    kernel = np.exp(-0.5 * (x / blur_px) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


@njit(cache=True, nogil=True, fastmath=True)
def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve rows and columns with a kernel; edges are repeated outwards."""
    rows, columns = image.shape
    half = len(kernel) // 2
    if half == 0:
        return image
    tall = np.zeros((rows, columns), np.float32)
    for r in range(rows):
        target = tall[r]
        for k in range(len(kernel)):
            source = image[min(max(r + k - half, 0), rows - 1)]
            weight = kernel[k]
            for c in range(columns):
                target[c] += weight * source[c]
    out = np.zeros((rows, columns), np.float32)
    padded = np.empty(columns + 2 * half, np.float32)
    for r in range(rows):
        padded[:half] = tall[r, 0]
        padded[half : half + columns] = tall[r]
        padded[half + columns :] = tall[r, columns - 1]
        target = out[r]
        for k in range(len(kernel)):
            weight = kernel[k]
            for c in range(columns):
                target[c] += weight * padded[c + k]
    return out
