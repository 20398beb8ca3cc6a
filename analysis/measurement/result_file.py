"""The HDF5 file that holds what a row cannot: mask, distributions, profiles.

::

    /entry                     attributes: the row
      crack_mask/data          (z, y, x) uint8, rows from attribute ``first_row``
      crack_width/edges_um     (bin + 1)
      crack_width/volume_um3   (bin) crack volume by width
      crack_width/area_um2     (bin) crack area by width
      crack_width_map/voxel    (point, 3) z, y, x of random voxels of the cracks
      crack_width_map/width_um (point) width of the crack there; also crossing_um by
                               the crossings of half the contrast, depth_frac from the
                               anode's face (0) to the cathode's (1), and flags:
                               disagree where cracks end, meet or merge, met where a
                               neighbouring crack ended the integral
      crack_profile/z_um       (row)
      crack_profile/area_um2   (row) crack area cut by each row
      new_cracks/data          (z, y, x) uint8, as crack_mask, if there was an earlier
      motion/…                 from the pristine tomogram: rotation, translation
      registration/data        the tomogram, binned, for the registration
      pellet/top, bottom       (y, x) rows of the faces
      pellet/rim               (z, angle) radius in voxels
      interfaces/anode/void_um (y, x) thickness of the void before the face, 0 in
                               contact, NaN where it cannot be told; cathode alike
"""

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from analysis.measurement.body import Body
from analysis.measurement.crack_mask import PackedMask
from analysis.measurement.crack_width import Widths, depth_frac
from analysis.measurement.interfaces import write_interfaces
from analysis.measurement.reference import PristineVolume
from analysis.measurement.result import CrackMeasurement, TomogramMeasurement

WIDTH_BIN_UM = 0.1
WIDTH_LIMIT_UM = 20.0
MASK_ROWS = 16
MAP_CHUNK = 4096


def write_result(result: TomogramMeasurement, path: Path) -> None:
    """Write a measurement; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    with h5py.File(partial, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry.attrs["default"] = "crack_width"
        for name, value in result.row().items():
            if value is not None:
                entry.attrs[name] = value
        entry.attrs["shape"] = result.shape
        if result.body is not None:
            pellet = entry.create_group("pellet")
            for name in ("top", "bottom", "rim"):
                pellet.create_dataset(
                    name, data=getattr(result.body, name), compression="gzip"
                )
            pellet.attrs["centre_px"] = result.body.centre
        write_interfaces(entry, result.interfaces, result.voxel_um)
        if result.crack is not None and result.body is not None:
            _write_crack(entry, result.crack, result.body, result.voxel_um)
        if result.new is not None:
            _write_mask(entry.create_group("new_cracks"), result.new.mask)
        if result.motion is not None:
            motion = entry.create_group("motion")
            motion["rotation_rad"] = result.motion.rotation
            motion["translation_px"] = result.motion.translation
            motion["centre_px"] = result.motion.centre
        if result.registration is not None:
            _write_registration(entry.create_group("registration"), result.registration)
    partial.replace(path)


def _write_crack(
    entry: h5py.Group, crack: CrackMeasurement, body: Body, voxel_um: float
) -> None:
    _write_mask(entry.create_group("crack_mask"), crack.mask)
    if crack.widths is not None:
        volume_um3 = crack.volume.deficit_px * voxel_um**3
        _write_widths(entry, crack.widths, volume_um3, voxel_um)
        _write_width_map(entry, crack.widths, body, voxel_um)
    profile = entry.create_group("crack_profile")
    profile.attrs.update(NX_class="NXdata", signal="area_um2", axes=["z_um"])
    z = crack.mask.rows[0] + np.arange(len(crack.volume.profile_px))
    profile.create_dataset("z_um", data=z * voxel_um).attrs["units"] = "um"
    area = profile.create_dataset(
        "area_um2", data=crack.volume.profile_px * voxel_um**2
    )
    area.attrs["units"] = "um^2"


def _write_mask(group: h5py.Group, mask: PackedMask) -> None:
    rows, ny = mask.bits.shape[:2]
    data = group.create_dataset(
        "data", shape=(rows, ny, mask.width), dtype=np.uint8,
        chunks=(1, ny, mask.width), **hdf5plugin.Bitshuffle(),
    )  # fmt: skip
    data.attrs["first_row"] = mask.rows[0]
    for start in range(0, rows, MASK_ROWS):
        stop = min(start + MASK_ROWS, rows)
        first = mask.rows[0] + start
        data[start:stop] = mask.get(first, first + stop - start)


def _write_registration(group: h5py.Group, volume: PristineVolume) -> None:
    group.create_dataset("data", data=volume.coarse, **hdf5plugin.Bitshuffle())
    pellet = volume.pellet.astype(np.uint8)
    group.create_dataset("pellet", data=pellet, **hdf5plugin.Bitshuffle())
    group.attrs["factor"] = volume.factor
    group.attrs["grey_low"] = volume.grey_low
    group.attrs["grey_high"] = volume.grey_high


def _write_widths(
    entry: h5py.Group, widths: Widths, volume_um3: float, voxel_um: float
) -> None:
    group = entry.create_group("crack_width")
    group.attrs.update(NX_class="NXdata", signal="volume_um3", axes=["edges_um"])
    width_um = np.asarray(widths.width_px, np.float64) * voxel_um
    edges = np.arange(0, WIDTH_LIMIT_UM + WIDTH_BIN_UM / 2, WIDTH_BIN_UM)
    counts, _ = np.histogram(np.clip(width_um, 0, WIDTH_LIMIT_UM), edges)
    volume = volume_um3 * counts / len(width_um)
    area, _ = np.histogram(
        np.clip(width_um, 0, WIDTH_LIMIT_UM), edges, weights=1 / width_um
    )
    for name, values, unit in (
        ("edges_um", edges, "um"),
        ("volume_um3", volume, "um^3"),
        ("area_um2", volume_um3 * area / len(width_um), "um^2"),
    ):
        group.create_dataset(name, data=values).attrs["units"] = unit


def _write_width_map(
    entry: h5py.Group, widths: Widths, body: Body, voxel_um: float
) -> None:
    group = entry.create_group("crack_width_map")
    group.attrs.update(NX_class="NXdata", signal="width_um", axes=["."])
    columns = (
        ("voxel", widths.points, "px"),
        ("width_um", widths.width_px * np.float32(voxel_um), "um"),
        ("crossing_um", widths.crossing_px * np.float32(voxel_um), "um"),
        ("depth_frac", depth_frac(widths.points, body).astype(np.float32), ""),
        ("disagree", widths.disagree.astype(np.uint8), ""),
        ("met", widths.met.astype(np.uint8), ""),
    )
    for name, values, unit in columns:
        chunk = (min(MAP_CHUNK, len(values)), *values.shape[1:])
        data = group.create_dataset(
            name, data=values, chunks=chunk, **hdf5plugin.Bitshuffle()
        )
        data.attrs["units"] = unit
