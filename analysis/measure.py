"""Measure a tomogram: where its pellet is, how it is cracked, how thick its layers are.

The volume is read three times in slabs (coarse overview, crack mask, volumes and
widths); nothing of its size in float32 is ever held.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from analysis.errors import MeasurementError
from analysis.measurement.body import Body, whole_body
from analysis.measurement.chips import find_chips
from analysis.measurement.cracks import measure_cracks
from analysis.measurement.grey_levels import (
    LevelField,
    Levels,
    constant_field,
    find_levels,
    fit_level_field,
)
from analysis.measurement.interface_step import OpenFaces, with_interfaces
from analysis.measurement.interfaces import warm_up as warm_up_interfaces
from analysis.measurement.isolation import find_shards, find_solid, isolate_pellet
from analysis.measurement.lithium import Lithium
from analysis.measurement.new_cracks import find_new_cracks
from analysis.measurement.overview import Overview, read_overview
from analysis.measurement.pictures import write_slices
from analysis.measurement.reference import (
    PristineVolume,
    Reference,
    previous_cracks,
    read_pristine,
)
from analysis.measurement.registration import (
    RigidMotion,
    between,
    register_rigid,
    registration_volume,
)
from analysis.measurement.render import render_cracks, write_render
from analysis.measurement.result import TomogramMeasurement
from analysis.measurement.settings import MeasurementSettings
from analysis.measurement.size_check import size_reason
from analysis.measurement.thickness import fit_electrode, fit_pellet_faces
from analysis.volume import ArrayVolume, VolumeSource

MASK_VALUES = ((0.0, 1.0), (0.0, 255.0))
"""A volume of these two values is a mask whose higher value is the crack."""

CONVERGED_PX = 0.05
"""Last step of a registration that still counts as converged."""

ROTATION_SD_RAD = 1e-3
"""The cell stays on the stage, whose encoder repeats better than that."""


def measure_tomogram(
    volume: VolumeSource,
    settings: MeasurementSettings,
    *,
    reference: Reference | None = None,
    lithium: Lithium | None = None,
    pictures_dir: Path | None = None,
    open_faces: OpenFaces | None = None,
) -> TomogramMeasurement:
    """Measure a tomogram; what cannot be measured has a reason in the result.

    Parameters
    ----------
    volume : VolumeSource
        Grey values (z, y, x), row 0 on the anode's side.
    settings : MeasurementSettings
        How to measure.
    reference : Reference, optional
        Earlier tomograms, for drift, new cracks and the common grey scale.
    lithium : Lithium, optional
        What has been plated, for the filling fraction.
    pictures_dir : Path, optional
        Where to write slices as PNG.
    open_faces : callable, optional
        Gives the phase-retrieved companion in which voids at the faces are measured;
        without it they are looked for in the volume itself.

    Raises
    ------
    DataError
        Where the volume or a reference cannot be read.
    """
    reference = reference or Reference()
    result = TomogramMeasurement(volume.voxel_size_um, volume.shape, lithium=lithium)
    try:
        overview = read_overview(volume, settings.slab_bytes)
        if settings.body == "whole":
            body, levels = _whole(overview)
            result = replace(result, body=body, levels=levels)
        else:
            result = _isolated(result, overview, settings)
            body, levels = result.body, result.levels
        if body is None or levels is None:
            return result
        if settings.body == "pellet":
            result = _checked_size(result, settings)
        pristine = None
        if reference.pristine_file is not None and settings.body == "pellet":
            pristine = read_pristine(reference.pristine_file)
            result = _registered(result, overview, pristine)
        grey = (levels.low, levels.mean())
        if pristine is not None:
            grey = (pristine.grey_low, pristine.grey_high)
        if pictures_dir is not None:
            pictures = _pictures(volume, overview, body, grey, pictures_dir)
            result = replace(result, pictures=pictures)
        if settings.body == "pellet":
            result = with_interfaces(
                result, volume, settings, open_faces,
                front=overview.front, grey=grey, pictures_dir=pictures_dir,
            )  # fmt: skip
        is_mask = overview.two_valued
        del overview  # as large as all that follows
        crack = measure_cracks(volume, body, levels, settings, is_mask=is_mask)
        result = replace(result, crack=crack)
        if reference.previous_file is not None:
            result = _compared(result, reference.previous_file, settings)
        if pictures_dir is not None:
            result = _rendered(result, pictures_dir)
    except MeasurementError as error:
        result = _with_reason(result, str(error))
    return result


def warm_up() -> None:
    """Compile the kernels, or load them from the cache, on a small cracked disc."""
    z, y, x = np.mgrid[:48, :64, :64].astype(np.float32)
    solid = (np.hypot(y - 31.5, x - 31.5) < 26) & (z > 12) & (z < 36)
    grey = np.where(solid & (np.abs(x - 30 - 0.1 * z) > 2), 1.0, 0.0)
    noise = np.random.default_rng(0).normal(0, 0.05, grey.shape)
    volume = ArrayVolume((grey + noise).astype(np.float32), 1.0)
    warm_up_interfaces()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "result.h5"
        result = measure_tomogram(volume, MeasurementSettings())
        result.write(file)
        measure_tomogram(
            volume,
            MeasurementSettings(),
            reference=Reference(file, file),
            pictures_dir=Path(directory),
        )


def _whole(overview: Overview) -> tuple[Body, LevelField]:
    """Return the whole volume as the body, and its two levels."""
    values = (overview.low_value, overview.high_value)
    if not overview.two_valued:
        levels = find_levels(overview.coarse)
    elif values in MASK_VALUES:
        levels = Levels(values[1], values[0], 0.0)
    else:
        levels = Levels(values[0], values[1], 0.0)
    return whole_body(overview.shape), constant_field(levels)


def _isolated(
    result: TomogramMeasurement, overview: Overview, settings: MeasurementSettings
) -> TomogramMeasurement:
    """Find pellet, grey levels, faces and electrodes."""
    voxel_um = result.voxel_um
    levels = find_levels(overview.coarse)
    pellet = find_solid(overview, levels, voxel_um)
    body = isolate_pellet(overview, levels, pellet, voxel_um, settings)
    reasons = []
    faces = None
    try:
        body, faces = fit_pellet_faces(overview, body)
    except RuntimeError as error:
        reasons.append(f"faces of the pellet not fitted: {error}")
    low, electrode = _low_levels(overview, levels, body)
    sound = _sound_solid(overview, levels, pellet, body)
    field = fit_level_field(overview.coarse, sound, overview.factor, low, electrode)
    window_px = settings.electrode_window_um / voxel_um
    electrodes = [
        fit_electrode(overview, body, levels, window_px, top=top)
        for top in (True, False)
    ]
    for name, electrode in zip(("anode", "cathode"), electrodes, strict=True):
        if electrode.reason:
            reasons.append(f"{name}: {electrode.reason}")
    return replace(
        result,
        registration=_for_registration(overview, body, field),
        body=body,
        shards=find_shards(overview, levels, body),
        chips=find_chips(overview, levels, body, voxel_um),
        levels=field,
        faces=faces,
        anode=electrodes[0],
        cathode=electrodes[1],
        reasons=(*result.reasons, *reasons),
    )


def _checked_size(
    result: TomogramMeasurement, settings: MeasurementSettings
) -> TomogramMeasurement:
    """Say where the pellet is not as large as it is declared."""
    if result.body is None:
        return result
    voxel_um, faces = result.voxel_um, result.faces
    reason = size_reason(
        2 * float(np.median(result.body.rim)) * voxel_um,
        None if faces is None else faces.thickness_px * voxel_um,
        voxel_um,
        settings,
    )
    return _with_reason(result, reason) if reason else result


def _for_registration(
    overview: Overview, body: Body, levels: LevelField
) -> PristineVolume:
    """Return the tomogram binned, and where its pellet is."""
    coarse, factor = registration_volume(overview.coarse, overview.factor)
    z, y, x = ((np.arange(size) + 0.5) * factor - 0.5 for size in coarse.shape)
    margin = 2 * factor
    near = np.hypot((y - body.centre[0])[:, None], (x - body.centre[1])[None, :])
    disc = near < float(np.median(body.rim)) + margin
    top, bottom = float(np.median(body.top)), float(np.median(body.bottom))
    rows = (z > top - margin) & (z < bottom + margin)
    pellet = rows[:, None, None] & disc
    return PristineVolume(coarse, factor, pellet, levels.low, levels.mean())


def _registered(
    result: TomogramMeasurement, overview: Overview, pristine: PristineVolume
) -> TomogramMeasurement:
    """Find the motion from the pristine tomogram."""
    coarse, factor = registration_volume(overview.coarse, overview.factor)
    if factor != pristine.factor or coarse.shape != pristine.coarse.shape:
        return _with_reason(
            result,
            "not registered: the pristine tomogram has another shape than this one's "
            f"{overview.shape}; measure them with the same rows and binning",
        )
    try:
        motion = register_rigid(
            pristine.coarse,
            coarse,
            mask=pristine.pellet,
            contrast=pristine.grey_high - pristine.grey_low,
            rotation_sd_rad=ROTATION_SD_RAD,
        ).in_voxels_of(factor)
    except MeasurementError as error:
        return _with_reason(result, f"not registered: {error}")
    if motion.step_px > CONVERGED_PX:
        return _with_reason(
            result,
            "registration to the pristine tomogram does not converge: its last step "
            f"is {motion.step_px:.2g} voxels; look at both for a shift or a mix-up",
        )
    return replace(result, motion=motion)


def _compared(
    result: TomogramMeasurement, previous_file: Path, settings: MeasurementSettings
) -> TomogramMeasurement:
    """Find the cracks that the tomogram before did not have."""
    if result.crack is None or result.body is None:
        return result
    with previous_cracks(previous_file) as previous:
        if previous.shape != result.shape:
            return _with_reason(
                result,
                f"new cracks not told: the tomogram before has {previous.shape} "
                f"voxels, this one {result.shape}",
            )
        matrix, offset = between(result.motion or RigidMotion.none(), previous.motion)
        smallest = max(1, round(settings.min_crack_volume_um3 / result.voxel_um**3))
        new = find_new_cracks(
            result.crack.mask, previous.rows, matrix, offset, result.body, smallest,
            settings.slab_bytes,
        )  # fmt: skip
        return replace(result, new=new, previous_volume_um3=previous.volume_um3)


def _rendered(result: TomogramMeasurement, directory: Path) -> TomogramMeasurement:
    """Draw the cracks in three dimensions, where there are any."""
    if result.crack is None or result.body is None or result.crack.widths is None:
        return result
    new = None if result.new is None else result.new.mask
    picture, pixel_px = render_cracks(result.crack.mask, new, result.body)
    file = write_render(
        picture,
        pixel_px * result.voxel_um,
        directory / "cracks_3d.png",
        new_known=new is not None,
    )
    return replace(result, pictures=(*result.pictures, file))


def _with_reason(result: TomogramMeasurement, reason: str) -> TomogramMeasurement:
    return replace(result, reasons=(*result.reasons, reason))


def _low_levels(overview: Overview, levels: Levels, body: Body) -> tuple[float, float]:
    """Return the grey of an empty crack, which is that of air, and of lithium.

    Where one of them is not in view the other stands for it: they are 1.2 % of the
    contrast apart.
    """
    factor = overview.factor
    coarse = overview.coarse
    ny, nx = coarse.shape[1:]
    y = (np.arange(ny) + 0.5) * factor - 0.5
    x = (np.arange(nx) + 0.5) * factor - 0.5
    radius = np.hypot((y - body.centre[0])[:, None], (x - body.centre[1])[None, :])
    rim = float(np.median(body.rim))
    top = int(np.median(body.top)) // factor + 2
    bottom = int(np.median(body.bottom)) // factor - 1
    # Beyond the circle that every projection sees, a slice is not reconstructed.
    seen = 0.5 * min(overview.shape[1:]) - 2
    from_axis = np.hypot(
        (y - overview.shape[1] // 2)[:, None], (x - overview.shape[2] // 2)[None, :]
    )
    beside = (radius > rim + 6 + factor) & (from_axis < seen)
    air = coarse[max(top, 0) : max(bottom, top + 1), beside]
    air = air[air < levels.threshold]
    within = radius < 0.8 * rim
    reach = 12 // factor + 1
    first = max(int(body.top.min()) // factor - 3, 0)
    last = int(body.bottom.max()) // factor + 4
    above = coarse[max(first - reach, 0) : first, within]
    below = coarse[last : last + reach, within]
    lithium = np.concatenate([above.ravel(), below.ravel()])
    lithium = lithium[lithium < levels.threshold]
    if max(air.size, lithium.size) < 500:
        raise MeasurementError(
            "neither air beside the pellet nor lithium above and below is in view: "
            "the grey of an empty crack cannot be found; use a larger field of view"
        )
    low = float(np.median(air if air.size >= 500 else lithium))
    electrode = float(np.median(lithium)) if lithium.size >= 500 else low
    return low, electrode


def _sound_solid(
    overview: Overview, levels: Levels, pellet: np.ndarray, body: Body
) -> np.ndarray:
    """Return the coarse voxels of solid away from cracks and surfaces."""
    # Chosen after smoothing: noise must not choose the bright voxels for the level.
    smooth = ndimage.gaussian_filter(overview.coarse, 2.0 / overview.factor)
    high = smooth > levels.low + 0.85 * (levels.high - levels.low)
    margin = max(1, -(-4 // overview.factor))
    eroded = ndimage.binary_erosion(high & pellet, iterations=margin)
    factor = overview.factor
    z = (np.arange(len(eroded)) + 0.5) * factor - 0.5
    top, bottom = float(np.median(body.top)), float(np.median(body.bottom))
    eroded[(z < top + 4) | (z > bottom - 4)] = False
    return eroded


def _pictures(
    volume: VolumeSource,
    overview: Overview,
    body: Body,
    grey: tuple[float, float],
    directory: Path,
) -> tuple[Path, ...]:
    """Write the orthogonal slices through the axis of rotation and the mid-pellet."""
    middle = round(0.5 * float(np.median(body.top) + np.median(body.bottom)))
    middle = min(max(middle, 0), volume.shape[0] - 1)
    planes = {
        "slice_xy": volume.slab(middle, middle + 1)[0],
        "slice_xz": overview.front,
        "slice_yz": overview.side,
    }
    return write_slices(planes, *grey, volume.voxel_size_um, directory)
