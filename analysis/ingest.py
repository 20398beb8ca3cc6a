"""Takes in the frames of one scan as they come: normalised, stored, previewed."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.binning import binned
from analysis.distortion import Unwarp
from analysis.errors import DataError
from analysis.normalise import (
    FlatField,
    FrameAverage,
    PixelCounts,
    remove_air_background,
)
from analysis.phase import PhaseRetrieval
from analysis.preview import PreviewStack
from analysis.settings import ReconstructionSettings
from analysis.sinogram_store import SinogramStore

STORE_FRAC = 0.25
"""Share of the memory limit that sinograms may take before they go to disk."""


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
    with_preview : bool
        Whether previews will be asked for.
    """

    def __init__(
        self,
        name: str,
        num_angles: int,
        pixel_size_um: float,
        settings: ReconstructionSettings,
        directory: Path,
        *,
        with_preview: bool = True,
    ) -> None:
        self._with_preview = with_preview
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
        self._unwarp: Unwarp | None = None
        self._phase: PhaseRetrieval | None = None
        self._read = self._wanted = slice(0, 0)
        self._clamped = 0
        self._non_finite = 0

    def begin(self) -> None:
        """End darks and flats; projections follow."""
        dark, flat = self.darks.mean(), self.flats.mean()
        settings = self._settings
        self._wanted = self._rows(flat.shape[0])
        if settings.distortion is not None:
            # A corrected row is made of rows beside it: all must be read.
            self._unwarp = Unwarp(settings.distortion, flat.shape, self._wanted)
            self._read = slice(0, flat.shape[0])
        else:
            self._read = self._wanted
        self._flat_field = FlatField(
            dark[self._read],
            flat[self._read],
            min_transmission=settings.min_transmission,
            source=self.name,
        )
        height = self._wanted.stop - self._wanted.start
        width = flat.shape[1]
        if settings.phase is not None:
            self._phase = PhaseRetrieval(
                settings.phase, (height, width), self._pixel_size_um
            )
        factor = settings.binning
        height, width = height // factor, width // factor
        if height < 1 or width < 2:
            raise DataError(
                f"{self.name}: binning {factor} leaves {height} rows of {width} px"
            )
        self._store = SinogramStore(
            self.num_angles,
            height,
            width,
            directory=self._directory,
            memory_limit_bytes=int(settings.memory_limit_gib * 2**30 * STORE_FRAC),
        )
        if self._with_preview:
            self._preview = PreviewStack(
                self.num_angles, height, width, self._pixel_size_um * factor
            )

    @property
    def begun(self) -> bool:
        """Whether darks and flats are in."""
        return self._flat_field is not None

    def put(self, index: int, frame: NDArray[Any]) -> None:
        """Take in projection `index`, shape (y, x), counts."""
        if self._flat_field is None:
            self.begin()
        flat_field, store = self._flat_field, self.store
        if flat_field is None:
            raise DataError(f"{self.name}: projections came before darks and flats")
        settings = self._settings
        attenuation = np.empty(flat_field.shape, np.float32)
        clamped, non_finite = flat_field.attenuation(frame[self._read], attenuation)
        self._clamped += clamped
        self._non_finite += non_finite
        if self._unwarp is not None:
            attenuation = self._unwarp(attenuation)
        if settings.air_columns_px:
            air = remove_air_background(
                attenuation, settings.air_columns_px, settings.air_tolerance
            )
            self.frames_without_air += not air
        if self._phase is not None:
            attenuation = self._phase(attenuation)
        attenuation = binned(attenuation, settings.binning)
        store.put(index, attenuation)
        if self._preview is not None:
            self._preview.put(index, attenuation)

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
            raise DataError(f"{self.name}: nothing to draw a preview from")
        return self._preview

    def end_preview(self) -> None:
        """Let go of what previews are drawn from: a quarter of the frames' pixels."""
        self._preview = None

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
