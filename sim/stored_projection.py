"""Line integrals of a large cell, worked out beforehand and kept in a file.

A slice's projections are the inverse transforms of lines through the middle of its
two-dimensional transform. Two slices travel through one complex transform, one as
its real part, the other as its imaginary part, and four such pairs lie side by side:
where a line runs between the points of the transform is worked out once for all.
"""

import os
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numba import njit
from scipy import fft
from scipy.special import i0

# Width of the interpolation kernel in grid points, and points of its table per point.
_TAPS = 5
_TABLE = 256
# Slices side by side, and lines taken from their transforms at once.
_SLICES = 8
_ANGLES = 128


class SliceProjector:
    """Projects slices of square voxels at many angles.

    A line integral is the mean over a detector pixel, in voxels, of the projection
    of voxels that fill their squares.

    Parameters
    ----------
    width : int
        Voxels per side of a slice, odd; the middle one lies on the axis.
    num_columns : int
        Detector pixels of the result, of a voxel's width; pixel ``num_columns // 2``
        looks at the axis. At least the width.
    angles_deg : numpy.ndarray
        (angles,) angles.

    Notes
    -----
    The grid has half as many points again as the detector, the kernel is that of
    Kaiser and Bessel five points wide: the error is below 1e-3 of the deviation of
    a slice from an intact one, which alone is projected this way.
    """

    def __init__(self, width: int, num_columns: int, angles_deg: np.ndarray) -> None:
        if num_columns < width:
            raise ValueError(
                f"num_columns is {num_columns}; it must be at least the slice's width, "
                f"{width}"
            )
        self.width = width
        self.num_columns = _even_fast_length(num_columns)
        self._grid = _even_fast_length(self.num_columns * 3 // 2)
        oversampling = self._grid / self.num_columns
        beta = np.pi * np.sqrt((_TAPS / oversampling * (oversampling - 0.5)) ** 2 - 0.8)
        reach = np.arange(_TAPS * _TABLE // 2 + 2) / (_TAPS * _TABLE / 2)
        shape = np.sqrt(np.clip(1 - reach**2, 0, None))
        self._table = (i0(beta * shape) / i0(beta)).astype(np.float32)
        self._table[reach > 1] = 0
        place = (np.arange(width) - width // 2) / self._grid
        self._flatten = (1 / _kernel_transform(place, beta)).astype(np.float32)
        angle = np.deg2rad(angles_deg)
        self._cosine, self._sine = np.cos(angle), np.sin(angle)
        frequency = np.fft.fftfreq(self.num_columns)
        self._frequency = frequency
        # A column in the middle of an even number lies half the width from the left.
        centre = np.exp(-2j * np.pi * frequency * (self.num_columns // 2))
        self._detector = (np.sinc(frequency) * centre).astype(np.complex64)
        self._voxel = np.sinc(np.linspace(0, 0.75, 3001)).astype(np.float32)

    def project(self, layers: np.ndarray) -> np.ndarray:
        """Project slices.

        Parameters
        ----------
        layers : numpy.ndarray
            (slices, width, width) float32, axes slice, y, x.

        Returns
        -------
        numpy.ndarray
            (angles, slices, num_columns) float32 line integrals in voxels.
        """
        angles = len(self._cosine)
        out = np.empty((angles, len(layers), self.num_columns), dtype=np.float32)
        grid = np.empty((self._grid, self._grid, _SLICES), dtype=np.float32)
        pairs = (_SLICES // 2, min(_ANGLES, angles), self.num_columns)
        lines = np.empty(pairs, dtype=np.complex64)
        for start in range(0, len(layers), _SLICES):
            group = layers[start : start + _SLICES]
            spectrum = self._transform(grid, group)
            part = out[:, start : start + len(group)]
            for first in range(0, angles, _ANGLES):
                cosine = self._cosine[first : first + _ANGLES]
                sine = self._sine[first : first + _ANGLES]
                _gather(
                    lines,
                    spectrum,
                    cosine,
                    sine,
                    self._frequency,
                    self._table,
                    self._voxel,
                    self._detector,
                )
                seen = np.ascontiguousarray(fft.ifft(lines[:, : len(cosine)], axis=2))
                seen = seen.view(np.float32).transpose(1, 0, 2)
                chosen = part[first : first + _ANGLES]
                chosen[:, 0::2] = seen[:, : (len(group) + 1) // 2, 0::2]
                chosen[:, 1::2] = seen[:, : len(group) // 2, 1::2]
        return out

    def _transform(self, grid: np.ndarray, layers: np.ndarray) -> np.ndarray:
        """Return the transforms of some slices, as the pairs' (y, x, 2 * pairs)."""
        _place(grid, layers, self._flatten)
        pairs = grid.view(np.complex64)
        ahead = self.width - self.width // 2
        behind = self._grid - self.width // 2
        # Rows without a slice are nothing but zeros.
        for rows in (slice(0, ahead), slice(behind, None)):
            pairs[rows] = np.asarray(fft.fft(pairs[rows], axis=1, overwrite_x=True))
        spectrum = np.asarray(fft.fft(pairs, axis=0, overwrite_x=True))
        return spectrum.view(np.float32)


class StoredProjections:
    """Line integrals by angle, row and column, in a file without a name.

    The file vanishes with the object, or with the process.

    Parameters
    ----------
    directory : Path or None
        Where the file lies; the system's place for such files where not given.
    angles_deg : tuple[float, float, int]
        First angle, step, number.
    rows, columns : int
        Size of one projection.
    largest : float
        Largest line integral, in pixels; it sets the resolution of what is kept.
    """

    def __init__(
        self,
        directory: Path | None,
        angles_deg: tuple[float, float, int],
        rows: int,
        columns: int,
        largest: float,
    ) -> None:
        self.angles_deg = angles_deg
        self._shape = (rows, columns)
        self._scale = np.float32(largest / 32000)
        self._file, name = tempfile.mkstemp(suffix=".projections", dir=directory)
        weakref.finalize(self, os.close, self._file)
        os.unlink(name)

    def write(self, first_row: int, lines: np.ndarray) -> None:
        """Keep some rows of all projections.

        Parameters
        ----------
        first_row : int
            Where they belong.
        lines : numpy.ndarray
            (angles, rows, columns) float32 line integrals in pixels.
        """
        counts = np.empty(lines.shape[1:], dtype=np.int16)
        rows, columns = self._shape
        for angle, part in enumerate(lines):
            _to_counts(counts, part, float(1 / self._scale))
            place = 2 * columns * (angle * rows + first_row)
            try:
                whole = os.pwrite(self._file, counts.data, place) == counts.nbytes
            except OSError as error:
                raise OSError(
                    f"projection {angle} of a large cell was not kept: "
                    f"{error.strerror}; some 10 GB of disk are needed"
                ) from error
            if not whole:
                raise OSError(
                    f"projection {angle} of a large cell was written in part only: "
                    "the disk is full; some 10 GB are needed"
                )

    def read(self, angle_deg: float) -> np.ndarray:
        """Return one projection, between two angles the mean by their distance.

        That smears a point over the path it takes from one angle to the next, which
        is what an exposure during continuous rotation does.

        Returns
        -------
        numpy.ndarray
            (rows, columns) float32 line integrals in pixels.
        """
        start, step, number = self.angles_deg
        place = (angle_deg - start) / step
        if not -0.5 <= place <= number - 0.5:
            last = start + step * (number - 1)
            raise ValueError(
                f"angle_deg is {angle_deg:g}; projections were prepared from "
                f"{start:g} to {last:g} degrees: set prepared_angles_deg"
            )
        place = min(max(place, 0.0), number - 1.0)
        low = min(int(place), number - 2) if number > 1 else 0
        part = np.float32(place - low)
        if part < 1e-3 or number == 1:
            return self._counts(low) * self._scale
        if part > 1 - 1e-3:
            return self._counts(low + 1) * self._scale
        return _mean(
            self._counts(low), self._counts(low + 1), float(part), float(self._scale)
        )

    def _counts(self, angle: int) -> np.ndarray:
        counts = np.empty(self._shape, dtype=np.int16)
        if os.preadv(self._file, [counts.data], angle * counts.nbytes) != counts.nbytes:
            raise OSError(f"projection {angle} of a large cell was not kept whole")
        return counts


def shift_columns(
    lines: np.ndarray, num_columns: int, middle: float, axis: float
) -> np.ndarray:
    """Return projections on the detector, moved by a part of a pixel.

    Parameters
    ----------
    lines : numpy.ndarray
        (rows, columns) float32.
    num_columns : int
        Width of the detector.
    middle : float
        Column of the detector at which column `axis` of the lines is seen.
    axis : float
        Column of the lines that looks at the slice's middle.
    """
    out = np.zeros((len(lines), num_columns), dtype=np.float32)
    _shift(out, lines, float(axis - middle))
    return out


def _even_fast_length(least: int) -> int:
    """Return an even length of at least so much that transforms quickly."""
    return 2 * int(fft.next_fast_len((least + 1) // 2) or least)


def _kernel_transform(place: np.ndarray, beta: float) -> np.ndarray:
    """Return the transform of the Kaiser-Bessel kernel, not normalised like it."""
    root = np.sqrt((beta**2 - (np.pi * _TAPS * place) ** 2).astype(complex))
    return (_TAPS * np.sinh(root) / root).real / i0(beta)


@njit(cache=True, nogil=True)
def _place(grid: np.ndarray, layers: np.ndarray, flatten: np.ndarray) -> None:
    """Put slices on the grid, their middle at its corner, and zeros elsewhere."""
    size, width = len(grid), layers.shape[1]
    middle = width // 2
    for row in grid:
        row[:] = 0
    for y in range(width):
        row = grid[(y - middle) % size]
        for x in range(width):
            point = row[(x - middle) % size]
            factor = flatten[y] * flatten[x]
            for s in range(len(layers)):
                point[s] = layers[s, y, x] * factor


@njit(cache=True, nogil=True, fastmath=True)
def _gather(
    lines: np.ndarray,
    spectrum: np.ndarray,
    cosine: np.ndarray,
    sine: np.ndarray,
    frequency: np.ndarray,
    table: np.ndarray,
    voxel: np.ndarray,
    detector: np.ndarray,
) -> None:
    """Interpolate the transforms along lines through their middle.

    Parameters
    ----------
    lines : numpy.ndarray
        (pairs, angles, num_columns) complex64, filled in.
    spectrum : numpy.ndarray
        (grid, grid, 2 * pairs) float32 transforms, real and imaginary parts in turn.
    cosine, sine, frequency, table, voxel, detector : numpy.ndarray
        As the projector keeps them.
    """
    size = len(spectrum)
    half = _TAPS / 2
    along_x = np.empty(_TAPS, np.float32)
    along_y = np.empty(_TAPS, np.float32)
    number_x = np.empty(_TAPS, np.int64)
    total = np.empty(_SLICES, np.float32)
    for a in range(len(cosine)):
        for j in range(len(frequency)):
            fx = frequency[j] * cosine[a]
            fy = frequency[j] * sine[a]
            x, y = fx * size, fy * size
            first_x = int(np.ceil(x - half))
            first_y = int(np.ceil(y - half))
            for k in range(_TAPS):
                along_x[k] = table[int(abs(x - first_x - k) * _TABLE + 0.5)]
                along_y[k] = table[int(abs(y - first_y - k) * _TABLE + 0.5)]
                # Not by the remainder: dividing takes as long as all the rest.
                number = first_x + k
                number_x[k] = number + size if number < 0 else number
            total[:] = 0
            for m in range(_TAPS):
                number = first_y + m
                row = spectrum[number + size if number < 0 else number]
                for k in range(_TAPS):
                    point = row[number_x[k]]
                    weight = along_y[m] * along_x[k]
                    for c in range(_SLICES):
                        total[c] += weight * point[c]
            # A voxel is a square, not a point.
            square = voxel[int(abs(fx) * 4000 + 0.5)] * voxel[int(abs(fy) * 4000 + 0.5)]
            factor = square * detector[j]
            for p in range(_SLICES // 2):
                lines[p, a, j] = complex(total[2 * p], total[2 * p + 1]) * factor


@njit(cache=True, nogil=True)
def _to_counts(counts: np.ndarray, lines: np.ndarray, per_count: float) -> None:
    for r in range(lines.shape[0]):
        for c in range(lines.shape[1]):
            level = np.rint(lines[r, c] * per_count)
            counts[r, c] = np.int16(min(max(level, -32768.0), 32767.0))


@njit(cache=True, nogil=True, fastmath=True)
def _mean(low: np.ndarray, high: np.ndarray, part: float, scale: float) -> np.ndarray:
    out = np.empty(low.shape, np.float32)
    a, b = np.float32(scale * (1 - part)), np.float32(scale * part)
    for r in range(low.shape[0]):
        for c in range(low.shape[1]):
            out[r, c] = a * low[r, c] + b * high[r, c]
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _shift(out: np.ndarray, lines: np.ndarray, start: float) -> None:
    """Resample rows by cubics: column c of `out` is column c + start of `lines`."""
    columns = lines.shape[1]
    whole = int(np.floor(start))
    t = start - whole
    a = np.float32(t * (-0.5 + t * (1 - 0.5 * t)))
    b = np.float32(1 + t * t * (-2.5 + 1.5 * t))
    c = np.float32(t * (0.5 + t * (2 - 1.5 * t)))
    d = np.float32(t * t * (-0.5 + 0.5 * t))
    first = max(0, 1 - whole)
    last = min(out.shape[1], columns - 2 - whole)
    for r in range(len(lines)):
        source, target = lines[r], out[r]
        for k in range(first, last):
            m = k + whole
            target[k] = (
                a * source[m - 1]
                + b * source[m]
                + c * source[m + 1]
                + d * source[m + 2]
            )
