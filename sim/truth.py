"""What the virtual cell really was at each scan, in one HDF5 file.

One group per scan, ``scan_0007_00``; the analysis never reads it. A cell too large to
be held in memory has no volumes in it. Every value
carries its unit in its name; ``docs/virtual_cell.md`` lists them.
"""

from pathlib import Path

import h5py
import numpy as np

from sim.lattice import Lattice
from sim.projector import Prepared, Projector
from sim.voxels import (
    WIDTH_EDGES_UM,
    CellShape,
    CellVoxels,
    Material,
    Totals,
    label_volume,
)

# Voxels between points of the displacement field.
_FIELD_STEP = 8


class TruthFile:
    """Writes the truth of scans; the file is closed between them.

    Parameters
    ----------
    path : Path
        The file; made when the first scan is recorded.
    projector : Projector
        Draws the cell whose truth it is.
    """

    def __init__(self, path: Path, projector: Projector) -> None:
        self.path = Path(path)
        self._projector = projector

    def record(self, prepared: Prepared, *, name: str, time_s: float = 0.0) -> None:
        """Write the truth of one scan.

        Parameters
        ----------
        prepared : Prepared
            The state as it is projected.
        name : str
            Name of the scan's raw file without suffix,
            ``scan_0007_00_projections``; the group is called ``scan_0007_00``.
        time_s : float
            When the scan began, simulated seconds since the Unix epoch.
        """
        group_name = name.removesuffix("_projections")
        values = {"time_s": time_s, **self._values(prepared)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(self.path, "a") as file:
            if group_name in file:
                del file[group_name]
            group = file.create_group(group_name)
            for key, value in values.items():
                group[key] = value
            self._write_volumes(group, prepared)

    def _values(self, prepared: Prepared) -> dict[str, float | bool | np.ndarray]:
        cell, state = self._projector.cell, prepared.state
        shape, totals = prepared.shape, prepared.totals
        lattice = self._projector.lattice
        volume, filled = totals.crack_volume_um3, totals.filled_volume_um3
        anode, cathode = shape.interfaces.contact_fraction(lattice)
        crossed_at_s = state.crossed_at_s
        return {
            "label": state.label,
            "half_cycles": state.half_cycles,
            "cell_time_s": state.time_s,
            "gross_charge_c": state.gross_charge_c,
            "net_charge_c": state.net_charge_c,
            "shorted": state.shorted,
            "path_complete": state.path_complete,
            "crack_crosses_pellet": crossed_at_s is not None,
            "first_crossing_cell_time_s": (
                np.nan if crossed_at_s is None else crossed_at_s
            ),
            "crack_volume_um3": volume,
            "crack_area_um2": totals.crack_area_um2,
            **_widths(totals),
            "pellet_volume_um3": totals.body_volume_um3,
            "lithium_in_cracks_um3": filled,
            "filling_fraction": filled / volume if volume else 0.0,
            "pellet_thickness_um": _mean_thickness_um(shape, lattice),
            "anode_thickness_um": shape.foils.anode_um,
            "cathode_thickness_um": shape.foils.cathode_um,
            "anode_contact_fraction": anode,
            "cathode_contact_fraction": cathode,
            "anode_void_volume_um3": _gap_volume_um3(shape, lattice, 0),
            "cathode_void_volume_um3": _gap_volume_um3(shape, lattice, 1),
            "shards": len(shape.interfaces.shards),
            "nominal_pellet_volume_um3": cell.pellet_volume_um3,
        }

    def _write_volumes(self, group: h5py.Group, prepared: Prepared) -> None:
        """Write the volumes; axes z, y, x as in a tomogram, z the detector's row."""
        shape, voxels = prepared.shape, prepared.voxels
        lattice, camera = self._projector.lattice, self._projector.camera
        group.attrs["voxel_size_um"] = lattice.pitch_um
        group.attrs["first_row"] = lattice.first_row
        group["drift_px"] = np.array(prepared.drift_px)
        group["drift_px"].attrs["axes"] = "x, y, down"
        group.attrs["cell_offset_px"] = np.array(camera.cell_offset_um) / (
            lattice.pitch_um
        )
        if voxels is None:
            return
        volumes = {
            "labels": label_volume(shape, voxels),
            "crack_part": _volume(voxels, voxels.cracks.cover).astype(np.float16),
            "crack_width_um": _volume(voxels, voxels.cracks.wide_um).astype(np.float16),
        }
        for key, volume in volumes.items():
            chunks = (min(16, volume.shape[0]), *volume.shape[1:])
            group.create_dataset(
                key, data=volume, chunks=chunks, compression="lzf", shuffle=True
            )
        group["labels"].attrs["values"] = [
            f"{material.value} {material.name.lower()}" for material in Material
        ]
        group["displacement_um"] = _displacement_um(shape, voxels)
        group["displacement_um"].attrs["axes"] = "component (z, y, x), z, y, x"
        group["displacement_um"].attrs["voxels_between_points"] = _FIELD_STEP


def _widths(totals: Totals) -> dict[str, float | np.ndarray]:
    """Return the distribution of width, weighted by volume as Avizo's is."""
    volume, edges = totals.width_volume_um3, WIDTH_EDGES_UM
    middle = (edges[1:] + edges[:-1]) / 2
    mode = mean = np.nan
    if volume.any():
        # Five bins together, for a peak that does not jump with the binning.
        mode = float(middle[np.convolve(volume, np.ones(5), mode="same").argmax()])
        mean = float((volume * middle).sum() / volume.sum())
    return {
        "width_edges_um": edges,
        "width_volume_um3": volume,
        "width_mode_um": mode,
        "width_mean_um": mean,
    }


def _mean_thickness_um(shape: CellShape, lattice: Lattice) -> float:
    thickness = shape.surface.bottom_um - shape.surface.top_um
    return float(np.average(thickness, weights=lattice.disc))


def _gap_volume_um3(shape: CellShape, lattice: Lattice, face: int) -> float:
    gap = shape.interfaces.gap_um[face] * lattice.disc
    return float(gap.sum(dtype=np.float64)) * lattice.pitch_um**2


def _volume(voxels: CellVoxels, values: np.ndarray) -> np.ndarray:
    """Return values of the cracks' columns as a volume (z, y, x)."""
    lattice = voxels.lattice
    volume = np.zeros((lattice.num_rows, lattice.width**2), dtype=np.float32)
    volume[:, voxels.cracks.columns] = np.where(voxels.cracks.cover > 0, values, 0).T
    return volume.reshape(-1, lattice.width, lattice.width)


def _displacement_um(shape: CellShape, voxels: CellVoxels) -> np.ndarray:
    """Return where the material at each point has come from, reversed.

    The field belongs to the points where the material is now; not a number outside
    the pellet.
    """
    lattice, motion = voxels.lattice, shape.motion
    chosen = np.arange(_FIELD_STEP // 2, lattice.width, _FIELD_STEP)
    column = (chosen[:, None] * lattice.width + chosen).ravel()
    rows = np.arange(_FIELD_STEP // 2, lattice.num_rows, _FIELD_STEP)
    thickness_um = float(lattice.depth_um[0] + lattice.depth_um[-1])
    from_middle = lattice.depth_um[rows][:, None] - thickness_um / 2
    depth = from_middle - motion.down_um[column]
    field = np.empty((3, len(rows), len(column)), dtype=np.float32)
    field[0] = motion.down_um[column]
    field[1] = motion.y_um[column] - depth * motion.slope[column, 1]
    field[2] = motion.x_um[column] - depth * motion.slope[column, 0]
    field[:, voxels.body[column][:, rows].T < 0.5] = np.nan
    return field.reshape(3, len(rows), len(chosen), len(chosen))
