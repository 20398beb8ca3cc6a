"""Settings of the measurement, as the operator writes them in the experiment's YAML."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

METHOD_VERSION = "3"
"""Written in every row; raised whenever a figure would come out differently."""


class MeasurementSettings(BaseModel):
    """How each tomogram is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    body: Literal["pellet", "whole"] = "pellet"
    """``pellet`` isolates the pellet first; ``whole`` takes the whole volume."""

    crack_threshold_frac: float = Field(default=0.5, gt=0.2, lt=0.8)
    """Grey deficit, as a fraction of the contrast, from which a voxel is crack."""

    crack_growth_threshold_frac: float = Field(default=0.3, gt=0.1, lt=0.8)
    """Deficit down to which a crack is followed from such a voxel: thin ends."""

    min_crack_volume_um3: float = Field(default=50.0, ge=0)
    """Smaller components are noise; their number and volume are reported."""

    rim_window_um: float = Field(default=40.0, gt=1, le=500)
    """The rim is smooth over this length: dips narrower than half of it are cracks
    that open there, wider ones are its shape."""

    face_window_um: float = Field(default=20.0, gt=1, le=500)
    """The same for the faces, which are rougher than the rim."""

    rim_shell_um: float = Field(default=10.0, ge=0, le=500)
    """Depth of the outer shell whose share of the crack volume is reported."""

    width_samples: int = Field(default=30_000, ge=100, le=2_000_000)
    """Random crack voxels at which the width is measured."""

    width_profile_um: float = Field(default=10.0, gt=2, le=50)
    """Half the length of the profile along which a width is looked for."""

    electrode_window_um: float = Field(default=12.0, gt=2, le=100)
    """Half the length of the profile to which an electrode's edge is fitted."""

    void_reach_um: float = Field(default=10.0, gt=2, le=100)
    """Voids between pellet and lithium are followed so far from the face; as much
    again beyond tells the lithium's grey."""

    slab_bytes: int = Field(default=256 * 2**20, ge=2**20)
    """Size of the float32 slab of the volume held at once, before its halo."""

    pellet_diameter_um: float | None = Field(default=None, gt=0)
    """Diameter that the pellet ought to have; an experiment takes it from ``cell``."""

    pellet_thickness_um: float | None = Field(default=None, gt=0)
    """Thickness that the pellet ought to have, in the same way."""

    pellet_tolerance_frac: float = Field(default=0.15, gt=0, le=1)
    """How far the pellet may differ from these before its row says that the voxel
    size is wrong."""

    random_seed: int = Field(default=0, ge=0)
    """Seed of the choice of crack voxels for the width."""

    @model_validator(mode="after")
    def _growth_below_threshold(self) -> "MeasurementSettings":
        if self.crack_growth_threshold_frac > self.crack_threshold_frac:
            raise ValueError(
                f"crack_growth_threshold_frac is {self.crack_growth_threshold_frac}, "
                f"above crack_threshold_frac {self.crack_threshold_frac}; "
                "give a value at or below it"
            )
        return self
