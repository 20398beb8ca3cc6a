"""From the frames of a scan to a tomogram on disk, step after step."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.binning import binned_column, unbinned_column
from analysis.engines import check_engine, engine
from analysis.errors import DataError
from analysis.flat_drift import groups_of
from analysis.full_turn import (
    full_turn_size,
    full_turn_weights,
    is_off_centre_full_turn,
)
from analysis.ingest import ScanIngest
from analysis.memory import RECONSTRUCTION_FRAC, portion, share_bytes
from analysis.normalise import FrameAverage, PixelCounts
from analysis.nxtomo_reader import NXtomoScan
from analysis.rings import (
    correct_response,
    remove_stripes,
    remove_stripes_by_sorting,
)
from analysis.rotation_axis import RotationAxis, find_rotation_axis, refine_axis
from analysis.settings import AnalysisSettings, ReconstructionSettings
from analysis.sinogram_store import SinogramStore
from analysis.tomogram_file import TomogramWriter
from analysis.volume import open_volume
from analysis.zingers import remove_zingers

AXIS_PAIRS = 6
"""Heights at which the axis is refined."""

AXIS_ROWS = 4
"""Rows of which each of the two sinograms of a height is the mean."""

Progress = Callable[[str, float], None]
"""Is told a stage and how much of it is done, 0 to 1."""

# With fewer, an edge that stands still for some angles is taken for a ring: seen on
# a real needle in 91 angles, which lost part of its rim.
RESPONSE_MIN_ANGLES = 180


def no_progress(stage: str, fraction: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Reconstruction:
    """A tomogram that stands on disk.

    Attributes
    ----------
    tomogram_file : Path
    rotation_axis_px : float
        Column in a projection of the camera, pixel centres at 0 .. width - 1.
    engine : str
    shape : tuple[int, int, int]
        (z, y, x).
    num_projections : int
        That went into it.
    num_missing : int
        That were promised and never came.
    pixels : PixelCounts
        Repaired and clamped.
    frames_without_air : int
        Frames whose sides hold no air, so that the beam was not corrected.
    seconds : dict
        Wall time per stage.
    """

    tomogram_file: Path
    rotation_axis_px: float
    engine: str
    shape: tuple[int, int, int]
    num_projections: int
    num_missing: int
    pixels: PixelCounts
    frames_without_air: int
    seconds: dict[str, float] = field(default_factory=dict)


def find_axis(
    ingest: ScanIngest,
    angles_deg: NDArray[np.float64],
    settings: ReconstructionSettings,
) -> float:
    """Return the column of the axis as set, or as two projections tell it.

    Like all axes on the way it is counted in binned columns.
    """
    width = ingest.store.width_px
    if settings.rotation_axis_px is not None:
        axis = binned_column(settings.rotation_axis_px, settings.binning)
    else:
        here = np.flatnonzero(ingest.store.received)
        try:
            axis = find_rotation_axis(
                lambda index: ingest.store.frame(int(here[index])), angles_deg[here]
            )
        except DataError as error:
            raise DataError(
                f"{ingest.name}: {len(here)} of {len(angles_deg)} projections: {error}"
            ) from error
    if not 0 <= axis <= width - 1:
        raise DataError(
            f"{ingest.name}: rotation axis at {axis:g} px; it must lie on the "
            f"detector, 0 to {width - 1} px"
        )
    return axis


def refined_axis(
    ingest: ScanIngest,
    angles_deg: NDArray[np.float64],
    first_px: float,
    settings: ReconstructionSettings,
) -> RotationAxis:
    """Return the axis that gives the sharpest slices, a few over the height."""
    if settings.rotation_axis_px is not None:
        return RotationAxis(first_px, first_px, float("nan"), 0)
    store = ingest.store
    reach = min(AXIS_ROWS, store.height_px // 2)
    middles = (np.arange(AXIS_PAIRS) + 0.5) / AXIS_PAIRS * store.height_px
    middles = np.unique(np.clip(middles.astype(int), reach, store.height_px - reach))

    def sinograms() -> Iterator[NDArray[np.float32]]:
        for middle in middles:
            # The mean of a few rows has their edges and half their noise.
            yield store.rows(middle - reach, middle).mean(axis=0)
            yield store.rows(middle, middle + reach).mean(axis=0)

    return refine_axis(
        sinograms(),
        np.asarray(angles_deg, np.float64)[store.received],
        first_px,
        padding=settings.padding,
        threads=settings.threads,
    )


class FramesIn(Protocol):
    """A scan whose frames are in, as far as its reconstruction is concerned."""

    @property
    def name(self) -> str:
        """What an error names."""
        ...

    @property
    def store(self) -> SinogramStore:
        """The sinograms."""
        ...

    @property
    def counts(self) -> PixelCounts:
        """Repaired and clamped pixels."""
        ...

    @property
    def frames_without_air(self) -> int:
        """Frames whose sides hold no air."""
        ...


def reconstruct(
    ingest: FramesIn,
    angles_deg: NDArray[np.float64],
    rotation_axis_px: float,
    tomogram_file: Path,
    settings: ReconstructionSettings,
    *,
    pixel_size_um: float | None,
    progress: Progress = no_progress,
) -> Reconstruction:
    """Reconstruct all slices of a scan whose frames are in, band after band.

    Parameters
    ----------
    ingest : FramesIn
        Holds the sinograms; a `ScanIngest`.
    angles_deg : ndarray, shape (angle,)
        Of all projections that were promised.
    rotation_axis_px : float
        In binned columns.
    tomogram_file : Path
        Where the tomogram goes.
    pixel_size_um : float or None
        At the sample, before binning; None where it is unknown.
    """
    store = ingest.store
    if len(angles_deg) != store.num_angles:
        raise DataError(
            f"{ingest.name}: {len(angles_deg)} angles for {store.num_angles} "
            "projections; they must match"
        )
    here = store.received
    if here.sum() < 2:
        raise DataError(f"{ingest.name}: {here.sum()} projections came; 2 are needed")
    seconds = {"rings": 0.0, "reconstruct": 0.0, "disk": 0.0}
    angles = np.asarray(angles_deg, np.float64)[here]
    size = store.width_px
    weights = None
    if is_off_centre_full_turn(angles, size, rotation_axis_px):
        weights = full_turn_weights(size, rotation_axis_px)
        size = full_turn_size(size, rotation_axis_px)
    shape = (store.height_px, size, size)
    some = portion(
        settings.engine,
        len(angles),
        store.width_px,
        rotation_axis_px,
        size,
        threads=settings.threads or len(os.sched_getaffinity(0)),
        limit_bytes=share_bytes(settings.memory_limit_gib, RECONSTRUCTION_FRAC),
        name=ingest.name,
    )
    machine = engine(
        settings.engine,
        angles,
        store.width_px,
        rotation_axis_px,
        size_px=size,
        filter_window=settings.window,
        padding=settings.padding,
        threads=some.threads,
        passes=some.passes,
    )
    voxel_size_um = None
    if pixel_size_um is not None:
        voxel_size_um = pixel_size_um * settings.binning
    about = {
        "rotation_axis_px": unbinned_column(rotation_axis_px, settings.binning),
        "engine": machine.name,
        "num_projections": int(here.sum()),
        "flat_groups": 1 if store.drift is None else store.drift.num_groups,
    }
    starts = range(0, store.height_px, some.rows)
    num_zingers = 0
    with (
        TomogramWriter(
            tomogram_file,
            shape,
            voxel_size_um=voxel_size_um,
            output_range=settings.output_range if settings.output == "uint16" else None,
            pyramid_levels=settings.pyramid_levels,
            about=settings.model_dump(mode="json") | about,
        ) as writer,
        ThreadPoolExecutor(some.threads) as pool,
        ThreadPoolExecutor(1) as disk,
    ):
        # The disk works while the processors do: the next band is read and the last
        # slices are written beside each other's arithmetic.
        def read(start: int) -> NDArray[np.float32]:
            return store.rows(start, min(start + some.rows, store.height_px))

        coming = disk.submit(read, 0)
        going = None
        for start in starts:
            begun = time.perf_counter()
            sinograms = coming.result()
            if start + some.rows < store.height_px:
                coming = disk.submit(read, start + some.rows)
            loaded = time.perf_counter()
            clean = pool.map(lambda one: _cleaned(one, settings), sinograms)
            for row, (sinogram, zingers) in enumerate(clean):
                sinograms[row] = sinogram
                num_zingers += zingers
            if weights is not None:
                sinograms *= weights
            ringless = time.perf_counter()
            slices = machine.reconstruct(sinograms)
            reconstructed = time.perf_counter()
            if going is not None:
                going.result()
            going = disk.submit(writer.write, slices)
            written = time.perf_counter()
            seconds["rings"] += ringless - loaded
            seconds["reconstruct"] += reconstructed - ringless
            seconds["disk"] += written - reconstructed + loaded - begun
            done = min(start + some.rows, store.height_px)
            progress("reconstruct", done / store.height_px)
        begun = time.perf_counter()
        if going is not None:
            going.result()
        writer.finish(about)
        seconds["disk"] += time.perf_counter() - begun
    return Reconstruction(
        tomogram_file=tomogram_file,
        rotation_axis_px=unbinned_column(rotation_axis_px, settings.binning),
        engine=machine.name,
        shape=shape,
        num_projections=int(here.sum()),
        num_missing=int((~here).sum()),
        pixels=replace(ingest.counts, zingers=num_zingers),
        frames_without_air=ingest.frames_without_air,
        seconds=seconds,
    )


def _cleaned(
    sinogram: NDArray[np.float32], settings: ReconstructionSettings
) -> tuple[NDArray[np.float32], int]:
    """Return a sinogram without zingers and stripes, and how many zingers it had."""
    zingers = 0
    if settings.zinger_threshold > 0:
        zingers = remove_zingers(sinogram, settings.zinger_threshold)
    if settings.rings == "response" and len(sinogram) >= RESPONSE_MIN_ANGLES:
        sinogram = correct_response(sinogram)
    elif settings.rings == "all":
        sinogram = remove_stripes(
            sinogram,
            snr=settings.ring_snr,
            large_width_px=settings.ring_large_width_px,
            small_width_px=settings.ring_small_width_px,
        )
    elif settings.rings == "sorting":
        sinogram = remove_stripes_by_sorting(sinogram, settings.ring_small_width_px)
    return sinogram, zingers


def reconstruct_nxtomo(
    path: Path,
    out_dir: Path,
    settings: AnalysisSettings,
    *,
    measure: bool = True,
    pixel_size_um: float | None = None,
    progress: Progress = no_progress,
) -> dict[str, object]:
    """Reconstruct and measure the scan of one NXtomo file.

    Parameters
    ----------
    path : Path
        Any NXtomo file.
    out_dir : Path
        Gets ``tomogram.h5`` and pictures.
    measure : bool
        False stops after the reconstruction.
    pixel_size_um : float, optional
        At the sample; needed to measure where the file does not tell it.

    Returns
    -------
    dict
        Plain values: what was done, what was repaired, seconds per stage and, where
        made, ``measurements``.

    Raises
    ------
    DataError
        The file, or what is in it, is not what it must be.
    """
    begun = time.perf_counter()
    check_engine(settings.reconstruction.engine)
    out_dir.mkdir(parents=True, exist_ok=True)
    with NXtomoScan(path) as scan:
        pixel_size_um = pixel_size_um or scan.pixel_size_um
        ingest = ScanIngest(
            str(path),
            len(scan.angles_deg),
            pixel_size_um or 1.0,
            settings.reconstruction,
            out_dir,
            with_preview=False,
        )
        with ingest:
            whole = slice(None)
            for frame in scan.read(scan.darks, whole):
                ingest.darks.add(frame[None])
            groups = groups_of(scan.flats, scan.projections)
            for frame in scan.read(groups[0], whole):
                ingest.flats.add(frame[None])
            for index, frame in enumerate(scan.read(scan.projections, whole)):
                ingest.put(index, frame)
                progress("normalise", (index + 1) / len(scan.angles_deg))
            later = []
            for number, group in enumerate(groups[1:], start=2):
                flats = FrameAverage(f"flats of group {number}")
                for frame in scan.read(group, whole):
                    flats.add(frame[None])
                later.append((float(group.mean()), flats))
            if later:
                # Time is counted in frames: they tell no other.
                ingest.correct_drift(
                    float(groups[0].mean()), later, scan.projections.astype(np.float64)
                )
            ingest.end()
            normalised = time.perf_counter()
            first = find_axis(ingest, scan.angles_deg, settings.reconstruction)
            axis = refined_axis(ingest, scan.angles_deg, first, settings.reconstruction)
            found = time.perf_counter()
            result = reconstruct(
                ingest,
                scan.angles_deg,
                axis.column_px,
                out_dir / "tomogram.h5",
                settings.reconstruction,
                pixel_size_um=pixel_size_um,
                progress=progress,
            )
            reconstructed = time.perf_counter()
            row = None
            if measure and pixel_size_um is not None:
                row = _measured(
                    ingest, scan.angles_deg, axis.column_px, result.tomogram_file,
                    settings, pixel_size_um,
                )  # fmt: skip
            measured = time.perf_counter()
    seconds = {"normalise": normalised - begun, "axis": found - normalised}
    answer: dict[str, object] = asdict(result)
    answer |= {
        "scan_file": str(path),
        "tomogram_file": str(result.tomogram_file),
        "shape": list(result.shape),
        "rotation_axis_spread_px": _number(axis.spread_px),
        "rotation_axis_half_turn_px": unbinned_column(
            axis.half_turn_px, settings.reconstruction.binning
        ),
        "pixel_size_um": pixel_size_um,
        "seconds": seconds | result.seconds,
    }
    if not measure:
        return answer
    if pixel_size_um is None:
        answer["reason"] = "the file tells no pixel size; nothing was measured"
        return answer
    answer["measurements"] = row
    answer["seconds"] = seconds | result.seconds | {"measure": measured - reconstructed}
    return answer


def _measured(
    ingest: ScanIngest,
    angles_deg: NDArray[np.float64],
    rotation_axis_px: float,
    tomogram_file: Path,
    settings: AnalysisSettings,
    pixel_size_um: float,
) -> dict[str, float | int | str | None]:
    """Measure the tomogram while the sinograms are at hand, for its companion."""
    from analysis.companion import companion_of
    from analysis.measure import measure_tomogram

    return measure_tomogram(
        open_volume(tomogram_file),
        settings.measurement,
        pictures_dir=tomogram_file.parent / "pictures",
        open_faces=companion_of(
            ingest, angles_deg, rotation_axis_px, tomogram_file, settings, pixel_size_um
        ),
    ).row()


def _number(value: float) -> float | None:
    """Return None for what is no number: JSON has no word for it."""
    return value if np.isfinite(value) else None
