"""The voxels on which the cell's shape is laid.

Axes: x and y across the pellet with the origin on its axis, depth downwards from the
pellet's top face, the one at the anode. A column of voxels runs along depth.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from sim.cell_settings import CellSettings

# Room above and below the pellet for voids, shards and bending.
MARGIN_UM = 8.0

MOST_VOXELS = 60_000_000
"""A cell of more voxels is projected beforehand, which takes minutes."""


def takes_minutes(settings: CellSettings, pitch_um: float) -> bool:
    """Return whether a cell has so many voxels that it is projected beforehand."""
    across = 1e3 * settings.pellet_diameter_mm / pitch_um
    return across**2 * 1e3 * settings.pellet_thickness_mm / pitch_um > MOST_VOXELS


@dataclass(frozen=True)
class Lattice:
    """Voxel centres: a square of columns, and rows.

    Attributes
    ----------
    pitch_um : float
        Edge of a voxel.
    width : int
        Columns per side, odd; the middle one lies on the pellet's axis. Column
        ``y * width + x``.
    first_row : int
        Number of the first row in the frame of the detector.
    row_step : int
        Rows from one to the next; more than 1 in a sample of a larger lattice.
    rows_each : numpy.ndarray
        (rows,) how many rows each stands for in a sum over the pellet: those of a
        sample between its faces stand for all that are nearest to them.
    depth_um : numpy.ndarray
        (rows,) depth of each row's centre below the top face.
    disc : numpy.ndarray
        (width * width,) float32 part of each column's cross-section in the pellet
        before it cracks, chips or bends.
    disc_rows : numpy.ndarray
        (rows,) float32 part of each row between the faces of that pellet.
    """

    pitch_um: float
    width: int
    first_row: int
    row_step: int
    rows_each: np.ndarray
    depth_um: np.ndarray
    disc: np.ndarray
    disc_rows: np.ndarray

    @staticmethod
    def around(settings: CellSettings, pitch_um: float, pellet_row: float) -> "Lattice":
        """Return the lattice that holds the whole pellet.

        Parameters
        ----------
        settings : CellSettings
            The cell.
        pitch_um : float
            Edge of a voxel.
        pellet_row : float
            Row of the middle of the pellet; need not be whole.
        """
        margin = ceil(MARGIN_UM / pitch_um)
        radius = 500 * settings.pellet_diameter_mm / pitch_um
        thickness = 1e3 * settings.pellet_thickness_mm / pitch_um
        half = ceil(radius) + ceil(2.0 / pitch_um)
        across = np.arange(-half, half + 1, dtype=float)
        disc = np.clip(radius + 0.5 - np.hypot(across[:, None], across), 0, 1)
        first = int(np.floor(pellet_row - thickness / 2)) - margin
        last = int(np.ceil(pellet_row + thickness / 2)) + margin
        depth = np.arange(first, last + 1) - (pellet_row - thickness / 2)
        top = np.maximum(depth - 0.5, 0)
        bottom = np.minimum(depth + 0.5, thickness)
        return Lattice(
            pitch_um=pitch_um,
            width=2 * half + 1,
            first_row=first,
            row_step=1,
            rows_each=np.ones(len(depth)),
            depth_um=depth * pitch_um,
            disc=disc.astype(np.float32).ravel(),
            disc_rows=np.clip(bottom - top, 0, 1).astype(np.float32),
        )

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.depth_um)

    @property
    def across_um(self) -> np.ndarray:
        """Return (width,) places of the columns along x, and along y."""
        half = self.width // 2
        return np.arange(-half, half + 1) * self.pitch_um

    def columns_um(self, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places x and y of columns given by number."""
        half = self.width // 2
        y, x = np.divmod(columns, self.width)
        return (x - half) * self.pitch_um, (y - half) * self.pitch_um

    def rows(self, start: int, stop: int, step: int = 1) -> "Lattice":
        """Return the same columns with some of the rows only."""
        chosen = slice(start, stop, step)
        return replace(
            self,
            first_row=self.first_row + start,
            row_step=step,
            rows_each=self.rows_each[chosen].copy(),
            # In one piece, or compiled loops are compiled again for rows apart.
            depth_um=self.depth_um[chosen].copy(),
            disc_rows=self.disc_rows[chosen].copy(),
        )

    def sample(self, voxels: int, least_rows: int = 24) -> "Lattice":
        """Return evenly spaced rows, few enough to hold about so many voxels."""
        step = max(1, ceil(self.num_rows * self.width**2 / voxels))
        step = min(step, max(1, self.num_rows // least_rows))
        if step == 1:
            return self
        chosen = self.rows(step // 2, self.num_rows, step)
        whole = np.flatnonzero(chosen.disc_rows == 1)
        apart = np.abs(self.depth_um[:, None] - chosen.depth_um[whole])
        rows_each = np.zeros(chosen.num_rows)
        np.add.at(rows_each, whole[apart.argmin(axis=1)], self.disc_rows)
        return replace(chosen, rows_each=rows_each)
