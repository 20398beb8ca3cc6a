"""Pictures of the virtual cell as the camera takes them.

`prepare` does what belongs to a state of the cell, `frame` what belongs to an angle.
Both release the interpreter lock in their loops.
"""

from dataclasses import dataclass

import numpy as np

from sim.camera_noise import expose
from sim.camera_settings import CameraSettings
from sim.cell import CellState
from sim.cell_settings import CellSettings, CrackSettings
from sim.lattice import Lattice
from sim.optics import Beam, Sensor, blur, blur_kernel, make_sensor
from sim.projection import chord_px, project_columns, row_cover
from sim.voxels import CellShape, CellShaper, CellVoxels

# Less than this part of a voxel is not worth projecting.
_UNSEEN = 1e-5


@dataclass(frozen=True)
class Prepared:
    """A state of the cell, ready to be projected.

    Attributes
    ----------
    shape : CellShape
        The cell at that state.
    voxels : CellVoxels
        The same on the lattice.
    x_px, y_px : numpy.ndarray
        (n,) places of the columns that differ from an intact cell.
    missing : numpy.ndarray
        (n, rows) float32 electrolyte that an intact cell has more there, as a part
        of the voxel.
    """

    shape: CellShape
    voxels: CellVoxels
    x_px: np.ndarray
    y_px: np.ndarray
    missing: np.ndarray

    @property
    def state(self) -> CellState:
        """The state of the cell."""
        return self.shape.state


class Projector:
    """Draws frames of a cell in a beam.

    Parameters
    ----------
    cell : CellSettings
        Geometry, materials, laws.
    camera : CameraSettings
        Detector, optics, beam.
    seed : int
        Everything random follows from it.
    """

    def __init__(self, cell: CellSettings, camera: CameraSettings, seed: int) -> None:
        self.cell = cell
        self.camera = camera
        self.seed = seed
        self.lattice = Lattice.around(cell, camera.pixel_size_um, camera.pellet_row_px)
        self.shaper = CellShaper(cell, seed, self.lattice)
        self._beam = Beam(camera, seed)
        self._sensor: Sensor = make_sensor(camera, seed)
        self._kernel = blur_kernel(camera.blur_px)
        self._columns = np.arange(camera.num_columns, dtype=float)
        self._rows = np.arange(camera.num_rows, dtype=float)

    @staticmethod
    def warm_up() -> None:
        """Compile what `prepare` and `frame` need, on a cell of a few pixels."""
        cell = CellSettings(
            pellet_diameter_mm=0.04,
            pellet_thickness_mm=0.01,
            lithium_thickness_mm=0.01,
            cracks=CrackSettings(
                first_volume_fraction=0.06, first_width_um=1.0, last_width_um=1.2
            ),
        )
        camera = CameraSettings(num_columns=64, num_rows=48)
        projector = Projector(cell, camera, seed=0)
        projector.frame(
            projector.prepare(CellState(seed=0, half_cycles=1.0, directions=(1,))),
            angle_deg=0.0,
            shutter_open=True,
            ring_current_ma=camera.nominal_ring_current_ma,
            exposure_time_s=0.01,
            time_s=0.0,
            frame_index=0,
        )

    def prepare(self, state: CellState) -> Prepared:
        """Work out the cell's shape at a state."""
        shape = self.shaper.shape(state)
        voxels = self.shaper.voxels(shape, self.lattice)
        missing = self.shaper.missing(shape, voxels)
        columns = np.flatnonzero(np.abs(missing).max(axis=1) > _UNSEEN)
        half = self.lattice.width // 2
        y, x = np.divmod(columns, self.lattice.width)
        return Prepared(
            shape=shape,
            voxels=voxels,
            x_px=(x - half).astype(np.float64),
            y_px=(y - half).astype(np.float64),
            missing=missing[columns],
        )

    def frame(
        self,
        prepared: Prepared | None,
        *,
        angle_deg: float,
        sample_out_mm: float = 0.0,
        sample_y_mm: float = 0.0,
        shutter_open: bool,
        ring_current_ma: float,
        exposure_time_s: float,
        time_s: float,
        frame_index: int,
    ) -> np.ndarray:
        """Return one frame.

        Parameters
        ----------
        prepared : Prepared or None
            The cell; not needed for darks, nor for flats with the sample out.
        angle_deg : float
            Angle of the rotation stage in the middle of the exposure.
        sample_out_mm : float
            Place of the stage that takes the sample out; 0 is in.
        sample_y_mm : float
            Height of the sample; positive lifts it, towards row 0.
        shutter_open : bool
            Whether light reaches the sample.
        ring_current_ma : float
            Stored beam.
        exposure_time_s : float
            Time the sensor collects.
        time_s : float
            Time since the simulation began: the beam drifts with it.
        frame_index : int
            Running number of the frame, which seeds its noise.

        Returns
        -------
        numpy.ndarray
            (num_rows, num_columns) uint16 counts.
        """
        camera = self.camera
        shape = (camera.num_rows, camera.num_columns)
        if shutter_open and ring_current_ma > 0:
            light = self._beam.intensity(time_s)
            depth = self._optical_depth(prepared, angle_deg, sample_out_mm, sample_y_mm)
            if depth is not None:
                light = light * np.exp(-depth)
            light = blur(np.ascontiguousarray(light, dtype=np.float32), self._kernel)
            scale = camera.flat_counts_per_s * exposure_time_s
            scale *= ring_current_ma / camera.nominal_ring_current_ma
            light *= np.float32(scale * camera.electrons_per_count)
        else:
            light = np.zeros(shape, dtype=np.float32)
        return expose(
            light,
            self._sensor.gain,
            self._sensor.dark_rate_e_per_s * np.float32(exposure_time_s),
            camera.read_noise_e,
            camera.electrons_per_count,
            camera.dark_offset_counts,
            camera.shot_noise,
            self.seed,
            frame_index,
        )

    def optical_depth(
        self,
        prepared: Prepared,
        angle_deg: float,
        *,
        sample_out_mm: float = 0.0,
        sample_y_mm: float = 0.0,
    ) -> np.ndarray:
        """Return the noise-free line integrals of attenuation.

        Returns
        -------
        numpy.ndarray
            (num_rows, num_columns) float32, dimensionless.
        """
        depth = self._optical_depth(prepared, angle_deg, sample_out_mm, sample_y_mm)
        if depth is None:
            shape = (self.camera.num_rows, self.camera.num_columns)
            return np.zeros(shape, dtype=np.float32)
        return depth

    def _optical_depth(
        self,
        prepared: Prepared | None,
        angle_deg: float,
        sample_out_mm: float,
        sample_y_mm: float,
    ) -> np.ndarray | None:
        cell, camera = self.cell, self.camera
        pixel_mm = camera.pixel_size_um / 1000
        angle = np.deg2rad(angle_deg)
        beside, ahead = camera.cell_offset_um
        middle = camera.rotation_axis_px + sample_out_mm / pixel_mm
        middle += (beside * np.cos(angle) + ahead * np.sin(angle)) / 1000 / pixel_mm
        if abs(middle - camera.num_columns / 2) > camera.num_columns / 2 + (
            self._outer_radius_mm() / pixel_mm + 2
        ):
            return None
        if prepared is None:
            raise ValueError(
                f"the sample is in view (sample_out_mm is {sample_out_mm}) and no "
                "state of the cell was prepared: call prepare(state) first"
            )
        per_px = camera.pixel_size_um * 1e-4
        middle_row = camera.pellet_row_px - sample_y_mm / pixel_mm
        thickness = cell.pellet_thickness_mm / pixel_mm
        top, bottom = middle_row - thickness / 2, middle_row + thickness / 2

        radius = cell.pellet_diameter_mm / 2 / pixel_mm
        pellet = chord_px(self._columns, middle, radius)
        pellet *= cell.electrolyte_attenuation_per_cm * per_px
        depth = np.outer(row_cover(self._rows, top, bottom), pellet)

        diameter_mm = cell.lithium_diameter_mm or cell.pellet_diameter_mm
        foil = chord_px(self._columns, middle, diameter_mm / 2 / pixel_mm)
        foil *= cell.lithium_attenuation_per_cm * per_px
        anode = prepared.shape.foils.anode_um / camera.pixel_size_um
        cathode = prepared.shape.foils.cathode_um / camera.pixel_size_um
        rows = row_cover(self._rows, top - anode, top)
        rows = rows + row_cover(self._rows, bottom, bottom + cathode)
        depth += np.outer(rows, foil)

        if cell.wall_inner_diameter_mm is not None:
            inner = cell.wall_inner_diameter_mm / 2
            wall = chord_px(
                self._columns, middle, (inner + cell.wall_thickness_mm) / pixel_mm
            )
            wall -= chord_px(self._columns, middle, inner / pixel_mm)
            depth += wall * (cell.wall_attenuation_per_cm * per_px)

        if len(prepared.missing):
            self._take_missing(depth, prepared, angle_deg, middle, middle_row, per_px)
        return depth.astype(np.float32)

    def _take_missing(
        self,
        depth: np.ndarray,
        prepared: Prepared,
        angle_deg: float,
        middle: float,
        middle_row: float,
        per_px: float,
    ) -> None:
        missing = project_columns(
            prepared.x_px,
            prepared.y_px,
            prepared.missing,
            angle_deg=angle_deg,
            middle=middle,
            num_columns=self.camera.num_columns,
        ).T
        missing = missing * (self.cell.electrolyte_attenuation_per_cm * per_px)
        shift = middle_row - self.camera.pellet_row_px
        whole = int(np.floor(shift))
        part = shift - whole
        for offset, weight in ((whole, 1 - part), (whole + 1, part)):
            if weight == 0:
                continue
            first = self.lattice.first_row + offset
            low, high = max(first, 0), min(first + len(missing), len(depth))
            if high > low:
                depth[low:high] -= weight * missing[low - first : high - first]

    def _outer_radius_mm(self) -> float:
        cell = self.cell
        widest = max(cell.pellet_diameter_mm, cell.lithium_diameter_mm or 0.0) / 2
        if cell.wall_inner_diameter_mm is not None:
            wall = cell.wall_inner_diameter_mm / 2 + cell.wall_thickness_mm
            widest = max(widest, wall)
        return widest
