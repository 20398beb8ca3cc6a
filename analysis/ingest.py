"""Takes in the frames of one scan as they come: normalised, stored, previewed."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.normalise import (
    FlatField,
    FrameAverage,
    PixelCounts,
    remove_air_background,
)
from analysis.preview import PreviewStack
from analysis.settings import ReconstructionSettings
from analysis.sinogram_store import SinogramStore


class ScanIngest(AbstractContextManager["ScanIngest"]):
    """One scan from counts to sinograms; darks and flats come first.

    Parameters
    ----------
    name : str
        Scan or file that an error names.
    num_angles : int
        Projections that will come.
    pixel_size_um : float
        At the sample.
    settings : ReconstructionSettings
    directory : Path
        Where sinograms go that do not fit in memory.
    """

    def __init__(
        self,
        name: str,
        num_angles: int,
        pixel_size_um: float,
        settings: ReconstructionSettings,
        directory: Path,
    ) -> None:
        self.name = name
        self.num_angles = num_angles
        self.darks = FrameAverage("darks")
        self.flats = FrameAverage("flats")
        self.frames_without_air = 0
        self._pixel_size_um = pixel_size_um
        self._settings = settings
        self._directory = directory
        self._flat_field: FlatField | None = None
        self._store: SinogramStore | None = None
        self._preview: PreviewStack | None = None
        self._clamped = 0
        self._non_finite = 0

    def begin(self) -> None:
        """End darks and flats; projections follow."""
        rows = self._rows(self.flats.mean().shape[0])
        self._flat_field = FlatField(
            self.darks.mean()[rows],
            self.flats.mean()[rows],
            min_transmission=self._settings.min_transmission,
            source=self.name,
        )
        height, width = self._flat_field.shape
        limit = self._settings.memory_limit_gib * 2**30 / 4
        self._store = SinogramStore(
            self.num_angles,
            height,
            width,
            directory=self._directory,
            memory_limit_bytes=int(limit),
        )
        self._preview = PreviewStack(
            self.num_angles, height, width, self._pixel_size_um
        )

    @property
    def begun(self) -> bool:
        """Whether darks and flats are in."""
        return self._flat_field is not None

    def put(self, index: int, frame: NDArray[Any]) -> None:
        """Take in projection `index`, shape (y, x), counts."""
        if self._flat_field is None:
            self.begin()
        flat_field, store, preview = self._flat_field, self.store, self.preview
        if flat_field is None:
            raise DataError(f"{self.name}: projections came before darks and flats")
        attenuation = np.empty(flat_field.shape, np.float32)
        rows = self._rows(frame.shape[0])
        clamped, non_finite = flat_field.attenuation(frame[rows], attenuation)
        self._clamped += clamped
        self._non_finite += non_finite
        columns = self._settings.air_columns_px
        if columns:
            tolerance = self._settings.air_tolerance
            air = remove_air_background(attenuation, columns, tolerance)
            self.frames_without_air += not air
        store.put(index, attenuation)
        preview.put(index, attenuation)

    def _rows(self, height: int) -> slice:
        if self._settings.rows is None:
            return slice(0, height)
        start, stop = self._settings.rows
        if stop > height:
            raise DataError(
                f"{self.name}: rows {start} to {stop} asked for, frames have {height}"
            )
        return slice(start, stop)

    @property
    def store(self) -> SinogramStore:
        """The sinograms."""
        if self._store is None:
            raise DataError(f"{self.name}: no projection has come yet")
        return self._store

    @property
    def preview(self) -> PreviewStack:
        """What the previews are drawn from."""
        if self._preview is None:
            raise DataError(f"{self.name}: no projection has come yet")
        return self._preview

    @property
    def counts(self) -> PixelCounts:
        """Repaired and clamped pixels so far."""
        if self._flat_field is None:
            return PixelCounts(0, 0)
        return PixelCounts(
            dead=self._flat_field.dead,
            hot=self._flat_field.hot,
            clamped=self._clamped,
            non_finite=self._non_finite,
        )

    def close(self) -> None:
        """Let go of the sinograms and previews."""
        if self._store is not None:
            self._store.close()
        self._preview = None

    def __exit__(self, *exception: object) -> None:
        """Let go of the sinograms and previews."""
        self.close()
