"""Settings of the simulated beamline: plain data, no ophyd, no caproto."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from devices.pvs import PositionCompareKind
from sim.camera_settings import CameraSettings
from sim.cell_settings import CellSettings
from sim.faults import parse_fault


class SourceSettings(BaseModel):
    """The storage ring and what the beamline makes of its beam."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ring_current_ma: float = Field(default=300.0, gt=0, le=1000)
    lifetime_h: float = Field(
        default=12.0, gt=0, description="decay of the stored current"
    )
    top_up_period_s: float = Field(
        default=600.0,
        ge=0,
        description="time between injections; 0 lets the beam decay",
    )
    dump_recovery_s: float = Field(
        default=300.0, gt=0, description="from a beam dump to the next full beam"
    )
    photon_energy_kev: float = Field(default=22.3, gt=0, le=200)
    id_gap_mm: float = Field(default=5.0, ge=4, le=30)
    shutter_travel_s: float = Field(default=0.3, ge=0, le=60)


class StageSettings(BaseModel):
    """Speeds and limits of the stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation_speed_deg_s: float = Field(default=30.0, gt=0, le=3600)
    rotation_acceleration_s: float = Field(
        default=0.5, gt=0, description="time from rest to full speed"
    )
    rotation_limit_deg: float = Field(default=100_000.0, gt=0, description="either way")
    sample_speed_mm_s: float = Field(default=10.0, gt=0)
    sample_acceleration_s: float = Field(default=0.2, gt=0)
    sample_limit_mm: float = Field(default=50.0, gt=0, description="either way")


class SimulationSettings(BaseModel):
    """Everything the simulated beamline needs to know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    clock_factor: float = Field(
        default=60.0,
        ge=0.01,
        le=10_000,
        description="simulated seconds per second; frames may hold the clock back",
    )
    seed: int = Field(default=1, ge=0, description="same seed, same cell, same noise")
    cell: CellSettings = Field(default_factory=CellSettings)
    camera: CameraSettings = Field(default_factory=CameraSettings)
    source: SourceSettings = Field(default_factory=SourceSettings)
    stages: StageSettings = Field(default_factory=StageSettings)
    position_compare: PositionCompareKind | None = Field(
        default="zebra",
        description="unit that triggers the camera: zebra, panda, or null for none",
    )
    voltage_record: Path | None = Field(
        default=None, description="recorded voltage that the cell shows instead"
    )
    faults: tuple[str, ...] = Field(
        default=(),
        description="NAME@WHEN, for example beam_dump@scan:2; see docs/simulation.md",
    )

    @field_validator("faults")
    @classmethod
    def _known_faults(cls, faults: tuple[str, ...]) -> tuple[str, ...]:
        for fault in faults:
            parse_fault(fault)
        return faults
