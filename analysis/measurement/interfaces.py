"""Where the lithium has lost the electrolyte: voids at both faces of the pellet.

By absorption a void is 1.2 % of the contrast darker than lithium; in a phase-retrieved
companion of the rows around the faces it is a third. There each column is fitted:
electrolyte, void, lithium. By absorption alone only what is thick and wide is seen, as
a lack of grey beyond the blur of the electrolyte. Both say what they could not see:
voids thinner than a floor count as contact.
"""

import math
from dataclasses import dataclass
from typing import Literal

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from analysis.errors import MeasurementError
from analysis.measurement.body import Body
from analysis.measurement.face_band import FaceBand, read_face_band
from analysis.measurement.face_voids import FaceVoids
from analysis.measurement.interface_absorption import find_wide_voids
from analysis.measurement.interface_phase import fit_thin_voids
from analysis.measurement.void_optics import VoidOptics
from analysis.volume import ArrayVolume, VolumeSource

INSIDE_PX = 10
"""Voxels of each column below the face, for the level of the electrolyte."""

RIM_MARGIN_PX = 6.0
"""Columns nearer to the rim hold its blur."""

SHORTEST_PX = 6
"""Shorter columns of lithium hold no void and lithium beside it."""

CONTRAST_SD_FRAC = 0.03
"""Uncertainty of a void's contrast: mean energy, ratio of delta to beta."""

EDGE_SD_PX = 0.1
"""Bias of a fitted void's thickness on phantoms."""

Source = Literal["phase", "attenuation"]


@dataclass(frozen=True)
class Interface:
    """One face of the pellet and the lithium before it.

    Attributes
    ----------
    voids : FaceVoids, optional
        None where they could not be told; ``reason`` says why.
    lost_frac, lost_sd_frac : float
        Area without contact, as a share of the columns seen.
    thickness_px, thickness_q95_px : float, optional
        Mean and 95th percentile of the thickness where contact is lost.
    volume_px, volume_sd_px : float
        Volume of the voids.
    number : int
        Voids apart from each other.
    seen_frac : float
        Share of the face in which contact can be told.
    """

    voids: FaceVoids | None = None
    reason: str = ""
    lost_frac: float = 0.0
    lost_sd_frac: float = 0.0
    thickness_px: float | None = None
    thickness_q95_px: float | None = None
    volume_px: float = 0.0
    volume_sd_px: float = 0.0
    number: int = 0
    seen_frac: float = 0.0


@dataclass(frozen=True)
class Interfaces:
    """Both faces, and what they were seen by."""

    anode: Interface
    cathode: Interface
    source: Source


def measure_interfaces(
    volume: VolumeSource,
    body: Body,
    optics: VoidOptics,
    *,
    reach_um: float,
    slab_bytes: int,
    lithium_px: tuple[float | None, float | None] = (None, None),
) -> Interfaces:
    """Find the voids at both faces of the pellet.

    Parameters
    ----------
    volume : VolumeSource
        The rows around the faces, phase-retrieved or not; others are not read.
    body : Body
        The pellet.
    optics : VoidOptics
        What a void shows in this volume.
    reach_um : float
        Voids thicker than this are not followed further.
    slab_bytes : int
        Size of the slab of the volume held at once.
    lithium_px : tuple[float or None, float or None]
        Thickness of the lithium at the anode and the cathode, where it is known:
        beyond it there is none to compare with.
    """
    within, heights = _face_heights(body)
    faces = []
    for top, face, thickness in zip((True, False), heights, lithium_px, strict=True):
        reach_px = _whole_reach(reach_um / volume.voxel_size_um)
        if thickness is not None:
            reach_px = min(reach_px, int(thickness - SHORTEST_PX) // 2)
        if reach_px < SHORTEST_PX:
            faces.append(Interface(reason="the lithium is too thin to tell voids"))
            continue
        band = read_face_band(
            volume, face, top=top, inside_px=INSIDE_PX,
            outside_px=_outside_px(reach_px), within=within, reach_px=reach_px,
            sigma_px=body.edge_sigma_px, slab_bytes=slab_bytes,
        )  # fmt: skip
        if band is None:
            found = Interface(reason="the lithium at the face is out of view")
        else:
            found = _measure_face(band, optics)
        faces.append(found)
    return Interfaces(*faces, source="phase" if optics.length_px else "attenuation")


def warm_up() -> None:
    """Compile the kernels, or load them from the cache, on a small face."""
    shape = (40, 24, 24)
    z = np.arange(shape[0], dtype=np.float32)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 0.01, shape)
    grey = np.where(z > 20, 1.0, 0.3) + noise
    grey[17:21, 8:16, 8:16] = 0
    face = np.full(shape[1:], 20.5, np.float32)
    rim = np.full((shape[0], 4), 100.0, np.float32)
    body = Body(face, face + 100, rim, (11.5, 11.5), 0.8)
    volume = ArrayVolume(grey.astype(np.float32), 1.0)
    for optics in (VoidOptics(0.3), VoidOptics(0.3, 2.0, 0.9)):
        measure_interfaces(volume, body, optics, reach_um=6.0, slab_bytes=2**20)


def face_rows(body: Body, reach_px: float) -> list[tuple[int, int]]:
    """Return the rows (start, stop) that `measure_interfaces` reads at each face.

    They may lie outside the volume.
    """
    outside = _outside_px(_whole_reach(reach_px))
    _, (top, bottom) = _face_heights(body)
    return [
        (
            round(float(top.min())) - outside,
            round(float(top.max())) + INSIDE_PX + 2,
        ),
        (
            round(float(bottom.min())) - INSIDE_PX - 1,
            round(float(bottom.max())) + outside + 1,
        ),
    ]


def _whole_reach(reach_px: float) -> int:
    # A voxel size read back from a file differs in its last digits.
    return max(SHORTEST_PX, math.ceil(reach_px - 0.01))


def _outside_px(reach_px: int) -> int:
    """Return how many voxels of lithium are read: voids, then lithium for sure."""
    return 2 * reach_px + 4


def _face_heights(
    body: Body,
) -> tuple[NDArray[np.bool_], tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the columns inside the rim, and both faces, kept level outside it."""
    radius, _ = body.polar()
    within = radius < float(np.median(body.rim)) - RIM_MARGIN_PX
    faces = [
        np.clip(face, face[within].min(), face[within].max())
        for face in (body.top, body.bottom)
    ]
    return within, (faces[0], faces[1])


def _measure_face(band: FaceBand, optics: VoidOptics) -> Interface:
    try:
        if optics.length_px:
            voids = fit_thin_voids(band, optics)
        else:
            voids = find_wide_voids(band, optics)
    except MeasurementError as error:
        return Interface(reason=str(error))
    return _summed(voids, band.within)


def _summed(voids: FaceVoids, within: NDArray[np.bool_]) -> Interface:
    """Sum up the columns of one face."""
    height = voids.height_px
    seen = np.isfinite(height)
    number_seen = int(seen.sum())
    if number_seen < 0.05 * within.sum():
        return Interface(reason="cracks and shards hide the face")
    lost = seen & (np.nan_to_num(height) > 0)
    number_lost = int(lost.sum())
    volume = float(height[lost].sum(dtype=np.float64))
    lost_frac = number_lost / number_seen
    # A column that a lower floor adds, or a higher one drops, holds about the floor.
    spread = 0.5 * (voids.loose_frac - voids.tight_frac)
    lost_sd = math.hypot(spread, voids.false_frac)
    volume_sd = math.hypot(
        CONTRAST_SD_FRAC * volume,
        EDGE_SD_PX * number_lost,
        lost_sd * number_seen * voids.floor_px,
    )
    labelled = ndimage.label(lost)
    number = labelled[1]  # pyright: ignore[reportIndexIssue]  # scipy's stub
    thickness = volume / number_lost if number_lost else None
    thickest = float(np.quantile(height[lost], 0.95)) if number_lost else None
    return Interface(
        voids=voids,
        lost_frac=lost_frac,
        lost_sd_frac=lost_sd,
        thickness_px=thickness,
        thickness_q95_px=thickest,
        volume_px=volume,
        volume_sd_px=volume_sd,
        number=int(number),
        seen_frac=number_seen / max(int(within.sum()), 1),
    )


NAMES = (
    "contact_loss_frac",
    "contact_loss_sd_frac",
    "void_thickness_um",
    "void_thickness_q95_um",
    "void_volume_um3",
    "void_volume_sd_um3",
    "voids",
    "void_floor_um",
    "void_floor_across_um",
    "interface_seen_frac",
)


def interface_row(
    interfaces: Interfaces | None, voxel_um: float
) -> dict[str, float | int | str | None]:
    """Return the columns of both interfaces; None where not measured."""
    row: dict[str, float | int | str | None] = {"interface_source": None}
    row.update({f"{face}_{name}": None for face in FACES for name in NAMES})
    if interfaces is None:
        return row
    row["interface_source"] = interfaces.source
    for face in FACES:
        one: Interface = getattr(interfaces, face)
        if one.voids is None:
            continue
        values = (
            one.lost_frac,
            one.lost_sd_frac,
            _scaled(one.thickness_px, voxel_um),
            _scaled(one.thickness_q95_px, voxel_um),
            one.volume_px * voxel_um**3,
            one.volume_sd_px * voxel_um**3,
            one.number,
            one.voids.floor_px * voxel_um,
            one.voids.floor_across_px * voxel_um,
            one.seen_frac,
        )
        row.update({f"{face}_{name}": v for name, v in zip(NAMES, values, strict=True)})
    return row


FACES = ("anode", "cathode")


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def interface_reasons(interfaces: Interfaces) -> tuple[str, ...]:
    """Return why an interface could not be measured, one text for each."""
    return tuple(
        f"{face} interface: {getattr(interfaces, face).reason}"
        for face in FACES
        if getattr(interfaces, face).reason
    )


def write_interfaces(
    entry: h5py.Group, interfaces: Interfaces | None, voxel_um: float
) -> None:
    """Write the map of void thickness of each face, in um, NaN where not seen."""
    if interfaces is None:
        return
    for face in FACES:
        one: Interface = getattr(interfaces, face)
        if one.voids is None:
            continue
        group = entry.require_group(f"interfaces/{face}")
        data = group.create_dataset(
            "void_um",
            data=(one.voids.height_px * np.float32(voxel_um)).astype(np.float16),
            **hdf5plugin.Bitshuffle(),
        )
        data.attrs["units"] = "um"
        group.attrs["source"] = interfaces.source
        group.attrs["floor_um"] = one.voids.floor_px * voxel_um
