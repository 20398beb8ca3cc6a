"""The experiment as one YAML file, read once into frozen models.

Sections: experiment, cell, cycling, scan, guard, rules, beamline, analysis, simulation,
output, tiled; every key is described in ``docs/configuration.md``. Units are in the
keys. This module is plain data: it imports neither ophyd nor bluesky, because both read
the EPICS environment that the file sets.
"""

from math import pi
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import to_json

from analysis.measurement.lithium import lithium_volume_um3
from analysis.settings import AnalysisSettings
from devices.pvs import BeamlinePVs
from devices.short_circuit import GuardSettings
from orchestrator.config_faults import fault_line
from orchestrator.errors import ConfigurationError
from orchestrator.yaml_file import read_yaml
from plans.rules import Rule
from plans.schedule import schedule
from plans.settings import CyclingSettings, ScanSettings
from plans.steps import Step
from sim.settings import SimulationSettings

_SECTION = ConfigDict(extra="forbid", frozen=True)


class ExperimentSection(BaseModel):
    """What is done, by whom, under which name."""

    model_config = _SECTION

    id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        description="names the data folder: letters, digits, - and _",
    )
    title: str = Field(default="", max_length=200, description="heads the report")
    sample: str = Field(
        pattern=r"\S", max_length=200, description="what stands in the beam"
    )
    operators: tuple[str, ...] = Field(default=(), description="who runs it")
    proposal: str = Field(
        default="", max_length=100, description="number of the proposal"
    )
    notes: str = Field(
        default="", max_length=10_000, description="free text for the record"
    )


class CellSection(BaseModel):
    """The cell: a pellet between two lithium foils, upright in the beam."""

    model_config = _SECTION

    anode: Literal["top", "bottom"] = Field(
        default="top",
        description="the electrode on which a positive current plates lithium",
    )
    pellet_diameter_mm: float = Field(
        gt=0, le=50, description="diameter of the pellet; gives the electrode area"
    )
    pellet_thickness_mm: float = Field(gt=0, le=20, description="between the foils")
    lithium_thickness_mm: float = Field(gt=0, le=10, description="of each foil")
    current_density_min_ma_cm2: float = Field(
        default=0.001,
        gt=0,
        description="a smaller current density is taken for a wrong unit",
    )
    current_density_max_ma_cm2: float = Field(
        default=10.0,
        gt=0,
        description="a larger current density is taken for a wrong unit",
    )

    @property
    def electrode_area_cm2(self) -> float:
        """Area of one electrode, the pellet's cross-section."""
        return pi / 4 * (self.pellet_diameter_mm / 10) ** 2


class ChannelAccessSection(BaseModel):
    """Where process variables are looked for; loopback only unless told otherwise."""

    model_config = _SECTION

    address_list: tuple[str, ...] = Field(
        default=("127.0.0.1",),
        min_length=1,
        description="hosts or host:port of the IOCs",
    )
    auto_address_list: bool = Field(
        default=False, description="also search by broadcast on every network"
    )
    server_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="port of the IOCs; EPICS's own if absent",
    )


class BeamlineSection(BaseModel):
    """Where the experiment runs and the names of its process variables."""

    model_config = _SECTION

    name: str = Field(default="", max_length=100, description="of the beamline")
    pvs: BeamlinePVs | None = Field(
        default=None,
        description="names of the process variables; a dry run has its own",
    )
    channel_access: ChannelAccessSection = Field(default_factory=ChannelAccessSection)
    beam_time_until: AwareDatetime | None = Field(
        default=None,
        description="end of the beam time, such as 2026-11-30T08:00:00+00:00; an "
        "experiment that would end later is refused",
    )
    connect_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="for every process variable to answer"
    )
    ioc_wait_max_s: float = Field(
        default=600.0,
        ge=0,
        le=86_400,
        description="longest wait for an IOC that died, the cell open, and for one "
        "that is not up yet at a resume (wall time)",
    )


class TiledSection(BaseModel):
    """A Tiled server that gets a copy of each run once it has ended."""

    model_config = _SECTION

    uri: str | None = Field(
        default=None,
        description="of the server, such as http://127.0.0.1:8000 or https://…; "
        "nothing is sent without it",
    )
    api_key_variable: str = Field(
        default="TILED_API_KEY",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable that holds the key, which no file does",
    )
    retry_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="pause before a server that was away is tried again (wall time)",
    )

    @field_validator("uri")
    @classmethod
    def _is_safe(cls, uri: str | None) -> str | None:
        if uri is None:
            return None
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"uri is {uri!r}; it must be http://… or https://…")
        if parts.query or parts.password:
            raise ValueError(
                "uri holds more than an address; a key belongs into the environment "
                "variable that api_key_variable names, never into a file"
            )
        loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
        if parts.scheme == "http" and not loopback:
            raise ValueError(
                f"uri is {uri!r}: the key would cross the network in clear; use https"
            )
        return uri


class OutputSection(BaseModel):
    """Where the data go."""

    model_config = _SECTION

    directory: Path = Field(
        default=Path("data"), description="holds one folder per experiment id"
    )


class Experiment(BaseModel):
    """One experiment, checked and frozen."""

    model_config = _SECTION

    experiment: ExperimentSection
    cell: CellSection
    cycling: CyclingSettings
    scan: ScanSettings
    guard: GuardSettings = Field(default_factory=GuardSettings)
    rules: tuple[Rule, ...] = Field(
        default=(), description="tried in order after each tomogram, the first decides"
    )
    beamline: BeamlineSection = Field(default_factory=BeamlineSection)
    analysis: AnalysisSettings = Field(default_factory=AnalysisSettings)
    simulation: SimulationSettings | None = Field(
        default=None, description="the simulated beamline of a dry run"
    )
    output: OutputSection = Field(default_factory=OutputSection)
    tiled: TiledSection = Field(default_factory=TiledSection)

    @model_validator(mode="after")
    def _check(self) -> Self:
        density = self.cycling.current_density_ma_cm2
        lowest = self.cell.current_density_min_ma_cm2
        highest = self.cell.current_density_max_ma_cm2
        if not lowest <= density <= highest:
            raise ValueError(
                f"cycling.current_density_ma_cm2 is {density:g} mA/cm2, "
                f"{density * self.electrode_area_cm2:g} mA on this cell; allowed is "
                f"{lowest:g} to {highest:g} mA/cm2: check the unit, or widen "
                "cell.current_density_min_ma_cm2 / cell.current_density_max_ma_cm2 "
                "if the cell is meant to see it"
            )
        pvs = self.beamline.pvs
        triggered = self.scan.sync == "position_compare"
        if triggered and pvs is not None and pvs.position_compare is None:
            raise ValueError(
                "scan.sync is position_compare and beamline.pvs.position_compare is "
                "null: give its prefix, or set scan.sync to encoder_samples"
            )
        exposing_s = self.scan.num_projections * self.scan.period_s
        if exposing_s > self.cycling.half_cycle_duration_s * 100:
            raise ValueError(
                f"one scan exposes for {exposing_s:g} s, more than 100 "
                f"half-cycles of {self.cycling.half_cycle_duration_s:g} s: check "
                "scan.num_projections, scan.exposure_time_s and "
                "cycling.half_cycle_duration_s"
            )
        return self

    @property
    def electrode_area_cm2(self) -> float:
        """Area of one electrode."""
        return self.cell.electrode_area_cm2

    @property
    def current_ma(self) -> float:
        """Magnitude of the current of a half-cycle."""
        return self.cycling.current_density_ma_cm2 * self.electrode_area_cm2

    @property
    def half_cycle_charge_c(self) -> float:
        """Magnitude of the charge of one whole half-cycle."""
        return self.current_ma * 1e-3 * self.cycling.half_cycle_duration_s

    @property
    def half_cycle_lithium_um3(self) -> float:
        """Lithium that one whole half-cycle plates."""
        return lithium_volume_um3(self.half_cycle_charge_c)

    @property
    def analysis_of_cell(self) -> AnalysisSettings:
        """Settings of the analysis, which the cell's dimensions are given to.

        A pellet that measures otherwise betrays a wrong voxel size.
        """
        measurement = self.analysis.measurement
        declared_um = {
            "pellet_diameter_um": 1e3 * self.cell.pellet_diameter_mm,
            "pellet_thickness_um": 1e3 * self.cell.pellet_thickness_mm,
        }
        update = {
            name: size_um
            for name, size_um in declared_um.items()
            if getattr(measurement, name) is None
        }
        measurement = measurement.model_copy(update=update)
        return self.analysis.model_copy(update={"measurement": measurement})

    @property
    def steps(self) -> tuple[Step, ...]:
        """The tomograms and half-cycles in order."""
        return schedule(self.cycling, self.electrode_area_cm2)


def load_experiment(path: Path) -> Experiment:
    """Read an experiment's YAML file.

    Raises
    ------
    ConfigurationError
        With one line for each fault: where, what, which value, what is allowed.
    """
    file = read_yaml(path)
    try:
        # JSON's strict mode takes lists for tuples and text for paths, no more.
        return Experiment.model_validate_json(to_json(file.values), strict=True)
    except ValidationError as error:
        raise ConfigurationError(
            *(fault_line(fault, file, Experiment) for fault in error.errors())
        ) from error
