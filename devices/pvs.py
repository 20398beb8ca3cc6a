"""Names of the process variables a beamline offers: plain data, no ophyd."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PositionCompareKind = Literal["zebra", "panda"]


class BeamlinePVs(BaseModel):
    """PV prefixes and names of one beamline.

    A prefix ends with a colon and is completed by the device class; a motor is the
    name of its record.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: str = Field(description="motor record of the rotation stage (deg)")
    sample_x: str = Field(description="motor record that takes the sample out (mm)")
    sample_y: str = Field(description="motor record of the sample's height (mm)")
    camera: str = Field(description="areaDetector prefix; cam1: and HDF1: follow")
    position_compare: str | None = Field(
        description="prefix of the unit that triggers the camera (Zebra: PC_ARM and"
        " others follow; PandA: PCOMP1:START and others); null where there is none"
    )
    position_compare_kind: PositionCompareKind = Field(
        "zebra", description="what the unit is: zebra or panda"
    )
    shutter: str = Field(description="shutter prefix; CON and STA follow")
    potentiostat: str = Field(description="prefix of the potentiostat IOC")
    ring_current: str = Field(description="stored beam current (mA)")
    id_gap: str = Field(description="motor record of the insertion device gap (mm)")
    photon_energy: str = Field(description="mean photon energy (keV)")
    filters: str = Field(description="prefix of the filter wheel; 1..4 follow")


def simulated_units(prefix: str) -> dict[PositionCompareKind, str]:
    """Return the prefixes of the position-compare units that the simulation serves."""
    return {"zebra": prefix + "ZEBRA:", "panda": prefix + "PANDA:"}


def simulated_pvs(
    prefix: str = "SIM:", position_compare: PositionCompareKind | None = "zebra"
) -> BeamlinePVs:
    """Return the names that the simulated beamline serves under `prefix`.

    It serves both units of position compare; one is chosen, or None.
    """
    return BeamlinePVs(
        rotation=prefix + "ROT",
        sample_x=prefix + "SAMPLE:X",
        sample_y=prefix + "SAMPLE:Y",
        camera=prefix + "PCO:",
        position_compare=(
            None
            if position_compare is None
            else simulated_units(prefix)[position_compare]
        ),
        position_compare_kind=position_compare or "zebra",
        shutter=prefix + "SHTR:",
        potentiostat=prefix + "PSTAT:",
        ring_current=prefix + "RING:CURRENT",
        id_gap=prefix + "ID:GAP",
        photon_energy=prefix + "ENERGY",
        filters=prefix + "FILTER:",
    )
