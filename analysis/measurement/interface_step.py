"""The interfaces' part of the measurement of a tomogram."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.measurement.body import Body
from analysis.measurement.faces_volume import FacesVolume
from analysis.measurement.grey_levels import LevelField
from analysis.measurement.interface_pictures import write_interface_pictures
from analysis.measurement.interfaces import interface_reasons, measure_interfaces
from analysis.measurement.result import TomogramMeasurement
from analysis.measurement.settings import MeasurementSettings
from analysis.measurement.thickness import ElectrodeFace
from analysis.measurement.void_optics import VoidOptics
from analysis.volume import VolumeSource

OpenFaces = Callable[[Body, LevelField], FacesVolume]
"""Makes or opens the phase-retrieved rows around the faces, once these are found."""


def with_interfaces(
    result: TomogramMeasurement,
    volume: VolumeSource,
    settings: MeasurementSettings,
    open_faces: OpenFaces | None,
    *,
    front: NDArray[np.float32] | None = None,
    grey: tuple[float, float] = (0.0, 1.0),
    pictures_dir: Path | None = None,
) -> TomogramMeasurement:
    """Return the result with its interfaces measured and drawn.

    Parameters
    ----------
    result : TomogramMeasurement
        Its pellet is found.
    volume : VolumeSource
        The tomogram, for where there is no companion.
    settings : MeasurementSettings
        How to measure.
    open_faces : callable, optional
        Gives the companion. What it fails with becomes a reason, and the tomogram
        stands in.
    front : ndarray, shape (z, x), optional
        Plane through the axis of rotation, for the pictures.
    grey : tuple[float, float]
        Their grey levels.
    pictures_dir : Path, optional
        Where they go.
    """
    body, levels = result.body, result.levels
    if body is None or levels is None:
        return result
    reasons: list[str] = []
    with ExitStack() as stack:
        faces = None
        source, optics = volume, VoidOptics(levels.electrode - levels.low)
        if open_faces is not None:
            try:
                faces = stack.enter_context(open_faces(body, levels))
                source, optics = faces, faces.optics(levels.electrode)
            except (DataError, OSError, MemoryError) as error:
                reasons.append(f"interfaces without phase retrieval: {error}")
        if not optics.contrast > 0:
            reasons.append("interfaces: the lithium is not brighter than air")
            return replace(result, reasons=(*result.reasons, *reasons))
        interfaces = measure_interfaces(
            source, body, optics, reach_um=settings.void_reach_um,
            slab_bytes=settings.slab_bytes,
            lithium_px=(_thickness_px(result.anode), _thickness_px(result.cathode)),
        )  # fmt: skip
        reasons += interface_reasons(interfaces)
        pictures = result.pictures
        if pictures_dir is not None and front is not None:
            pictures += write_interface_pictures(
                front, faces, interfaces, body, grey, result.voxel_um, pictures_dir
            )
    return replace(
        result,
        interfaces=interfaces,
        pictures=pictures,
        reasons=(*result.reasons, *reasons),
    )


def _thickness_px(electrode: ElectrodeFace | None) -> float | None:
    return None if electrode is None else electrode.thickness_px
