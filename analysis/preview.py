"""Three orthogonal slices of a scan, while it runs.

Frames are binned to a few hundred columns and filtered as they arrive; a slice
through the axis of rotation then needs one line of each frame, so that the three
planes are back-projected directly in a second or two, at any time.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from analysis.binning import binned, binned_column
from analysis.filters import angle_weights, ramp_filter, window

MAX_COLUMNS, MIN_COLUMNS = 640, 64
UNSEEN_PX = 0.25
"""Of the binned frames: so far off, a preview need not be drawn anew."""

SHOWN_QUANTILES = (0.005, 0.995)
SCALE_BARS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class OrthogonalSlices:
    """Three planes that meet on the axis of rotation.

    Attributes
    ----------
    xy : ndarray, shape (y, x)
        Across the axis, at the middle row.
    xz, yz : ndarray, shape (z, x), (z, y)
        Along the axis, across the beam at angle 0 and along it.
    voxel_size_um : float
        After binning.
    """

    xy: NDArray[np.float32]
    xz: NDArray[np.float32]
    yz: NDArray[np.float32]
    voxel_size_um: float


class PreviewStack:
    """Keeps binned, filtered frames and back-projects three planes from them.

    Parameters
    ----------
    num_angles, height_px, width_px : int
        Frames, rows and columns before binning.
    pixel_size_um : float
        Before binning.
    memory_limit_bytes : int, optional
        Frames are binned further where they would take more.
    """

    def __init__(
        self,
        num_angles: int,
        height_px: int,
        width_px: int,
        pixel_size_um: float,
        *,
        memory_limit_bytes: int | None = None,
    ) -> None:
        self.binning = max(1, -(-width_px // MAX_COLUMNS))
        if memory_limit_bytes is not None:
            pixels = 2 * num_angles * height_px * width_px
            fitting = int(np.ceil(np.sqrt(pixels / max(memory_limit_bytes, 1))))
            coarsest = max(min(height_px, width_px // MIN_COLUMNS), 1)
            self.binning = max(self.binning, min(fitting, coarsest))
        self._height = max(height_px // self.binning, 1)
        self._width = max(width_px // self.binning, 1)
        self._pixel_size_um = pixel_size_um * self.binning
        self._filtered = np.zeros((num_angles, self._height, self._width), np.int16)
        self._scale = np.zeros(num_angles, np.float32)
        self._drawn: _Drawn | None = None
        self._padded = 2 * self._width
        response = ramp_filter(self._padded) * window(self._padded, "hann")
        self._response = response[: self._padded // 2 + 1].astype(np.float32)

    def put(self, index: int, attenuation: NDArray[np.float32]) -> None:
        """Take in frame `index`, shape (y, x)."""
        small = binned(attenuation, self.binning)
        spectrum = np.asarray(scipy.fft.rfft(small, self._padded, axis=1))
        spectrum *= self._response
        filtered = np.asarray(scipy.fft.irfft(spectrum, self._padded, axis=1))
        filtered = filtered[:, : self._width]
        scale = max(float(np.abs(filtered).max()) / 32767, 1e-30)
        self._filtered[index] = np.rint(filtered / scale)
        self._scale[index] = scale

    @property
    def number(self) -> int:
        """How many frames are in."""
        return int((self._scale > 0).sum())

    def slices(
        self, angles_deg: NDArray[np.float64], rotation_axis_px: float
    ) -> OrthogonalSlices:
        """Back-project the three planes from the frames that are in.

        Frames that an earlier look has summed up are not summed up again, unless the
        axis or the angles have changed by more than `UNSEEN_PX` since.

        Parameters
        ----------
        angles_deg : ndarray, shape (angle,)
            Of all frames, also of those to come.
        rotation_axis_px : float
            Column before binning.
        """
        axis = binned_column(rotation_axis_px, self.binning)
        angles = np.asarray(angles_deg, np.float64)
        drawn = self._drawn
        if drawn is None or not drawn.stands_for(angles, axis):
            drawn = self._drawn = _Drawn(angles, axis, self._height, self._width)
        new = (self._scale > 0) & ~drawn.frames
        weights = np.where(new, angle_weights(drawn.angles_deg) * self._scale, 0)
        weights = (weights / self.binning).astype(np.float32)
        radians = np.deg2rad(drawn.angles_deg)
        cos, sin = np.cos(radians), np.sin(radians)
        threads = len(os.sched_getaffinity(0))
        parts = np.linspace(0, 1, threads + 1)

        def part_of(index: int) -> None:
            rows = (parts[index : index + 2] * self._height).astype(int)
            lines = (parts[index : index + 2] * self._width).astype(int)
            _back_project(
                self._filtered,
                weights,
                cos,
                sin,
                drawn.axis_px,
                *drawn.planes,
                *rows,
                *lines,
            )

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(part_of, range(threads)):
                pass
        drawn.frames |= new
        xy, xz, yz = (plane.copy() for plane in drawn.planes)
        return OrthogonalSlices(xy, xz, yz, self._pixel_size_um)


class _Drawn:
    """Planes as far as they are summed up: a later look adds the frames since."""

    def __init__(
        self, angles_deg: NDArray[np.float64], axis_px: float, height: int, width: int
    ) -> None:
        self.angles_deg, self.axis_px = angles_deg, axis_px
        self.frames = np.zeros(len(angles_deg), bool)
        self._radius = width / 2
        self.planes = (
            np.zeros((width, width), np.float32),
            np.zeros((height, width), np.float32),
            np.zeros((height, width), np.float32),
        )

    def stands_for(self, angles_deg: NDArray[np.float64], axis_px: float) -> bool:
        """Whether another geometry would move nothing that can be seen."""
        turned = np.deg2rad(np.abs(angles_deg - self.angles_deg).max()) * self._radius
        return max(abs(axis_px - self.axis_px), turned) <= UNSEEN_PX


def write_slices(slices: OrthogonalSlices, directory: Path, name: str) -> list[Path]:
    """Draw the planes as PNG with one grey scale and a scale bar; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    planes = {"xy": slices.xy, "xz": slices.xz, "yz": slices.yz}
    values = np.concatenate([plane.ravel() for plane in planes.values()])
    low, high = np.quantile(values, SHOWN_QUANTILES)
    files = []
    for plane_name, plane in planes.items():
        grey = (plane - low) / max(high - low, 1e-30) * 255
        image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
        _draw_scale_bar(image, slices.voxel_size_um)
        file = directory / f"{name}_{plane_name}.png"
        # Whoever looks at the picture never sees half of it.
        draft = file.with_suffix(".tmp")
        image.save(draft, format="PNG")
        draft.replace(file)
        files.append(file)
    return files


def _draw_scale_bar(image: Image.Image, voxel_size_um: float) -> None:
    width, height = image.size
    fitting = [um for um in SCALE_BARS_UM if um / voxel_size_um <= width / 3]
    length_um = fitting[-1] if fitting else SCALE_BARS_UM[0]
    length = round(length_um / voxel_size_um)
    draw = ImageDraw.Draw(image)
    left, bottom = max(width // 40, 3), height - max(height // 40, 3)
    thick = max(height // 120, 2)
    draw.rectangle((left, bottom - thick, left + length, bottom), fill=255, outline=0)
    draw.text(
        (left, bottom - thick - 14),
        f"{length_um} um",
        fill=255,
        stroke_width=1,
        stroke_fill=0,
    )


@njit(cache=True, nogil=True, fastmath=True)
def _line(row, weight, step, start, out):
    """Add a filtered row, seen at columns start + step * place, to a line."""
    last = len(row) - 1
    for i in range(len(out)):
        place = start + step * (i - len(out) // 2)
        if 0 <= place < last:
            low = int(place)
            part = np.float32(place - low)
            here = np.float32(row[low])
            out[i] += weight * (here + part * (np.float32(row[low + 1]) - here))


@njit(cache=True, nogil=True, fastmath=True)
def _back_project(
    filtered, weights, cos, sin, axis, xy, xz, yz, row0, row1, line0, line1
):
    """Add rows row0 to row1 of the upright planes, line0 to line1 of the flat one."""
    middle = filtered.shape[1] // 2
    for a in range(len(weights)):
        if weights[a] == 0:
            continue
        for z in range(row0, row1):
            row = filtered[a, z]
            _line(row, weights[a], cos[a], axis, xz[z])
            _line(row, weights[a], sin[a], axis, yz[z])
        row = filtered[a, middle]
        for y in range(line0, line1):
            at = axis + (y - len(xy) // 2) * sin[a]
            _line(row, weights[a], cos[a], at, xy[y])
