"""The simulated camera and beam as numbers: plain data."""

from pydantic import BaseModel, ConfigDict, Field


class CameraSettings(BaseModel):
    """Detector, optics and beam.

    The defaults are those of a PCO.Edge 5.5 with a scintillator and a tenfold
    reduced effective pixel behind a filtered pink beam.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # detector
    num_columns: int = Field(default=2560, ge=16, le=8192)
    num_rows: int = Field(default=2160, ge=16, le=8192)
    pixel_size_um: float = Field(default=0.8, gt=0)
    """Effective pixel at the sample."""
    readout_time_s: float = Field(default=0.010, ge=0)
    electrons_per_count: float = Field(default=0.46, gt=0)
    dark_offset_counts: float = Field(default=100.0, ge=0)
    dark_rate_e_per_s: float = Field(default=0.8, ge=0)
    read_noise_e: float = Field(default=1.2, ge=0)
    shot_noise: bool = True
    imperfect_pixels_fraction: float = Field(default=2e-4, ge=0, lt=0.05)
    """Share of pixels whose gain is off by several per cent: they make rings."""
    dead_pixels_fraction: float = Field(default=1e-5, ge=0, lt=0.01)
    hot_pixels_fraction: float = Field(default=1e-5, ge=0, lt=0.01)
    flickering_pixels_fraction: float = Field(default=1e-5, ge=0, lt=0.01)
    """Share of pixels whose gain jumps between two values from frame to frame."""
    zingers_per_frame: float = Field(default=1.0, ge=0)
    """Mean number of X-rays that hit a full sensor itself, per 5.5 million pixels."""

    # beam
    flat_counts_per_s: float = Field(default=230_000.0, gt=0)
    """Counts per second in the middle of a flat at the nominal ring current."""
    nominal_ring_current_ma: float = Field(default=300.0, gt=0)
    beam_width_fraction: float = Field(default=1.2, gt=0)
    """Standard deviation of the beam profile in detector widths."""
    beam_structure: float = Field(default=0.03, ge=0, lt=0.5)
    """Relative amplitude of stripes and scintillator marks in the flat field."""
    beam_drift_px_per_h: float = Field(default=1.0, ge=0)
    """How fast the beam moves over the detector, vertically."""
    pink: bool = True
    """A spectrum from 18 keV to 24.35 keV, which hardens; else one energy."""
    photon_energy_kev: float = Field(default=22.3, gt=0)
    """Mean energy, for the phase."""
    propagation_mm: float = Field(default=0.0, ge=0, le=2000)
    """Distance to the scintillator that makes phase fringes; 0 for none."""

    # optics and geometry
    blur_px: float = Field(default=0.6, ge=0, le=5)
    """Standard deviation of the scintillator's and lens's spread."""
    rotation_axis_offset_px: float = 3.4
    """Column of the rotation axis, counted from the middle of the detector."""
    pellet_row_offset_px: float = 0.0
    """Row of the middle of the pellet, counted from the middle of the detector."""
    axis_tilt_deg: float = Field(default=0.0, ge=-5, le=5)
    """Tilt of the rotation axis in the plane of the detector."""
    wobble_um: float = Field(default=0.04, ge=0)
    """Run-out of the rotation stage, sideways and in height."""
    drift_um: float = Field(default=0.3, ge=0)
    """How far the cell has typically moved between the first scan and a late one."""
    distortion_at_corner_px: float = Field(default=0.0, ge=-50, le=50)
    """Shift by the lens of the detector's corners, outwards."""
    prepared_angles_deg: tuple[float, float, int] = (0.0, 0.075, 2401)
    """First angle, step and number of the projections worked out beforehand for a
    cell of more than 60 million voxels; a smaller one is projected at any angle."""
    cell_offset_um: tuple[float, float] = (3.0, -2.0)
    """Place of the cell's axis relative to the rotation axis, at 0 and 90 degrees."""

    @property
    def rotation_axis_px(self) -> float:
        """Column of the rotation axis; pixel centres are whole numbers from 0."""
        return (self.num_columns - 1) / 2 + self.rotation_axis_offset_px

    @property
    def pellet_row_px(self) -> float:
        """Row of the middle of the pellet."""
        return (self.num_rows - 1) / 2 + self.pellet_row_offset_px
