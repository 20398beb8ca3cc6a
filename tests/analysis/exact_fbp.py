"""An independent oracle: slow, exact filtered back-projection in float64.

Nothing here is shared with the engine under test: analytic projections of ellipses,
the ramp by its kernel, band-limited interpolation, direct back-projection.
"""

import numpy as np
from numba import njit

# x0, y0, half axis, half axis, turn (rad), grey; as fractions of the half width
ELLIPSES = (
    (0.01, -0.02, 0.88, 0.86, 0.0, 1.0),
    (0.25, 0.27, 0.17, 0.12, 0.5, 0.5),
    (-0.33, 0.2, 0.14, 0.2, -0.3, -0.3),
    (-0.23, -0.35, 0.1, 0.1, 0.0, 0.8),
    (0.4, -0.23, 0.05, 0.05, 0.0, -1.0),
    (0.0, 0.66, 0.04, 0.025, 1.0, -1.0),
    (0.05, 0.0, 0.012, 0.4, 0.35, -1.0),
)


def phantom_sinogram(width, angles_deg, axis_px, scale=0.01, ellipses=ELLIPSES):
    """Return line integrals, averaged over each pixel, of the phantom."""
    half = width / 2
    edges = np.arange(width + 1) - 0.5 - axis_px
    angles = np.deg2rad(np.asarray(angles_deg, float))[:, None]
    total = np.zeros((len(angles), width + 1))
    for x0, y0, a, b, turn, grey in ellipses:
        x0, y0, a, b = x0 * half, y0 * half, a * half, b * half
        reach = np.hypot(a * np.cos(angles - turn), b * np.sin(angles - turn))
        t = edges - (x0 * np.cos(angles) + y0 * np.sin(angles))
        u = np.clip(t / reach, -1, 1)
        total += grey * a * b * (u * np.sqrt(1 - u * u) + np.arcsin(u))
    return (scale * np.diff(total, axis=1)).astype(np.float32)


def phantom_slice(width, scale=0.01, supersampling=4, ellipses=ELLIPSES):
    """Return the phantom itself, axis at pixel (width // 2, width // 2), y down."""
    half = width / 2
    fine = (np.arange(width * supersampling) + 0.5) / supersampling - 0.5 - width // 2
    x, y = fine[None, :], fine[:, None]
    image = np.zeros((width * supersampling,) * 2, np.float32)
    for x0, y0, a, b, turn, grey in ellipses:
        dx, dy = x - x0 * half, y - y0 * half
        u = dx * np.cos(turn) + dy * np.sin(turn)
        v = -dx * np.sin(turn) + dy * np.cos(turn)
        image[(u / (a * half)) ** 2 + (v / (b * half)) ** 2 <= 1] += grey
    blocks = image.reshape(width, supersampling, width, supersampling)
    return (scale * blocks.mean(axis=(1, 3))).astype(np.float32)


def exact_fbp(sinogram, angles_deg, axis_px, size=None, window=None, upsampling=16):
    """Reconstruct one slice: (angle, x) to (size, size), float64."""
    num_angles, width = sinogram.shape
    size = size or width
    padded = 2 ** int(np.ceil(np.log2(4 * width)))
    kernel = np.zeros(padded)
    kernel[0] = 0.25
    odd = np.arange(1, padded // 2, 2)
    kernel[odd] = kernel[-odd] = -1 / (np.pi * odd) ** 2
    response = np.fft.fft(kernel).real
    if window is not None:
        response = response * window(np.abs(np.fft.fftfreq(padded)))
    spectrum = np.fft.fft(sinogram.astype(float), padded, axis=1) * response
    fine = np.zeros((num_angles, padded * upsampling), complex)
    fine[:, : padded // 2] = spectrum[:, : padded // 2]
    fine[:, -(padded // 2) + 1 :] = spectrum[:, -(padded // 2) + 1 :]
    filtered = np.fft.ifft(fine, axis=1).real * upsampling
    angles = np.deg2rad(np.asarray(angles_deg, float))
    image = np.zeros((size, size))
    _back_project(
        filtered, np.cos(angles), np.sin(angles), axis_px, upsampling, width, image
    )
    return image * np.pi / num_angles


@njit
def _back_project(filtered, cos, sin, axis_px, upsampling, width, image):
    size = len(image)
    length = filtered.shape[1]
    for a in range(len(cos)):
        for row in range(size):
            for col in range(size):
                x = col - size // 2
                y = row - size // 2
                t = axis_px + x * cos[a] + y * sin[a]
                # The filtered projection goes on beyond the detector; the padded
                # period holds it, negative places at its end.
                place = (t * upsampling) % length
                low = int(place)
                part = place - low
                image[row, col] += (1 - part) * filtered[a, low] + part * filtered[
                    a, (low + 1) % length
                ]
