"""How tomograms are reconstructed and measured: plain data."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from analysis.measurement.settings import MeasurementSettings

Window = Literal["ramp", "shepp-logan", "cosine", "hann", "parzen"]


class DistortionSettings(BaseModel):
    """Radial lens distortion by the backward polynomial model (Vo 2015)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    centre_x_px: float = Field(description="column of the centre of distortion")
    centre_y_px: float = Field(description="row of the centre of distortion")
    coefficients: tuple[float, ...] = Field(
        min_length=1,
        max_length=9,
        description="backward model: r_distorted = r * sum(coefficient_i * r^i)",
    )


class PhaseSettings(BaseModel):
    """Single-distance phase retrieval (Paganin 2002)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delta_beta: float = Field(gt=0, description="ratio of delta to beta")
    distance_mm: float = Field(gt=0, description="sample to detector (mm)")
    energy_kev: float = Field(gt=0, le=300, description="mean photon energy (keV)")


class ReconstructionSettings(BaseModel):
    """From frames to a tomogram."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["gridrec", "tomopy"] = Field(
        default="gridrec", description="who reconstructs"
    )
    window: Window = Field(default="ramp", description="apodisation of the ramp filter")
    padding: Literal["zero", "edge"] = Field(
        default="zero", description="edge where the sample is wider than the detector"
    )
    rotation_axis_px: float | None = Field(
        default=None, description="column of the axis; found from the frames if absent"
    )
    axis_jump_px: float = Field(
        default=1.0, gt=0, description="a change between scans that is flagged (px)"
    )
    zinger_threshold: float = Field(
        default=0.3, ge=0, description="bright spots deeper than this go; 0 keeps all"
    )
    rings: Literal["none", "response", "sorting", "all"] = Field(
        default="response",
        description="response: one offset per detector column, keeps cracks; sorting, "
        "all: algorithms of Vo 2018, blur what stands through the axis",
    )
    ring_snr: float = Field(
        default=3.0, gt=0, le=100, description="greater finds fewer large stripes"
    )
    ring_large_width_px: int = Field(default=51, ge=5, le=501, description="odd")
    ring_small_width_px: int = Field(default=21, ge=3, le=501, description="odd")
    air_columns_px: int = Field(
        default=8, ge=0, description="columns of air on either side; 0: no correction"
    )
    air_tolerance: float = Field(
        default=0.1, gt=0, description="attenuation above which they are not air"
    )
    min_transmission: float = Field(default=1e-3, gt=0, lt=1)
    rows: tuple[int, int] | None = Field(
        default=None, description="detector rows start, stop; all if absent"
    )
    binning: Literal[1, 2, 4, 8] = Field(
        default=1, description="pixels averaged into one, along both axes"
    )
    distortion: DistortionSettings | None = None
    phase: PhaseSettings | None = None
    interface_phase: PhaseSettings | None = Field(
        default=None,
        description="phase retrieval of the rows around the pellet's faces only, to "
        "tell voids there; delta_beta is that of the electrolyte",
    )
    memory_limit_gib: float = Field(default=8.0, ge=0.5, le=1024)
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="all processors if absent"
    )
    output: Literal["float32", "uint16"] = "float32"
    output_range: tuple[float, float] | None = Field(
        default=None,
        description="uint16: attenuation per pixel of grey 0 and of grey 65535",
    )
    pyramid_levels: int = Field(default=2, ge=0, le=5)
    preview_interval_s: float = Field(default=5.0, gt=0, description="wall time")

    @model_validator(mode="after")
    def _fits_together(self) -> "ReconstructionSettings":
        for name in ("ring_large_width_px", "ring_small_width_px"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be odd")
        if self.rows is not None and not 0 <= self.rows[0] < self.rows[1]:
            raise ValueError(f"rows is {self.rows}; it must be start < stop, from 0")
        limits = self.output_range
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError(f"output_range is {limits}; it must be low < high")
        if self.phase is not None and self.interface_phase is not None:
            raise ValueError(
                "phase and interface_phase are both set; with phase the whole tomogram "
                "is retrieved: leave interface_phase out"
            )
        if self.output == "uint16" and limits is None:
            raise ValueError(
                "output uint16 needs output_range, the attenuation per pixel of grey 0 "
                "and of grey 65535: the same for a whole series"
            )
        return self


class AnalysisSettings(BaseModel):
    """All that the analysis worker needs to know in advance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reconstruction: ReconstructionSettings = ReconstructionSettings()
    measurement: MeasurementSettings = MeasurementSettings()
