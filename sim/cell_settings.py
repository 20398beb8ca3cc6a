"""What the virtual cell is made of and how it degrades: plain data.

Lengths, charges and laws only; the defaults are those of the experiment in
``docs/virtual_cell.md``. Voxels and pixels belong to the camera.
"""

from math import pi
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class CrackSettings(BaseModel):
    """How cracks nucleate, grow and widen.

    With the label N (1 after the first charge, 1.5 after the first discharge) the
    crack volume is ``first + growth * ln N`` of the pellet, and the most frequent
    width ``first_width + (last_width - first_width) * ln N / ln(last_label)``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    first_volume_fraction: float = Field(default=0.0146, gt=0, lt=0.3)
    """Crack volume after the first charge, as a fraction of the pellet's volume."""
    volume_growth_fraction: float = Field(default=0.0743, ge=0, lt=0.3)
    """Growth of that fraction per unit of ln N."""
    first_width_um: float = Field(default=3.0, gt=0)
    last_width_um: float = Field(default=4.4, gt=0)
    last_label: float = Field(default=15.0, gt=1)
    """Label at which the last width is reached."""
    nucleation_fraction: float = Field(default=0.15, ge=0, lt=1)
    """Part of the first charge that passes before the first crack appears."""
    first_crossing_fraction: float = Field(default=0.55, gt=0, lt=1)
    """Part of the first charge after which the first crack crosses the pellet."""
    waviness_um: float = Field(default=3.0, ge=0)
    """Amplitude of a sheet's departure from a plane across the pellet."""
    interface_narrowing: float = Field(default=0.3, ge=0, lt=0.9)
    """How much narrower than mid-pellet a crack is at the pellet's faces."""
    breathing: float = Field(default=0.15, ge=0, lt=0.9)
    """Change of width near the cathode: less after a charge, more after a discharge."""
    rings: bool = True
    """Semi-ellipsoidal shells where cracks start."""
    branches: bool = True
    """Second, narrower strands near the face where a crack starts."""

    @model_validator(mode="after")
    def _nucleates_before_it_crosses(self) -> Self:
        if self.nucleation_fraction >= self.first_crossing_fraction:
            raise ValueError(
                f"nucleation_fraction is {self.nucleation_fraction}; it must be below "
                f"first_crossing_fraction, {self.first_crossing_fraction}"
            )
        return self


class ShortSettings(BaseModel):
    """When a lithium-filled path connects the electrodes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hard", "soft", "none"] = "hard"
    """A hard short stays; a soft one flickers for a while and recovers."""
    half_cycle: int = Field(default=29, ge=1)
    fraction: float = Field(default=0.4, ge=0, lt=1)
    """Part of that half-cycle's charge that passes before the short."""
    soft_span_fraction: float = Field(default=0.3, gt=0)
    """Charge, in half-cycles, during which a soft short flickers."""
    soft_on_s: float = Field(default=1.0, gt=0)
    """Mean time a soft short stays on."""
    soft_off_s: float = Field(default=5.0, gt=0)
    """Mean time it stays off."""
    soft_voltage_fraction: tuple[float, float] = (0.15, 0.7)
    """Range of the part of the voltage that is left while it is on."""


class PelletSettings(BaseModel):
    """The pellet's surface, texture and motion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roughness_um: float = Field(default=0.3, ge=0)
    """Standard deviation of both faces' height."""
    roughness_length_um: float = Field(default=10.0, gt=0)
    """Distance over which a face's height changes."""
    chips_per_mm: float = Field(default=6.0, ge=0)
    """Chips along a millimetre of each edge."""
    chip_um: float = Field(default=5.0, ge=0)
    """Typical depth of a chip."""
    grain_contrast: float = Field(default=0.02, ge=0, lt=0.3)
    """Standard deviation of the density between grains, relative."""
    grain_um: float = Field(default=4.0, gt=0)
    """Size of the grains."""
    bending_um: float = Field(default=1.5, ge=0)
    """Height by which the rim moves against the middle, back and forth."""
    fragment_motion_um: float = Field(default=0.6, ge=0)
    """Motion of the fragments between cracks by the last label."""


class InterfaceSettings(BaseModel):
    """Voids and shards between the pellet and the lithium."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    voids_per_mm2: float = Field(default=350.0, ge=0)
    void_radius_um: float = Field(default=14.0, gt=0)
    """Typical lateral half-axis of a grown void."""
    void_height_um: float = Field(default=3.0, gt=0)
    void_cycles: float = Field(default=4.0, gt=0)
    """Cycles after its start in which a void reaches all but 1/e of its size."""
    void_swing: float = Field(default=0.08, ge=0, lt=0.5)
    """How much larger a void is after a charge, and smaller after a discharge."""
    shards_per_mm2: float = Field(default=200.0, ge=0)
    """Shards at each face by the last label."""
    shard_um: float = Field(default=4.0, gt=0)
    """Typical half-axis of a shard."""


class VoltageSettings(BaseModel):
    """Resistances and relaxation of the cell.

    The area resistances belong to the pristine cell; contact loss and cracks
    raise them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    conductivity_s_per_m: float = Field(default=1.6e-2, gt=0)
    interface_resistance_ohm_cm2: float = Field(default=300.0, ge=0)
    """Charge transfer of both interfaces together."""
    polarisation_resistance_ohm_cm2: float = Field(default=150.0, ge=0)
    """The part that builds up and relaxes slowly."""
    transfer_time_s: float = Field(default=0.5, gt=0)
    polarisation_time_s: float = Field(default=25.0, gt=0)
    first_charge_excess: float = Field(default=0.35, ge=0)
    """Relative excess at the start of the first charge, half of it at its end."""
    crack_gain: float = Field(default=3.0, ge=0)
    """Relative rise of the resistances per crack volume fraction."""
    short_resistance_fraction: float = Field(default=0.01, gt=0, lt=1)
    """Resistance of a short as a fraction of the cell's."""
    rest_v: float = 0.4e-3
    """Voltage of the relaxed cell; a symmetric cell shows next to none."""
    noise_v: float = Field(default=0.1e-3, ge=0)
    """Standard deviation of one voltage reading."""


class CellSettings(BaseModel):
    """The whole cell: geometry, materials, laws."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pellet_diameter_mm: float = Field(default=2.0, gt=0, le=20)
    pellet_thickness_mm: float = Field(default=0.6, gt=0, le=5)
    lithium_thickness_mm: float = Field(default=0.8, ge=0, le=5)
    """Thickness of each foil when pristine."""
    lithium_diameter_mm: float | None = Field(default=None, gt=0)
    """Diameter of the foils; that of the pellet where not given."""
    wall_inner_diameter_mm: float | None = Field(default=None, gt=0)
    """Inner diameter of the body around the stack; no wall where not given."""
    wall_thickness_mm: float = Field(default=0.5, gt=0)

    electrolyte_attenuation_per_cm: float = Field(default=7.86, gt=0)
    lithium_attenuation_per_cm: float = Field(default=0.095, ge=0)
    electrolyte_delta: float = Field(default=7.70e-7, ge=0)
    lithium_delta: float = Field(default=1.93e-7, ge=0)
    """Decrements of the refractive index, for the phase."""
    wall_attenuation_per_cm: float = Field(default=0.6, ge=0)
    """A polymer body at the mean energy; an assumption, not a datum of the paper."""

    half_cycle_charge_c: float = Field(default=8.482e-3, gt=0)
    """Charge of one nominal half-cycle; with the gross charge it gives the label."""
    lithium_in_cracks_fraction: float = Field(default=1.0, ge=0, le=1)
    """Share of the plated lithium that goes into cracks."""
    anode_compression_um: float = Field(default=6.0, ge=0)
    cathode_compression_um: float = Field(default=5.0, ge=0)
    """Lasting loss of thickness of the two foils."""
    compression_cycles: float = Field(default=2.0, gt=0)
    """Cycles after which all but 1/e of the compression has happened."""

    cracks: CrackSettings = CrackSettings()
    pellet: PelletSettings = PelletSettings()
    interface: InterfaceSettings = InterfaceSettings()
    short: ShortSettings = ShortSettings()
    voltage: VoltageSettings = VoltageSettings()

    @property
    def area_cm2(self) -> float:
        """Area of a pellet face in cm²."""
        return pi / 4 * (self.pellet_diameter_mm / 10) ** 2

    @property
    def pellet_volume_um3(self) -> float:
        """Volume of the intact pellet in µm³."""
        diameter_um = 1e3 * self.pellet_diameter_mm
        return pi / 4 * diameter_um**2 * 1e3 * self.pellet_thickness_mm
