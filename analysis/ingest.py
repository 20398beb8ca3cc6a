"""Takes in the frames of one scan as they come: normalised, stored, previewed."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.binning import binned
from analysis.distortion import Unwarp
from analysis.errors import DataError
from analysis.flat_drift import FlatDrift, flat_weights
from analysis.memory import PREVIEW_FRAC, STORE_FRAC, share_bytes
from analysis.normalise import (
    MAX_BAD_FRAC,
    FlatField,
    FrameAverage,
    PixelCounts,
    remove_air_background,
)
from analysis.phase import PhaseRetrieval
from analysis.preview import PreviewStack
from analysis.settings import ReconstructionSettings
from analysis.sinogram_store import SinogramStore

MAX_DRIFT = 0.5
"""Logarithm of the beam's change between groups of flats; more is no drift."""


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
    in_memory : bool
        False sends the sinograms to disk, however few they are.
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
        in_memory: bool = True,
    ) -> None:
        self._in_memory = in_memory
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
        self._air_corrected = np.zeros(num_angles, bool)
        self._clamped = 0
        self._non_finite = 0

    def begin(self) -> None:
        """End darks and flats; projections follow."""
        dark, flat = self.darks.mean(), self.flats.mean()
        self.darks.let_go()
        self.flats.let_go()
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
            memory_limit_bytes=share_bytes(settings.memory_limit_gib, STORE_FRAC),
            in_memory=self._in_memory,
        )
        if self._with_preview:
            self._preview = PreviewStack(
                self.num_angles,
                height,
                width,
                self._pixel_size_um * factor,
                memory_limit_bytes=share_bytes(settings.memory_limit_gib, PREVIEW_FRAC),
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
        air = False
        if settings.air_columns_px:
            air = remove_air_background(
                attenuation, settings.air_columns_px, settings.air_tolerance
            )
            self.frames_without_air += not air
        if self._phase is not None:
            attenuation = self._phase(attenuation)
        attenuation = binned(attenuation, settings.binning)
        store.put(index, attenuation)
        self._air_corrected[index] = air
        if self._preview is not None:
            self._preview.put(index, attenuation)

    def correct_drift(
        self,
        first_at: float,
        later: Sequence[tuple[float, FrameAverage]],
        times: NDArray[np.float64],
    ) -> None:
        """Interpolate in time between the flats that came first and later ones.

        Parameters
        ----------
        first_at : float
            Middle of the flats that came first.
        later : sequence of (float, FrameAverage)
            Middle and flats of each later group, in order.
        times : ndarray, shape (angle,)
            Of each projection, on the same clock.
        """
        weights = flat_weights([first_at, *(at for at, _ in later)], times)[:, 1:]
        air = self._air_corrected[:, None]
        changes, shares = [], []
        for index, (_, flats) in enumerate(later):
            change = self._change(flats)
            share = weights[:, index : index + 1]
            if np.any(share[air]):
                clean = change.copy()
                remove_air_background(clean, self._settings.air_columns_px, np.inf)
                changes.append(self._shaped(clean))
                shares.append(np.where(air, share, 0))
            if np.any(share[~air]):
                changes.append(self._shaped(change))
                shares.append(np.where(air, 0, share))
        if changes:
            self.store.drift = FlatDrift(
                np.stack(changes), np.concatenate(shares, axis=1), 1 + len(later)
            )

    def _change(self, flats: FrameAverage) -> NDArray[np.float32]:
        """Return the attenuation of later flats against the first, rows cut out."""
        if self._flat_field is None:
            raise DataError(f"{self.name}: flats came later, but none before")
        flat = flats.mean()
        change = np.empty(self._flat_field.shape, np.float32)
        self._flat_field.attenuation(flat[self._read], change)
        wrong = np.abs(change) > MAX_DRIFT
        if wrong.mean() > MAX_BAD_FRAC:
            raise DataError(
                f"{self.name}: {flats.name} differ from the first flats by a factor "
                f"of {np.exp(-np.median(change)):.3g} (median; allowed "
                f"{np.exp(-MAX_DRIFT):.2g} to {np.exp(MAX_DRIFT):.2g}); was the beam "
                "lost or the sample not out?"
            )
        change[wrong] = np.median(change)
        if self._unwarp is not None:
            change = self._unwarp(change)
        return change

    def _shaped(self, change: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._phase is not None:
            change = self._phase(change)
        return binned(change, self._settings.binning)

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

    def end(self) -> None:
        """Let go of what only frames and previews need; no more of them come."""
        self._preview = None
        self.store.end()

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
