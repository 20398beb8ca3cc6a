"""The rows around the pellet's faces again, with their phase retrieved.

Lithium and a void differ by 1.2 % of the electrolyte's attenuation, but by a quarter
of its refractive decrement. Fringes at a boundary of two materials are undone by the
ratio of the differences of their delta and beta [1]_: then electrolyte and lithium
meet without a trace, whatever the shape of the face, and a void between them stands
out dark.

References
----------
.. [1] M. A. Beltran et al., Opt. Express 18 (2010) 6423, doi:10.1364/OE.18.006423
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.ingest import ScanIngest
from analysis.measurement.body import Body
from analysis.measurement.faces_volume import FacesVolume, faces_file
from analysis.measurement.grey_levels import LevelField
from analysis.measurement.interface_step import OpenFaces
from analysis.measurement.interfaces import face_rows
from analysis.measurement.void_optics import boundary_delta_beta, phase_length_um
from analysis.memory import STORE_FRAC, share_bytes
from analysis.normalise import PixelCounts
from analysis.phase import PhaseRetrieval
from analysis.pipeline import reconstruct
from analysis.settings import AnalysisSettings, PhaseSettings
from analysis.sinogram_store import SinogramStore

MARGIN_LENGTHS = 4
"""Rows beyond the wanted ones that the filter sees, in its lengths: what is farther
away weighs less than 2 %."""


@dataclass(frozen=True)
class _Source:
    """What `analysis.pipeline.reconstruct` takes of a scan."""

    name: str
    store: SinogramStore
    counts: PixelCounts
    frames_without_air: int


def companion_of(
    ingest: ScanIngest,
    angles_deg: NDArray[np.float64],
    rotation_axis_px: float,
    tomogram_file: Path,
    settings: AnalysisSettings,
    pixel_size_um: float,
) -> OpenFaces | None:
    """Return what makes the companion of a tomogram; None where none is asked for."""
    if settings.reconstruction.interface_phase is None:
        return None
    return lambda body, levels: make_companion(
        ingest, angles_deg, rotation_axis_px, tomogram_file, settings,
        pixel_size_um=pixel_size_um, body=body, levels=levels,
    )  # fmt: skip


def make_companion(
    ingest: ScanIngest,
    angles_deg: NDArray[np.float64],
    rotation_axis_px: float,
    tomogram_file: Path,
    settings: AnalysisSettings,
    *,
    pixel_size_um: float,
    body: Body,
    levels: LevelField,
) -> FacesVolume:
    """Retrieve and reconstruct the rows around both faces, beside the tomogram.

    Parameters
    ----------
    ingest, angles_deg, rotation_axis_px, tomogram_file
        As `analysis.pipeline.reconstruct` took them for the tomogram itself.
    settings : AnalysisSettings
        ``reconstruction.interface_phase`` is set.
    pixel_size_um : float
        At the sample, before binning.
    body, levels
        The pellet and its grey levels in the tomogram, per voxel.

    Raises
    ------
    DataError
        No face with lithium before it is in view, or the settings do not fit.
    """
    about = settings.reconstruction
    given = about.interface_phase
    if given is None:
        raise DataError("analysis.reconstruction.interface_phase is not set")
    voxel_um = pixel_size_um * about.binning
    try:
        delta_beta = boundary_delta_beta(
            given.delta_beta, given.energy_kev, levels.mean() / voxel_um,
            levels.electrode / voxel_um,
        )  # fmt: skip
    except ValueError as error:
        raise DataError(f"interface_phase: {error}") from error
    phase = given.model_copy(update={"delta_beta": delta_beta})
    height = ingest.store.height_px
    reach_px = settings.measurement.void_reach_um / voxel_um
    wanted = [
        rows for rows in face_rows(body, reach_px) if rows[0] >= 0 and rows[1] <= height
    ]
    if not wanted:
        raise DataError("the lithium at the faces of the pellet is out of view")
    limit = share_bytes(about.memory_limit_gib, STORE_FRAC)
    number = sum(stop - start for start, stop in wanted)
    path = faces_file(tomogram_file)
    with SinogramStore(
        ingest.store.num_angles, number, ingest.store.width_px,
        directory=path.parent, memory_limit_bytes=limit,
    ) as store:  # fmt: skip
        threads = about.threads or len(os.sched_getaffinity(0))
        for index, rows in _retrieved(ingest.store, wanted, phase, voxel_um, threads):
            store.put(index, rows)
        store.end()
        made = reconstruct(
            _Source(ingest.name, store, ingest.counts, ingest.frames_without_air),
            angles_deg,
            rotation_axis_px,
            path,
            about.model_copy(
                update={"pyramid_levels": 0, "output": "float32", "output_range": None}
            ),
            pixel_size_um=pixel_size_um,
        )
    with h5py.File(path, "r+") as file:
        group = file.create_group("entry/faces")
        group["rows"] = np.array(wanted)
        group.attrs["volume_shape"] = (height, *made.shape[1:])
        group.attrs["delta_beta"] = delta_beta
        group.attrs["distance_mm"] = phase.distance_mm
        group.attrs["energy_kev"] = phase.energy_kev
    return FacesVolume(path)


def _retrieved(
    store: SinogramStore,
    wanted: list[tuple[int, int]],
    phase: PhaseSettings,
    voxel_um: float,
    threads: int,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each frame's wanted rows, one range below the other, phase retrieved."""
    length_um = phase_length_um(phase.delta_beta, phase.distance_mm, phase.energy_kev)
    margin = int(np.ceil(MARGIN_LENGTHS * length_um / voxel_um))
    read = [
        (max(start - margin, 0), min(stop + margin, store.height_px))
        for start, stop in wanted
    ]
    filters = [
        PhaseRetrieval(phase, (last - first, store.width_px), voxel_um)
        for first, last in read
    ]

    def rows_of(index: int) -> NDArray[np.float32]:
        parts = []
        ranges = zip(wanted, read, filters, strict=True)
        for (start, stop), (first, last), retrieve in ranges:
            frame = retrieve(store.frame(index, first, last))
            parts.append(frame[start - first : stop - first])
        return np.concatenate(parts)

    indices = [int(index) for index in np.flatnonzero(store.received)]
    with ThreadPoolExecutor(threads) as pool:
        # A few at a time: `map` over all would hold every frame's rows at once.
        for begin in range(0, len(indices), 4 * threads):
            some = indices[begin : begin + 4 * threads]
            yield from zip(some, pool.map(rows_of, some), strict=True)
