"""What a scan and a cycling experiment are asked to do: plain data, no ophyd."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Direction = Literal["charge", "discharge"]
ReferencePolicy = Literal["before", "after", "both"]
FrameSync = Literal["position_compare", "encoder_samples"]


class ScanSettings(BaseModel):
    """One tomogram: projections by continuous rotation, darks and flats."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_projections: int = Field(
        ge=2, description="frames over the range, one angular step apart"
    )
    range_deg: float = Field(
        180.0, gt=0, le=360, description="angle the projections cover (deg)"
    )
    start_angle_deg: float = Field(
        0.0, ge=-360, le=360, description="angle at the start of frame 0 (deg)"
    )
    exposure_time_s: float = Field(gt=0, le=60, description="exposure of a frame (s)")
    readout_time_s: float = Field(
        0.01, ge=0, le=10, description="time the camera needs after an exposure (s)"
    )
    frame_period_s: float | None = Field(
        None,
        gt=0,
        description="time from frame to frame (s); exposure and readout when left out",
    )
    pixel_size_um: float = Field(gt=0, description="pixel size at the sample (um)")
    sync: FrameSync = Field(
        "position_compare",
        description="what gives each frame its angle: triggers of a position compare,"
        " or the encoder's time-stamped samples while the camera runs by its own clock",
    )
    camera_start_max_s: float = Field(
        1.0,
        ge=0,
        le=60,
        description="longest time the camera takes to start, with encoder_samples (s);"
        " the stage turns so much further",
    )

    num_darks: int = Field(20, ge=1, description="frames with the shutter closed")
    num_flats: int = Field(20, ge=1, description="frames without the sample")
    flats: ReferencePolicy = Field(
        "before", description="when flats are taken: before, after or both"
    )
    darks_every: int = Field(
        1, ge=1, description="take darks every n scans, else use the last ones"
    )
    flats_every: int = Field(
        1, ge=1, description="take flats every n scans, else use the last ones"
    )
    reference_age_max_s: float = Field(
        7200.0, gt=0, description="darks and flats older than this are retaken (s)"
    )
    ring_current_band_frac: float = Field(
        0.05,
        gt=0,
        le=1,
        description="flats are retaken, and a scan fails, beyond this change of the"
        " ring current (fraction)",
    )
    reference_frames_lost_max: int = Field(
        1, ge=0, description="bad darks or flats left out before a group fails"
    )
    projections_lost_frac_max: float = Field(
        0.005,
        ge=0,
        le=0.5,
        description="part of the projections that may be spoilt and left out before"
        " the scan fails",
    )
    saturation_counts: int = Field(
        65535, gt=0, le=65535, description="a pixel at or above this is saturated"
    )
    saturated_frac_max: float = Field(
        0.001, ge=0, le=1, description="saturated part of a flat that is accepted"
    )
    flat_signal_min_counts: float = Field(
        50.0, gt=0, description="least mean of a flat above its dark (counts)"
    )

    sample_in_mm: float = Field(0.0, description="sample stage x in the beam (mm)")
    sample_out_mm: float = Field(description="sample stage x out of the beam (mm)")
    run_up_margin_deg: float = Field(
        0.5, ge=0, description="constant speed before frame 0, beyond ramping (deg)"
    )
    return_velocity_deg_s: float = Field(
        30.0, gt=0, description="speed of the way back to the start (deg/s)"
    )
    angle_tolerance_deg: float | None = Field(
        None,
        gt=0,
        description="largest error of a frame's angle (deg); half a step by default",
    )

    attempts_max: int = Field(3, ge=1, description="runs of one tomogram at most")
    ring_current_min_ma: float = Field(
        10.0, gt=0, description="ring current below this is a lost beam (mA)"
    )
    beam_wait_max_s: float = Field(
        43200.0, ge=0, description="longest wait for a lost beam to come back (s)"
    )
    free_disk_min_bytes: int = Field(
        2_000_000_000, ge=0, description="free space below this stops a scan (bytes)"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        shortest_s = self.exposure_time_s + self.readout_time_s
        if self.frame_period_s is not None and self.frame_period_s < shortest_s * (
            1 - 1e-9
        ):
            raise ValueError(
                f"frame_period_s is {self.frame_period_s:g} s; it must hold"
                f" exposure_time_s + readout_time_s = {shortest_s:g} s:"
                " lengthen it or shorten the exposure"
            )
        if self.sample_out_mm == self.sample_in_mm:
            raise ValueError(
                f"sample_out_mm equals sample_in_mm ({self.sample_in_mm:g} mm);"
                " flats need a place without the sample"
            )
        return self

    @property
    def period_s(self) -> float:
        """Time from frame to frame (s)."""
        if self.frame_period_s is not None:
            return self.frame_period_s
        return self.exposure_time_s + self.readout_time_s

    @property
    def step_deg(self) -> float:
        """Angle from frame to frame (deg)."""
        return self.range_deg / self.num_projections


class CyclingSettings(BaseModel):
    """Galvanostatic half-cycles of equal charge, the direction reversed each time.

    The sign of a current: positive charges the cell, which plates lithium on the
    electrode named anode.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    current_density_ma_cm2: float = Field(
        gt=0, le=1000, description="magnitude of the current density (mA/cm2)"
    )
    half_cycle_duration_s: float = Field(
        gt=0, le=864000, description="time of one half-cycle (s)"
    )
    num_half_cycles: int = Field(
        ge=0, description="half-cycles at most; the experiment ends before at a short"
    )
    first_direction: Direction = Field(
        "charge", description="direction of half-cycle 1"
    )
    rest_s: float = Field(
        0.0, ge=0, description="open circuit between half-cycle and tomogram (s)"
    )
    voltage_min_v: float = Field(
        -2.0, ge=-20, le=20, description="cell voltage that ends a step (V)"
    )
    voltage_max_v: float = Field(
        2.0, ge=-20, le=20, description="cell voltage that ends a step (V)"
    )
    compliance_voltage_v: float = Field(
        5.0, gt=0, le=20, description="largest voltage the instrument may drive (V)"
    )
    charge_margin_frac: float = Field(
        0.01,
        gt=0,
        le=1,
        description="charge beyond the asked one that ends a step (fraction)",
    )
    sub_steps: dict[int, int | tuple[float, ...]] = Field(
        default_factory=dict,
        description="half-cycle to number of equal parts, or to fractions of its"
        " charge; each part is followed by a tomogram",
    )
    heartbeat_timeout_s: float = Field(
        5.0,
        ge=1,
        le=600,
        description="the instrument opens the cell when the orchestrator is silent"
        " this long (s, wall time)",
    )
    attempts_max: int = Field(
        3, ge=1, description="times an interrupted half-cycle is taken up again"
    )
    tomogram_after_short: bool = Field(
        True, description="take one last tomogram when the cell has shorted"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.voltage_min_v >= self.voltage_max_v:
            raise ValueError(
                f"voltage_min_v ({self.voltage_min_v:g} V) must be below"
                f" voltage_max_v ({self.voltage_max_v:g} V)"
            )
        if self.compliance_voltage_v < max(
            abs(self.voltage_min_v), abs(self.voltage_max_v)
        ):
            raise ValueError(
                f"compliance_voltage_v is {self.compliance_voltage_v:g} V; it must"
                " reach beyond voltage_min_v and voltage_max_v, else the window"
                " can never end a step"
            )
        return self

    @field_validator("sub_steps")
    @classmethod
    def _check_sub_steps(
        cls, sub_steps: dict[int, int | tuple[float, ...]]
    ) -> dict[int, int | tuple[float, ...]]:
        for half_cycle, parts in sub_steps.items():
            if half_cycle < 1:
                raise ValueError(
                    f"sub_steps names half-cycle {half_cycle}; they count from 1"
                )
            if isinstance(parts, int):
                if not 1 <= parts <= 100:
                    raise ValueError(
                        f"sub_steps asks for {parts} parts of half-cycle {half_cycle};"
                        " 1 to 100 are allowed"
                    )
            elif any(part <= 0 for part in parts) or abs(sum(parts) - 1) > 1e-6:
                raise ValueError(
                    f"sub_steps cuts half-cycle {half_cycle} into {parts}; the"
                    " fractions must be positive and add up to 1"
                )
        return sub_steps

    def fractions(self, half_cycle: int) -> tuple[float, ...]:
        """Return the parts of a half-cycle as fractions of its charge."""
        parts = self.sub_steps.get(half_cycle, 1)
        if isinstance(parts, int):
            return (1 / parts,) * parts
        return parts

    def current_ma(self, half_cycle: int, area_cm2: float) -> float:
        """Return the signed current of a half-cycle counted from 1 (mA)."""
        if half_cycle < 1:
            raise ValueError(f"half_cycle is {half_cycle}; it counts from 1")
        if area_cm2 <= 0:
            raise ValueError(f"area_cm2 is {area_cm2:g}; it must be positive")
        first = 1 if self.first_direction == "charge" else -1
        sign = first if half_cycle % 2 == 1 else -first
        return sign * self.current_density_ma_cm2 * area_cm2
