"""Frames come in, sinograms go out: the transposition, bounded in memory.

Attenuation is kept as 16-bit integers in bands of detector rows, each band (angle,
row, x) in one piece. A scan at paper scale is 26.5 GB like its raw file: it is written
once, beside the frames as they arrive, and read once, band by band.
"""

import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.flat_drift import FlatDrift

BAND_ROWS = 16
"""As many slices as the engine takes at once."""

LOWEST, HIGHEST = -1.0, 7.5
"""Attenuation of the stored 0 and 65535: steps of 1.3e-4, far below shot noise."""

STEP = (HIGHEST - LOWEST) / 65535

READ_BYTES = 2**24
"""Read from disk at once."""


class SinogramStore(AbstractContextManager["SinogramStore"]):
    """Attenuation of one scan, written frame by frame and read band by band.

    Parameters
    ----------
    num_angles, height_px, width_px : int
        Frames, rows and columns.
    directory : Path
        Where the file goes if the scan does not fit in memory; it has no name and
        goes with the process.
    memory_limit_bytes : int
        A larger scan goes to disk.
    frames_per_write : int
        Frames gathered before they are written, so that the disk sees long pieces;
        fewer where the limit says so.
    in_memory : bool
        False sends any scan to disk.

    Attributes
    ----------
    received : ndarray, shape (angle,), bool
        Which frames came.
    drift : FlatDrift or None
        Is taken out of what is read, not of what is stored.
    """

    def __init__(
        self,
        num_angles: int,
        height_px: int,
        width_px: int,
        *,
        directory: Path,
        memory_limit_bytes: int,
        frames_per_write: int = 16,
        in_memory: bool = True,
    ) -> None:
        self.num_angles, self.height_px, self.width_px = num_angles, height_px, width_px
        self.num_bands = -(-height_px // BAND_ROWS)
        self.received = np.zeros(num_angles, bool)
        self.drift: FlatDrift | None = None
        self._file = None
        size = 2 * self.num_bands * num_angles * BAND_ROWS * width_px
        self.size_bytes = size
        self.on_disk = size > memory_limit_bytes or not in_memory
        if self.on_disk:
            free = _free_bytes(directory)
            if free < size:
                raise DataError(
                    f"{directory}: {free / 1e9:.1f} GB free, the sinograms of "
                    f"{num_angles} frames of {height_px} x {width_px} need "
                    f"{size / 1e9:.1f} GB; free space or set rows or binning"
                )
            # Not a context manager here: the store itself is one and closes it.
            self._file = tempfile.TemporaryFile(dir=directory, prefix="sinograms-")
        held = num_angles
        if self.on_disk:
            fitting = memory_limit_bytes * num_angles // size
            held = max(min(frames_per_write, fitting), 1)
        self._held = np.zeros((self.num_bands, held, BAND_ROWS, width_px), np.uint16)
        self._held_start = 0

    def put(self, index: int, attenuation: NDArray[np.float32]) -> None:
        """Take in frame `index`, shape (y, x); frames come in ascending order."""
        if not 0 <= index < self.num_angles:
            raise DataError(
                f"frame {index} of a scan of {self.num_angles} projections; more "
                "frames came than were promised"
            )
        if attenuation.shape != (self.height_px, self.width_px):
            raise DataError(
                f"frame {index} is {attenuation.shape}, this scan has "
                f"({self.height_px}, {self.width_px}) (y, x)"
            )
        if self._held.shape[1] == 0:
            raise DataError(f"frame {index} came after the end of its scan")
        if not 0 <= index - self._held_start < self._held.shape[1]:
            self.flush()
            self._held_start = index
        _quantise(attenuation, self._held[:, index - self._held_start])
        self.received[index] = True

    def flush(self) -> None:
        """Write what is gathered."""
        if self._file is None:
            return
        stop = min(self._held_start + self._held.shape[1], self.num_angles)
        here = self.received[self._held_start : stop]
        if not here.any():
            return
        number = int(np.flatnonzero(here)[-1]) + 1
        frame_bytes = 2 * BAND_ROWS * self.width_px
        for band in range(self.num_bands):
            offset = (band * self.num_angles + self._held_start) * frame_bytes
            _write_all(self._file.fileno(), self._held[band, :number], offset)
        self._held_start = stop

    def band(self, band: int) -> NDArray[np.float32]:
        """Return the sinograms of one band, shape (row, angle, x)."""
        if not 0 <= band < self.num_bands:
            raise IndexError(f"band {band}; there are {self.num_bands}")
        first = band * BAND_ROWS
        return self.rows(first, min(first + BAND_ROWS, self.height_px))

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return the sinograms of rows `start` to `stop`, shape (row, angle, x).

        Angles whose frame never came are left out, see `received`.
        """
        if not 0 <= start < stop <= self.height_px:
            raise IndexError(f"rows {start} to {stop}; there are {self.height_px}")
        angles = np.flatnonzero(self.received)
        out = np.empty((stop - start, len(angles), self.width_px), np.float32)
        some = max(READ_BYTES // (2 * BAND_ROWS * self.width_px), 1)
        for band in range(start // BAND_ROWS, -(-stop // BAND_ROWS)):
            above = band * BAND_ROWS
            first, last = max(start, above), min(stop, above + BAND_ROWS)
            for begin in range(0, self.num_angles, some):
                end = min(begin + some, self.num_angles)
                here, there = np.searchsorted(angles, (begin, end))
                if here < there:
                    _restore(
                        self._stored(band, begin, end),
                        angles[here:there] - begin,
                        first - above,
                        out[first - start : last - start],
                        here,
                    )
        if self.drift is not None:
            self.drift.correct_rows(out, angles, start)
        return out

    def frame(
        self, index: int, start: int = 0, stop: int | None = None
    ) -> NDArray[np.float32]:
        """Return the rows `start` to `stop` of one frame again, shape (y, x)."""
        stop = self.height_px if stop is None else stop
        if not 0 <= start < stop <= self.height_px:
            raise IndexError(f"rows {start} to {stop}; there are {self.height_px}")
        first = start // BAND_ROWS
        bands = range(first, -(-stop // BAND_ROWS))
        rows = np.concatenate(
            [self._stored(band, index, index + 1)[0] for band in bands]
        )
        above = first * BAND_ROWS
        frame = rows[start - above : stop - above].astype(np.float32)
        frame = frame * np.float32(STEP) + np.float32(LOWEST)
        if self.drift is not None:
            self.drift.correct_frame(frame, index, start)
        return frame

    def _stored(self, band: int, first: int, last: int) -> NDArray[np.uint16]:
        if self._file is None:
            return self._held[band, first:last]
        self.flush()
        out = np.zeros((last - first, BAND_ROWS, self.width_px), np.uint16)
        offset = (band * self.num_angles + first) * 2 * BAND_ROWS * self.width_px
        _read_all(self._file.fileno(), out, offset)
        return out

    def end(self) -> None:
        """Write what is gathered and let go of its memory; no more frames come."""
        if self._file is not None:
            self.flush()
            self._held = self._held[:, :0].copy()

    def close(self) -> None:
        """Let go of memory and file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._held = np.zeros((0, 0, 0, 0), np.uint16)

    def __exit__(self, *exception: object) -> None:
        """Let go of memory and file."""
        self.close()


def _free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _write_all(descriptor: int, values: NDArray[np.uint16], offset: int) -> None:
    view = np.ascontiguousarray(values).ravel().view(np.uint8).data
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _read_all(descriptor: int, values: NDArray[np.uint16], offset: int) -> None:
    view = values.ravel().view(np.uint8).data
    while view:
        number = os.preadv(descriptor, [view], offset)
        if number == 0:
            return  # past the last frame written: nothing was received there
        view, offset = view[number:], offset + number


@njit(cache=True, nogil=True, fastmath=True)
def _quantise(attenuation, bands):
    """Round one frame to 16 bits, into its place in each band."""
    height, width = attenuation.shape
    scale = np.float32(1 / STEP)
    for y in range(height):
        line = bands[y // BAND_ROWS, y % BAND_ROWS]
        row = attenuation[y]
        for x in range(width):
            value = (row[x] - np.float32(LOWEST)) * scale + np.float32(0.5)
            value = min(max(value, np.float32(0)), np.float32(65535))
            line[x] = np.uint16(np.int32(value))


@njit(cache=True, nogil=True, fastmath=True)
def _restore(stored, angles, first_row, out, first_angle):
    """Turn rows of a band (angle, row, x) of integers into sinograms."""
    for row in range(out.shape[0]):
        for a in range(len(angles)):
            line = stored[angles[a], first_row + row]
            values = out[row, first_angle + a]
            for x in range(out.shape[2]):
                values[x] = np.float32(line[x]) * np.float32(STEP) + np.float32(LOWEST)
