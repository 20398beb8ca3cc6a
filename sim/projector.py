"""Pictures of the virtual cell as the camera takes them.

`prepare` does what belongs to a state of the cell, `frame` what belongs to an angle.
Both release the interpreter lock in their loops.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.camera_noise import expose
from sim.camera_settings import CameraSettings
from sim.cell import CellState
from sim.cell_settings import CellSettings, CrackSettings, InterfaceSettings
from sim.displacement import scan_drift_um
from sim.distortion import warp
from sim.lattice import MOST_VOXELS, Lattice
from sim.optics import Beam, Sensor, blur, blur_kernel, disturb, make_sensor
from sim.projection import chord_px, project_columns, row_cover
from sim.propagation import propagate, wavelength_um
from sim.spectrum import hardening_polynomial
from sim.stored_projection import SliceProjector, StoredProjections, shift_columns
from sim.voxels import CellShape, CellShaper, CellVoxels, Totals

# Less than this part of a voxel is not worth projecting.
_UNSEEN = 1e-5
# A large cell is projected beforehand, so many rows at a time.
_ROWS_AT_ONCE = 16
_STREAM = 0xF7A3


@dataclass(frozen=True)
class Prepared:
    """A state of the cell, ready to be projected.

    Attributes
    ----------
    shape : CellShape
        The cell at that state.
    totals : Totals
        Sums over its voxels.
    voxels : CellVoxels or None
        The same on the lattice; None for a large cell.
    stored : StoredProjections or None
        What an intact cell has more along each line, for a large cell.
    x_px, y_px : numpy.ndarray
        (n,) places of the columns that differ from an intact cell.
    missing : numpy.ndarray
        (n, rows) float32 electrolyte that an intact cell has more there, as a part
        of the voxel, by attenuation.
    missing_phase : numpy.ndarray or None
        The same by phase; None where there are no fringes, or for a large cell,
        whose fringes take lithium in cracks for nothing.
    drift_px : tuple[float, float, float]
        How far the whole cell has moved: x, y, down.
    """

    shape: CellShape
    totals: Totals
    voxels: CellVoxels | None
    stored: StoredProjections | None
    x_px: np.ndarray
    y_px: np.ndarray
    missing: np.ndarray
    missing_phase: np.ndarray | None
    drift_px: tuple[float, float, float]

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
    directory : Path, optional
        Where the prepared projections of a large cell lie, some 10 GB for the
        experiment's; the system's place for such files where not given.
    most_voxels : int, optional
        A cell of more voxels is projected beforehand.
    """

    def __init__(
        self,
        cell: CellSettings,
        camera: CameraSettings,
        seed: int,
        directory: Path | None = None,
        *,
        most_voxels: int = MOST_VOXELS,
    ) -> None:
        self._directory = directory
        self._most_voxels = most_voxels
        self.cell = cell
        self.camera = camera
        self.seed = seed
        self.lattice = Lattice.around(cell, camera.pixel_size_um, camera.pellet_row_px)
        self.shaper = CellShaper(cell, seed, self.lattice)
        self._beam = Beam(camera, seed)
        self._sensor: Sensor = make_sensor(camera, seed)
        self._kernel = blur_kernel(camera.blur_px)
        self._hardening = hardening_polynomial()
        rng = np.random.default_rng([seed, _STREAM])
        self._wobble_phase = rng.uniform(0, 2 * np.pi, 2)
        self._columns = np.arange(camera.num_columns, dtype=float)
        self._rows = np.arange(camera.num_rows, dtype=float)

    @staticmethod
    def warm_up() -> None:
        """Compile all that `prepare` and `frame` need, on cells of a few pixels."""
        cell = CellSettings(
            pellet_diameter_mm=0.04,
            pellet_thickness_mm=0.01,
            lithium_thickness_mm=0.01,
            # All shards come in the second half-cycle.
            cracks=CrackSettings(
                first_volume_fraction=0.06,
                first_width_um=1.0,
                last_width_um=1.2,
                last_label=1.1,
            ),
            interface=InterfaceSettings(shards_per_mm2=5000),
        )
        camera = CameraSettings(
            num_columns=64, num_rows=48, prepared_angles_deg=(0.0, 10.0, 3)
        )
        state = CellState(seed=0, half_cycles=2.0, directions=(1, -1))
        for most_voxels in (MOST_VOXELS, 0):
            projector = Projector(cell, camera, seed=0, most_voxels=most_voxels)
            prepared = projector.prepare(state)
            for angle_deg in (0.0, 5.0):
                projector.frame(
                    prepared,
                    angle_deg=angle_deg,
                    shutter_open=True,
                    ring_current_ma=camera.nominal_ring_current_ma,
                    exposure_time_s=0.01,
                    time_s=0.0,
                    frame_index=0,
                )

    def prepare(self, state: CellState) -> Prepared:
        """Work out the cell's shape at a state."""
        shape = self.shaper.shape(state)
        drift = scan_drift_um(self.camera.drift_um, state) / self.camera.pixel_size_um
        drift_px = (float(drift[0]), float(drift[1]), float(drift[2]))
        if self.lattice.num_rows * self.lattice.width**2 > self._most_voxels:
            stored, totals = self._store(shape)
            nothing = np.empty(0)
            return Prepared(
                shape, totals, None, stored, nothing, nothing, nothing, None, drift_px
            )
        voxels = self.shaper.voxels(shape, self.lattice)
        missing = self.shaper.missing(shape, voxels, self._lithium)
        phase = None
        if self.camera.propagation_mm > 0:
            lithium = self.cell.lithium_delta / self.cell.electrolyte_delta
            phase = self.shaper.missing(shape, voxels, lithium)
        columns = np.flatnonzero(np.abs(missing).max(axis=0) > _UNSEEN)
        half = self.lattice.width // 2
        y, x = np.divmod(columns, self.lattice.width)
        return Prepared(
            shape=shape,
            totals=voxels.totals(),
            voxels=voxels,
            stored=None,
            x_px=(x - half).astype(np.float64),
            y_px=(y - half).astype(np.float64),
            missing=np.ascontiguousarray(missing[:, columns].T),
            missing_phase=(
                None if phase is None else np.ascontiguousarray(phase[:, columns].T)
            ),
            drift_px=drift_px,
        )

    def _store(self, shape: CellShape) -> tuple[StoredProjections, Totals]:
        """Project a large cell at all angles, some rows at a time."""
        lattice = self.lattice
        first, step, number = self.camera.prepared_angles_deg
        angles = first + step * np.arange(number)
        slices = SliceProjector(lattice.width, lattice.width + 8, angles)
        stored = StoredProjections(
            self._directory,
            self.camera.prepared_angles_deg,
            lattice.num_rows,
            slices.num_columns,
            1.2 * lattice.width,
        )
        totals = Totals()
        for start in range(0, lattice.num_rows, _ROWS_AT_ONCE):
            block = lattice.rows(start, start + _ROWS_AT_ONCE)
            voxels = self.shaper.voxels(shape, block)
            totals += voxels.totals()
            missing = self.shaper.missing(shape, voxels, self._lithium)
            del voxels  # before more memory is asked for
            lines = slices.project(missing.reshape(-1, lattice.width, lattice.width))
            stored.write(start, lines)
        return stored, totals

    @property
    def _lithium(self) -> float:
        """What lithium attenuates relative to electrolyte."""
        cell = self.cell
        return cell.lithium_attenuation_per_cm / cell.electrolyte_attenuation_per_cm

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
            place = self._place(prepared, angle_deg, sample_out_mm, sample_y_mm)
            if place is not None and prepared is not None:
                light = light * self._transmission(prepared, angle_deg, place)
            light = blur(np.ascontiguousarray(light, dtype=np.float32), self._kernel)
            scale = camera.flat_counts_per_s * exposure_time_s
            scale *= ring_current_ma / camera.nominal_ring_current_ma
            light *= np.float32(scale * camera.electrons_per_count)
        else:
            light = np.zeros(shape, dtype=np.float32)
        disturb(light, self._sensor, camera, [self.seed, frame_index, _STREAM])
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
        place = self._place(prepared, angle_deg, sample_out_mm, sample_y_mm)
        if place is None:
            shape = (self.camera.num_rows, self.camera.num_columns)
            return np.zeros(shape, dtype=np.float32)
        electrolyte, other = self._depths(prepared, angle_deg, place)
        return (electrolyte + other).astype(np.float32)

    def sees_sample(self, sample_out_mm: float) -> bool:
        """Return whether any of the cell may be in view at a place of its stage."""
        camera = self.camera
        # So far it may move towards the beam, whatever its state and angle.
        moves_um = np.hypot(*camera.cell_offset_um) + 5 * camera.drift_um
        moves_px = (moves_um + camera.wobble_um) / camera.pixel_size_um
        pixel_mm = camera.pixel_size_um / 1000
        half = camera.num_columns / 2
        away_px = abs(camera.rotation_axis_px - half + sample_out_mm / pixel_mm)
        return bool(away_px <= half + self._outer_radius_mm() / pixel_mm + 2 + moves_px)

    def _place(
        self,
        prepared: Prepared | None,
        angle_deg: float,
        sample_out_mm: float,
        sample_y_mm: float,
    ) -> tuple[float, float] | None:
        """Return the column of the cell's axis and the row of its middle, if seen."""
        camera = self.camera
        pixel_mm = camera.pixel_size_um / 1000
        angle = np.deg2rad(angle_deg)
        drift = (0.0, 0.0, 0.0) if prepared is None else prepared.drift_px
        beside = camera.cell_offset_um[0] / camera.pixel_size_um + drift[0]
        ahead = camera.cell_offset_um[1] / camera.pixel_size_um + drift[1]
        wobble = camera.wobble_um / camera.pixel_size_um
        column = camera.rotation_axis_px + sample_out_mm / pixel_mm
        column += beside * np.cos(angle) + ahead * np.sin(angle)
        column += wobble * np.sin(3 * angle + self._wobble_phase[0])
        row = camera.pellet_row_px - sample_y_mm / pixel_mm + drift[2]
        row += wobble * np.sin(2 * angle + self._wobble_phase[1])
        half = camera.num_columns / 2
        if abs(column - half) > half + self._outer_radius_mm() / pixel_mm + 2:
            return None
        if prepared is None:
            raise ValueError(
                f"the sample is in view (sample_out_mm is {sample_out_mm}) and no "
                "state of the cell was prepared: call prepare(state) first"
            )
        return float(column), float(row)

    def _transmission(
        self, prepared: Prepared, angle_deg: float, place: tuple[float, float]
    ) -> np.ndarray:
        """Return the light behind the cell relative to the light before it."""
        camera = self.camera
        electrolyte, depth = self._depths(prepared, angle_deg, place)
        if camera.pink:
            first, second, third, fourth = self._hardening
            depth += electrolyte * (
                first
                + electrolyte * (second + electrolyte * (third + electrolyte * fourth))
            )
        else:
            depth += electrolyte
        if camera.propagation_mm == 0:
            light = np.exp(-depth)
        else:
            light = propagate(
                depth,
                self._phase(prepared, angle_deg, place),
                camera.propagation_mm,
                camera.photon_energy_kev,
                camera.pixel_size_um,
            )
        if camera.axis_tilt_deg or camera.distortion_at_corner_px:
            light = warp(
                light,
                tilt_deg=camera.axis_tilt_deg,
                pivot=(camera.pellet_row_px, camera.rotation_axis_px),
                corner_shift_px=camera.distortion_at_corner_px,
            )
        return light

    def _depths(
        self, prepared: Prepared, angle_deg: float, place: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the optical depth of the electrolyte, and of all else, float32.

        Cracks and lithium within the pellet's place count with the electrolyte.
        """
        cell = self.cell
        per_px = self.camera.pixel_size_um * 1e-4
        pellet, foils = self._paths_px(prepared, place)
        self._take_missing(pellet, prepared, prepared.missing, angle_deg, place)
        pellet *= np.float32(cell.electrolyte_attenuation_per_cm * per_px)
        foils *= np.float32(cell.lithium_attenuation_per_cm * per_px)
        if cell.wall_inner_diameter_mm is not None:
            pixel_mm = self.camera.pixel_size_um / 1000
            inner = cell.wall_inner_diameter_mm / 2
            outer = inner + cell.wall_thickness_mm
            wall = chord_px(self._columns, place[0], outer / pixel_mm)
            wall -= chord_px(self._columns, place[0], inner / pixel_mm)
            foils += (wall * cell.wall_attenuation_per_cm * per_px).astype(np.float32)
        return pellet, foils

    def _phase(
        self, prepared: Prepared, angle_deg: float, place: tuple[float, float]
    ) -> np.ndarray:
        """Return the phase shift by pellet and foils in radians."""
        cell, camera = self.cell, self.camera
        pellet, foils = self._paths_px(prepared, place)
        missing = prepared.missing_phase
        if missing is None:
            missing = prepared.missing
        self._take_missing(pellet, prepared, missing, angle_deg, place)
        wave_px = wavelength_um(camera.photon_energy_kev) / camera.pixel_size_um
        path = cell.electrolyte_delta * pellet + cell.lithium_delta * foils
        return -2 * np.pi / wave_px * path

    def _paths_px(
        self, prepared: Prepared, place: tuple[float, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the path through an intact pellet, and through the foils."""
        cell = self.cell
        pixel_mm = self.camera.pixel_size_um / 1000
        column, row = place
        half = cell.pellet_thickness_mm / 2 / pixel_mm
        radius = cell.pellet_diameter_mm / 2 / pixel_mm
        chord = chord_px(self._columns, column, radius)
        rows = row_cover(self._rows, row - half, row + half)
        pellet = np.outer(rows, chord).astype(np.float32)

        diameter_mm = cell.lithium_diameter_mm or cell.pellet_diameter_mm
        chord = chord_px(self._columns, column, diameter_mm / 2 / pixel_mm)
        foils = prepared.shape.foils
        anode = foils.anode_um / self.camera.pixel_size_um
        cathode = foils.cathode_um / self.camera.pixel_size_um
        rows = row_cover(self._rows, row - half - anode, row - half)
        rows = rows + row_cover(self._rows, row + half, row + half + cathode)
        return pellet, np.outer(rows, chord).astype(np.float32)

    def _take_missing(
        self,
        path: np.ndarray,
        prepared: Prepared,
        missing: np.ndarray,
        angle_deg: float,
        place: tuple[float, float],
    ) -> None:
        columns = self.camera.num_columns
        if prepared.stored is not None:
            lines = prepared.stored.read(angle_deg)
            axis = lines.shape[1] // 2
            lines = shift_columns(lines, columns, place[0], axis)
        elif len(missing):
            lines = project_columns(
                prepared.x_px,
                prepared.y_px,
                missing,
                angle_deg=angle_deg,
                middle=place[0],
                num_columns=columns,
            ).T
        else:
            return
        shift = place[1] - self.camera.pellet_row_px
        whole = int(np.floor(shift))
        part = np.float32(shift - whole)
        for offset, weight in ((whole, 1 - part), (whole + 1, part)):
            if weight == 0:
                continue
            first = self.lattice.first_row + offset
            low, high = max(first, 0), min(first + len(lines), len(path))
            if high > low:
                path[low:high] -= weight * lines[low - first : high - first]

    def _outer_radius_mm(self) -> float:
        cell = self.cell
        widest = max(cell.pellet_diameter_mm, cell.lithium_diameter_mm or 0.0) / 2
        if cell.wall_inner_diameter_mm is not None:
            wall = cell.wall_inner_diameter_mm / 2 + cell.wall_thickness_mm
            widest = max(widest, wall)
        return widest
