"""The cracks of one body: mask, components, volume and width, in two readings."""

import math

import numpy as np
from numpy.typing import NDArray

from analysis.measurement.body import Body
from analysis.measurement.components import Labeller
from analysis.measurement.crack_mask import (
    SHELL,
    STRONG,
    PackedMask,
    crack_codes,
    smooth,
)
from analysis.measurement.crack_volume import (
    CrackSums,
    crack_volume,
    distance_squared,
    sum_row_window,
)
from analysis.measurement.crack_width import Widths, measure_widths
from analysis.measurement.deficit import CLEAR, INSIDE, DeficitVolume, Window
from analysis.measurement.grey_levels import LevelField
from analysis.measurement.overview import slab_rows
from analysis.measurement.result import CrackMeasurement
from analysis.measurement.settings import MeasurementSettings
from analysis.volume import VolumeSource

SUM_HALO_PX = 7

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
    sampler = _WidthSampler(mask, settings, voxel_um)
    tables = []
    near, direct = (
        Labeller(deficit.shape[1:]),
        Labeller(deficit.shape[1:], diagonal=False),
    )
    halo = max(SUM_HALO_PX, sampler.halo_px)
    for window in deficit.windows(halo, settings.slab_bytes):
        stop = window.first_row + len(window.deficit)
        masked = mask.get(window.first_row, stop)
        smoothed = window.deficit
        if not is_mask:
            smoothed = np.empty_like(window.deficit)
            smooth(window.deficit, smoothed)
        tables.append(
            sum_row_window(
                window.deficit,
                smoothed,
                window.region,
                masked,
                window.core,
                settings.crack_threshold_frac,
            )
        )
        core = window.core
        first = window.first_row + core.start
        near.add(first, masked[core], window.region[core])
        direct.add(first, masked[core], window.region[core])
        sampler.sample(window, smoothed, masked)
    sums = CrackSums(deficit.rows[0], np.concatenate(tables))
    crack = crack_volume(sums, levels.residual_frac, float(smallest))
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
    strong_voxels = 0
    for first, codes in crack_codes(
        deficit, settings.crack_threshold_frac, settings.crack_growth_threshold_frac,
        INSIDE if deficit.sharp else CLEAR, settings.slab_bytes,
        smoothing=not is_mask,
    ):  # fmt: skip
        shell.put(first, codes == SHELL)
        codes[codes == SHELL] = 0
        labeller.add(first, codes, None)
        mask.put(first, codes > 0)
        strong_voxels += int(np.count_nonzero(codes == STRONG))
    found = labeller.finish()
    keep = found.strong & (found.voxels >= smallest)
    noise = ~keep & (found.voxels >= NOISE_VOXELS)
    keep_label = np.append(keep, False)[found.of_label]
    labeller = Labeller((ny, nx))
    step = slab_rows(deficit.shape, settings.slab_bytes)
    begin, end = deficit.rows
    for start in range(begin, end, step):
        stop = min(start + step, end)
        labels = labeller.add(start, mask.get(start, stop), None)
        mask.put(start, keep_label[labels])
    if not deficit.sharp and keep.any():
        _grow_into_shell(mask, shell, deficit.deep_px, step)
    return mask, strong_voxels, (int(noise.sum()), int(found.voxels[noise].sum()))


def _grow_into_shell(
    mask: PackedMask, shell: PackedMask, deep_px: float, step: int
) -> None:
    """Follow the cracks to the surface, and no farther along a rough one."""
    reach = min(6, math.ceil(deep_px) + 1)
    begin, end = mask.rows
    grown = PackedMask.empty(mask.rows, mask.bits.shape[1], mask.width)
    for start in range(begin, end, step):
        stop = min(start + step, end)
        deep = mask.get(start - reach, stop + reach)
        distance = np.empty(deep.shape, np.uint8)
        distance_squared(deep, reach, distance)
        core = slice(reach, reach + stop - start)
        near = distance[core] <= reach * reach
        shallow = shell.get(start, stop).view(bool) & near
        grown.put(start, deep[core].view(bool) | shallow)
    mask.bits = grown.bits


class _WidthSampler:
    """Measures widths at random voxels of a mask, window by window."""

    def __init__(
        self, mask: PackedMask, settings: MeasurementSettings, voxel_um: float
    ) -> None:
        number = mask.count()
        self._share = min(1.0, settings.width_samples / max(number, 1))
        self._half_px = settings.width_profile_um / voxel_um
        self._random = np.random.default_rng(settings.random_seed)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self.halo_px = int(np.ceil(self._half_px)) + 3

    def sample(
        self, window: Window, smoothed: NDArray[np.float32], mask: NDArray[np.uint8]
    ) -> None:
        """Measure at some voxels of the window's core rows."""
        core = window.core
        clear = (window.region[core] & CLEAR) > 0
        candidates = np.flatnonzero((mask[core] > 0) & clear)
        chosen = candidates[self._random.random(len(candidates)) < self._share]
        if len(chosen) == 0:
            return
        shape = mask[core].shape
        points = np.stack(np.unravel_index(chosen, shape), axis=1).astype(np.int64)
        points[:, 0] += core.start
        width = np.empty(len(points), np.float32)
        crossing = np.empty(len(points), np.float32)
        met = np.empty(len(points), np.uint8)
        normals = np.empty((len(points), 3), np.float32)
        measure_widths(smoothed, points, self._half_px, width, crossing, met, normals)
        points[:, 0] += window.first_row
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
