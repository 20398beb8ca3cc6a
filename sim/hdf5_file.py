"""The file that the camera's HDF5 plugin writes while others read it."""

import errno
from pathlib import Path

import h5py
import numpy as np

_ATTRIBUTES = "entry/instrument/NDAttributes"
_ATTRIBUTE_CHUNK = 1024


class Hdf5FrameFile:
    """Frames of one acquisition in single-writer-multiple-reader HDF5.

    Parameters
    ----------
    path : Path
        The file; it must not exist.
    shape : tuple[int, int]
        Rows and columns of a frame.
    swmr : bool
        Whether readers may open it while it grows.
    flush_every : int
        Frames between flushes; a reader sees a frame only after one.
    capacity_bytes : int, optional
        Size of a full disk: writing on past it raises ENOSPC.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int],
        *,
        swmr: bool = True,
        flush_every: int = 1,
    ) -> None:
        self.path = path
        self.shape = shape
        self.capacity_bytes: int | None = None
        self._flush_every = max(flush_every, 1)
        self._number = 0
        self._flushed = 0
        self._file = h5py.File(path, "x", libver="latest")
        self._frames = self._file.create_dataset(
            "entry/data/data",
            (0, *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype="<u2",
        )
        self._unique_ids = self._attribute("NDArrayUniqueId", "<i4")
        self._timestamps = self._attribute("NDArrayTimeStamp", "<f8")
        if swmr:
            self._file.swmr_mode = True

    def _attribute(self, name: str, dtype: str) -> h5py.Dataset:
        return self._file.create_dataset(
            f"{_ATTRIBUTES}/{name}",
            (0,),
            maxshape=(None,),
            chunks=(_ATTRIBUTE_CHUNK,),
            dtype=dtype,
        )

    @property
    def number_flushed(self) -> int:
        """Frames that a reader can see."""
        return self._flushed

    @property
    def number(self) -> int:
        """Frames written."""
        return self._number

    def append(self, frame: np.ndarray, unique_id: int, timestamp_s: float) -> None:
        """Write one frame and, if it is time, flush.

        Parameters
        ----------
        frame : numpy.ndarray
            uint16, (rows, columns), C order.
        unique_id : int
            The camera's own number of the frame.
        timestamp_s : float
            Start of its exposure, seconds since the Unix epoch.
        """
        if frame.shape != self.shape or frame.dtype != np.uint16:
            raise ValueError(
                f"frame is {frame.dtype} {frame.shape}; {self.path.name} takes uint16 "
                f"{self.shape}"
            )
        index = self._number
        written = (index + 1) * frame.nbytes
        if self.capacity_bytes is not None and written > self.capacity_bytes:
            raise OSError(errno.ENOSPC, "No space left on device", str(self.path))
        self._frames.resize(index + 1, axis=0)
        self._frames.id.write_direct_chunk((index, 0, 0), np.ascontiguousarray(frame))
        self._unique_ids.resize(index + 1, axis=0)
        self._unique_ids[index] = unique_id
        self._timestamps.resize(index + 1, axis=0)
        self._timestamps[index] = timestamp_s
        self._number = index + 1
        if self._number % self._flush_every == 0:
            self.flush()

    def flush(self) -> None:
        """Let readers see every frame written; the frames themselves come last."""
        self._unique_ids.flush()
        self._timestamps.flush()
        self._frames.flush()
        self._flushed = self._number

    def close(self) -> None:
        """Flush and close; closing twice does no harm."""
        if self._file:
            self.flush()
            self._file.close()
