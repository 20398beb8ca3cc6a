"""What the virtual cell really was at each scan, in one HDF5 file.

One group per scan, ``scan_0007_00``; the analysis never reads it. Every value
carries its unit in its name.
"""

from pathlib import Path

import h5py

from sim.cell import lithium_in_cracks_um3
from sim.projector import Prepared, Projector


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
        state, cell = prepared.state, self._projector.cell
        volume = prepared.cracks.volume_um3(self._projector.camera.pixel_size_um)
        lithium = lithium_in_cracks_um3(cell, state)
        values = {
            "label": state.label,
            "half_cycles": state.half_cycles,
            "time_s": time_s,
            "cell_time_s": state.time_s,
            "gross_charge_c": state.gross_charge_c,
            "net_charge_c": state.net_charge_c,
            "shorted": state.shorted,
            "crack_volume_um3": volume,
            "pellet_volume_um3": cell.pellet_volume_um3,
            "crack_volume_fraction": volume / cell.pellet_volume_um3,
            "lithium_in_cracks_um3": lithium,
            "filling_fraction": min(1.0, lithium / volume) if volume else 0.0,
            "pellet_thickness_um": 1e3 * cell.pellet_thickness_mm,
            "anode_thickness_um": prepared.foils.anode_um,
            "cathode_thickness_um": prepared.foils.cathode_um,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(self.path, "a") as file:
            if group_name in file:
                del file[group_name]
            group = file.create_group(group_name)
            for key, value in values.items():
                group[key] = value
