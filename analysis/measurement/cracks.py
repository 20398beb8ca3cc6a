"""The cracks of one body: mask, components, volume and width, in two readings."""

import math

import numpy as np
from numpy.typing import NDArray

from analysis.measurement.body import Body
from analysis.measurement.components import Labeller
from analysis.measurement.crack_mask import PackedMask, crack_codes, smooth
from analysis.measurement.crack_volume import (
    SUM_HALO_PX,
    CrackSums,
    crack_volume,
    distance_squared,
    sum_rows,
)
from analysis.measurement.crack_width import Widths, measure_widths
from analysis.measurement.deficit import CLEAR, INSIDE, DeficitVolume
from analysis.measurement.grey_levels import LevelField
from analysis.measurement.mouths import FaceNotches
from analysis.measurement.overview import slab_rows
from analysis.measurement.result import CrackMeasurement
from analysis.measurement.settings import MeasurementSettings
from analysis.measurement.surface_shift import SurfaceShiftSums
from analysis.volume import VolumeSource

NOISE_VOXELS = 8
"""Fewer voxels together are not even worth counting as noise."""


def measure_cracks(
    volume: VolumeSource,
    body: Body,
    levels: LevelField,
    settings: MeasurementSettings,
    *,
    is_mask: bool,
) -> CrackMeasurement:
    """Find the cracks of a body, then sum their deficit and sample their width.

    Parameters
    ----------
    volume : VolumeSource
        Grey values (z, y, x).
    body : Body
        What cracks.
    levels : LevelField
        Grey of the solid and of an empty crack.
    settings : MeasurementSettings
        Thresholds and sizes.
    is_mask : bool
        The volume holds two values only: every voxel counts, nothing is smoothed.
    """
    voxel_um = volume.voxel_size_um
    deficit = DeficitVolume(volume, body, levels, settings.rim_shell_um / voxel_um)
    smallest = max(1, round(settings.min_crack_volume_um3 / voxel_um**3))
    if is_mask:
        smallest = 1
    mask, strong, noise = _find_mask(deficit, settings, smallest, is_mask=is_mask)
    sampler = _WidthSampler(mask, settings, deficit)
    shifts = None if deficit.sharp else SurfaceShiftSums(body, levels)
    tables = []
    near, direct = (
        Labeller(deficit.shape[1:]),
        Labeller(deficit.shape[1:], diagonal=False),
    )
    for window in deficit.windows(1, settings.slab_bytes):
        core = window.core
        first, stop = window.first_row + core.start, window.first_row + core.stop
        missing, region = window.deficit[core], window.region[core]
        smoothed = sampler.space(stop - first)
        if is_mask:
            smoothed[:] = missing
        else:
            smooth(window.deficit, core.start, smoothed)
        around = mask.get(first - SUM_HALO_PX, stop + SUM_HALO_PX)
        masked = around[SUM_HALO_PX:-SUM_HALO_PX]
        distance = np.empty(masked.shape, np.uint8)
        distance_squared(around, SUM_HALO_PX, distance)
        tables.append(
            sum_rows(
                missing,
                smoothed,
                region,
                distance,
                masked,
                settings.crack_threshold_frac,
            )  # fmt: skip
        )
        if shifts is not None:
            shifts.add(first, distance)
        near.add(first, masked, region)
        direct.add(first, masked, region)
        sampler.sample(first, region, masked)
    sums = CrackSums(deficit.rows[0], np.concatenate(tables))
    shifted = None if shifts is None else shifts.finish()
    crack = crack_volume(
        sums, levels.residual_frac, float(smallest),
        0.0 if shifted is None else shifted.sd_px,
    )  # fmt: skip
    return CrackMeasurement(
        mask=mask,
        components=near.finish(),
        components_6=direct.finish(),
        volume=crack,
        widths=sampler.widths(),
        noise_components=noise[0],
        noise_voxels=noise[1],
        low_voxels=strong if deficit.sharp else round(crack.counted_px),
        body_voxels=body.volume_px(),
        shifts=shifted,
    )


def _find_mask(
    deficit: DeficitVolume,
    settings: MeasurementSettings,
    smallest: int,
    *,
    is_mask: bool,
) -> tuple[PackedMask, int, tuple[int, int]]:
    """Return the mask without noise, the number of strong voxels, and the noise."""
    ny, nx = deficit.shape[1:]
    mask = PackedMask.empty(deficit.rows, ny, nx)
    shell = PackedMask.empty(deficit.rows, ny, nx)
    labeller = Labeller((ny, nx))
    notches = None if deficit.sharp else FaceNotches(deficit.body, deficit.deep_px)
    strong_voxels = 0
    for part in crack_codes(
        deficit, settings.crack_threshold_frac, settings.crack_growth_threshold_frac,
        INSIDE if deficit.sharp else CLEAR, settings.slab_bytes,
        smoothing=not is_mask,
    ):  # fmt: skip
        shell.put(part.first_row, part.shell)
        labeller.add(part.first_row, part.codes)
        mask.put(part.first_row, part.codes)
        if notches is not None:
            notches.add(part.first_row, part.deficit)
        strong_voxels += part.strong
    found = labeller.finish()
    keep = found.strong & (found.voxels >= smallest)
    noise = ~keep & (found.voxels >= NOISE_VOXELS)
    keep_label = np.append(keep, False)[found.of_label]
    labeller = Labeller((ny, nx))
    step = slab_rows(deficit.shape, settings.slab_bytes)
    begin, end = deficit.rows
    for start in range(begin, end, step):
        stop = min(start + step, end)
        masked = mask.get(start, stop)
        labeller.add(start, masked, keep=keep_label)
        mask.put(start, masked)
    if notches is not None and keep.any():
        _grow_into_shell(mask, shell, notches, deficit.deep_px, step)
    return mask, strong_voxels, (int(noise.sum()), int(found.voxels[noise].sum()))


def _grow_into_shell(
    mask: PackedMask,
    shell: PackedMask,
    notches: FaceNotches,
    deep_px: float,
    step: int,
) -> None:
    """Follow the cracks to the surface, and no farther along a rough one.

    A notch that goes on from there is no roughness.
    """
    reach = min(6, math.ceil(deep_px) + 1)
    begin, end = mask.rows
    grown = PackedMask.empty(mask.rows, mask.bits.shape[1], mask.width)
    seeds = np.zeros((2, mask.bits.shape[1], mask.width), np.bool_)
    for start in range(begin, end, step):
        stop = min(start + step, end)
        deep = mask.get(start - reach, stop + reach)
        core = slice(reach, reach + stop - start)
        distance = np.empty(deep[core].shape, np.uint8)
        distance_squared(deep, reach, distance)
        near = distance <= reach * reach
        shallow = shell.get(start, stop).view(np.bool_) & near
        grown.put(start, deep[core].view(np.bool_) | shallow)
        if notches.near_a_face(start, stop):
            at_anode = notches.side(start, stop - start)
            seeds[0] |= (shallow & at_anode).any(axis=0)
            seeds[1] |= (shallow & ~at_anode).any(axis=0)
    anode, cathode = notches.grown(seeds)
    for start in range(begin, end, step):
        stop = min(start + step, end)
        if notches.near_a_face(start, stop):
            at_anode = notches.side(start, stop - start)
            columns = np.where(at_anode, anode, cathode)
            more = shell.get(start, stop).view(np.bool_) & columns
            grown.put(start, grown.get(start, stop).view(np.bool_) | more)
    mask.bits = grown.bits


class _WidthSampler:
    """Measures widths at random voxels of a mask, as the rows around them arrive."""

    def __init__(
        self, mask: PackedMask, settings: MeasurementSettings, deficit: DeficitVolume
    ) -> None:
        number = mask.count()
        self._share = min(1.0, settings.width_samples / max(number, 1))
        self._half_px = settings.width_profile_um / deficit.voxel_um
        self._random = np.random.default_rng(settings.random_seed)
        self._halo_px = int(np.ceil(self._half_px)) + 3
        self._end = deficit.rows[1]
        step = slab_rows(deficit.shape, settings.slab_bytes)
        most = min(2 * (self._halo_px + step), self._end - deficit.rows[0])
        self._rows = np.empty((most, *deficit.shape[1:]), np.float32)
        self._first_row, self._held = deficit.rows[0], 0
        self._waiting = np.empty((0, 3), np.int64)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def space(self, number: int) -> NDArray[np.float32]:
        """Return where the smoothed deficit of the next rows is to be written."""
        if self._held + number > len(self._rows):
            # What waits needs this many rows before itself; rows overlap their new
            # place, so one by one.
            kept = 2 * self._halo_px
            for row in range(kept):
                self._rows[row] = self._rows[self._held - kept + row]
            self._first_row += self._held - kept
            self._held = kept
        self._held += number
        return self._rows[self._held - number : self._held]

    def sample(
        self, first_row: int, region: NDArray[np.uint8], mask: NDArray[np.uint8]
    ) -> None:
        """Choose some voxels of these rows, and measure where all neighbours are in."""
        candidates = np.flatnonzero(mask.view(bool) & ((region & CLEAR) > 0))
        chosen = candidates[self._random.random(len(candidates)) < self._share]
        points = np.stack(np.unravel_index(chosen, mask.shape), axis=1)
        points[:, 0] += first_row
        points = np.concatenate([self._waiting, points])
        last = self._first_row + self._held
        ready = points[:, 0] < (last if last == self._end else last - self._halo_px)
        self._waiting = points[~ready]
        self._measure(points[ready])

    def _measure(self, points: NDArray[np.int64]) -> None:
        if len(points) == 0:
            return
        width = np.empty(len(points), np.float32)
        crossing = np.empty(len(points), np.float32)
        met = np.empty(len(points), np.uint8)
        normals = np.empty((len(points), 3), np.float32)
        measure_widths(
            self._rows[: self._held], points - (self._first_row, 0, 0), self._half_px,
            width, crossing, met, normals,
        )  # fmt: skip
        self._parts.append((points.astype(np.int32), width, crossing, met > 0))

    def widths(self) -> Widths | None:
        """Return all that was measured, or None where there was no crack."""
        if not self._parts:
            return None
        points, width, crossing, met = (
            np.concatenate(part) for part in zip(*self._parts, strict=True)
        )
        usable = width > 0.25
        if usable.sum() < 10:
            return None
        return Widths(points[usable], width[usable], crossing[usable], met[usable])
