"""What one tomogram gave, and the row of the results table that it makes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.measurement.body import Body
from analysis.measurement.chips import Chips, chips_row
from analysis.measurement.components import Components
from analysis.measurement.crack_mask import PackedMask
from analysis.measurement.crack_volume import CrackVolume
from analysis.measurement.crack_width import (
    NARROWEST_PX,
    WidthDistribution,
    Widths,
    side_medians,
    width_distribution,
)
from analysis.measurement.grey_levels import LevelField
from analysis.measurement.interfaces import Interfaces, interface_row
from analysis.measurement.isolation import Shards
from analysis.measurement.lithium import Lithium
from analysis.measurement.new_cracks import NewCracks
from analysis.measurement.reference import PristineVolume
from analysis.measurement.registration import RigidMotion
from analysis.measurement.settings import METHOD_VERSION
from analysis.measurement.surface_shift import SurfaceShifts
from analysis.measurement.thickness import ElectrodeFace, PelletFaces

Row = dict[str, float | int | str | None]


@dataclass(frozen=True)
class CrackMeasurement:
    """All that is measured of the cracks.

    Attributes
    ----------
    mask : PackedMask
        Voxels of the cracks, noise removed.
    components, components_6 : Components
        Connected through faces, edges and corners (26), and through faces only (6).
    volume : CrackVolume
    widths : Widths, optional
        None where there is no crack.
    noise_components, noise_voxels : int
        Components too small to count, which were removed.
    low_voxels : int
        Voxels whose deficit is above the threshold, noise included.
    body_voxels : float
        Volume of the body.
    shifts : SurfaceShifts, optional
        How the volume changes with surfaces a voxel elsewhere; None for a body
        without surfaces of its own.
    """

    mask: PackedMask
    components: Components
    components_6: Components
    volume: CrackVolume
    widths: Widths | None
    noise_components: int
    noise_voxels: int
    low_voxels: int
    body_voxels: float
    shifts: SurfaceShifts | None = None


@dataclass(frozen=True)
class TomogramMeasurement:
    """One tomogram, measured; ``reasons`` says what could not be.

    Attributes
    ----------
    motion : RigidMotion, optional
        From the pristine tomogram to this one, in voxels.
    new : NewCracks, optional
        Cracks that the tomogram before did not have.
    previous_volume_um3 : float, optional
        Crack volume of the tomogram before.
    registration : PristineVolume, optional
        This tomogram, binned, for later ones to be compared with.
    """

    voxel_um: float
    shape: tuple[int, int, int]
    levels: LevelField | None = None
    body: Body | None = None
    shards: Shards | None = None
    chips: Chips | None = None
    faces: PelletFaces | None = None
    anode: ElectrodeFace | None = None
    cathode: ElectrodeFace | None = None
    interfaces: Interfaces | None = None
    crack: CrackMeasurement | None = None
    lithium: Lithium | None = None
    motion: RigidMotion | None = None
    new: NewCracks | None = None
    previous_volume_um3: float | None = None
    registration: PristineVolume | None = None
    pictures: tuple[Path, ...] = ()
    reasons: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write mask, distributions and row to an HDF5 file."""
        from analysis.measurement.result_file import write_result

        write_result(self, path)

    def row(self) -> Row:
        """Return the measurements with units in the names; None where not measured."""
        row: Row = {
            "method_version": METHOD_VERSION,
            "voxel_um": self.voxel_um,
        }
        row.update(self._crack_row())
        row.update(self._lithium_row())
        row.update(self._thickness_row())
        row.update(chips_row(self.chips, self.voxel_um))
        row.update(interface_row(self.interfaces, self.voxel_um))
        row.update(self._motion_row())
        row.update(self._new_crack_row())
        row["reason"] = "; ".join(self.reasons) or None
        return row

    def _crack_row(self) -> Row:
        names = (
            "crack_volume_um3",
            "crack_volume_sd_um3",
            "crack_volume_voxels_um3",
            "crack_volume_voxels_low_um3",
            "crack_volume_voxels_high_um3",
            "crack_volume_rim_frac",
            "crack_volume_faces_in_um3",
            "crack_volume_faces_out_um3",
            "crack_volume_rim_in_um3",
            "crack_volume_rim_out_um3",
            "pellet_volume_um3",
            "crack_fraction",
            "crack_fraction_sd",
            "crack_area_um2",
            "crack_width_peak_um",
            "crack_width_median_um",
            "crack_width_mean_um",
            "crack_width_q05_um",
            "crack_width_q25_um",
            "crack_width_q75_um",
            "crack_width_q95_um",
            "crack_width_area_peak_um",
            "crack_width_area_median_um",
            "crack_width_crossing_median_um",
            "crack_width_anode_third_um",
            "crack_width_cathode_third_um",
            "crack_width_disagree_frac",
            "components",
            "components_6",
            "penetrates",
            "penetrates_6",
            "penetrating_voxel_frac",
            "anode_depth_um",
            "cathode_depth_um",
            "noise_volume_um3",
            "low_fraction",
        )
        row: Row = dict.fromkeys(names)
        crack, body = self.crack, self.body
        if crack is None or body is None:
            return row
        voxel_um3 = self.voxel_um**3
        volume = crack.volume
        row.update(
            crack_volume_um3=volume.deficit_px * voxel_um3,
            crack_volume_sd_um3=volume.sd_px * voxel_um3,
            crack_volume_voxels_um3=volume.counted_px * voxel_um3,
            crack_volume_voxels_low_um3=volume.counted_range_px[0] * voxel_um3,
            crack_volume_voxels_high_um3=volume.counted_range_px[1] * voxel_um3,
            crack_volume_rim_frac=volume.rim_share,
            pellet_volume_um3=crack.body_voxels * voxel_um3,
            crack_fraction=volume.deficit_px / crack.body_voxels,
            crack_fraction_sd=volume.sd_px / crack.body_voxels,
            components=len(crack.components.voxels),
            components_6=len(crack.components_6.voxels),
            penetrates=int(crack.components.penetrates.any()),
            penetrates_6=int(crack.components_6.penetrates.any()),
            noise_volume_um3=crack.noise_voxels * voxel_um3,
            low_fraction=crack.low_voxels / crack.body_voxels,
        )
        if crack.shifts is not None:
            for name in ("faces_in", "faces_out", "rim_in", "rim_out"):
                change_px = getattr(crack.shifts, f"{name}_px")
                shifted_px = volume.deficit_px + change_px
                row[f"crack_volume_{name}_um3"] = shifted_px * voxel_um3
        components = crack.components
        total = components.voxels.sum()
        through = components.voxels[components.penetrates].sum()
        row["penetrating_voxel_frac"] = float(through / total) if total else 0.0
        anode, cathode = depths_px(components, body)
        row["anode_depth_um"] = anode * self.voxel_um
        row["cathode_depth_um"] = cathode * self.voxel_um
        if crack.widths is not None:
            row.update(self._width_row(crack.widths, volume, body))
        return row

    def _width_row(self, widths: Widths, volume: CrackVolume, body: Body) -> Row:
        by_volume, by_area = width_distributions(widths)
        um = self.voxel_um
        inverse = float(np.mean(1 / widths.width_px))
        crossed = np.isfinite(widths.crossing_px)
        crossing = (
            float(np.median(widths.crossing_px[crossed])) if crossed.any() else None
        )
        low, first, third, high = by_volume.quantiles
        anode, cathode = side_medians(widths, body)
        return {
            "crack_width_anode_third_um": None if anode is None else anode * um,
            "crack_width_cathode_third_um": None if cathode is None else cathode * um,
            "crack_area_um2": volume.deficit_px * inverse * um**2,
            "crack_width_peak_um": by_volume.peak * um,
            "crack_width_median_um": by_volume.median * um,
            "crack_width_mean_um": by_volume.mean * um,
            "crack_width_q05_um": low * um,
            "crack_width_q25_um": first * um,
            "crack_width_q75_um": third * um,
            "crack_width_q95_um": high * um,
            "crack_width_area_peak_um": by_area.peak * um,
            "crack_width_area_median_um": by_area.median * um,
            "crack_width_crossing_median_um": None
            if crossing is None
            else crossing * um,
            "crack_width_disagree_frac": float(widths.disagree.mean()),
        }

    def _lithium_row(self) -> Row:
        row: Row = {
            "lithium_volume_um3": None,
            "lithium_volume_net_um3": None,
            "filling_fraction": None,
            "filling_fraction_sd": None,
        }
        if self.lithium is None:
            return row
        gross = self.lithium.gross_um3
        row["lithium_volume_um3"] = gross
        row["lithium_volume_net_um3"] = self.lithium.net_um3
        if self.crack is None:
            return row
        voxel_um3 = self.voxel_um**3
        volume = self.crack.volume.deficit_px * voxel_um3
        sd = self.crack.volume.sd_px * voxel_um3
        # Without a crack larger than its uncertainty there is nothing to fill.
        if volume > 2 * sd:
            filling = gross / volume
            row["filling_fraction"] = filling
            row["filling_fraction_sd"] = filling * float(
                np.hypot(sd / volume, self.lithium.relative_sd)
            )
        return row

    def _thickness_row(self) -> Row:
        um = self.voxel_um
        row: Row = dict.fromkeys(
            (
                "pellet_thickness_um",
                "pellet_thickness_sd_um",
                "pellet_thickness_variation_um",
                "pellet_diameter_um",
                "anode_thickness_um",
                "anode_thickness_sd_um",
                "cathode_thickness_um",
                "cathode_thickness_sd_um",
                "outer_faces_in_view",
                "edge_blur_um",
                "shards",
                "shard_volume_um3",
                "grey_solid",
                "grey_low",
                "grey_level_scatter_frac",
                "pellet_top_row",
                "pellet_bottom_row",
                "pellet_centre_x_px",
                "pellet_centre_y_px",
            )
        )
        if self.levels is not None:
            row["grey_solid"] = self.levels.mean()
            row["grey_low"] = self.levels.low
            row["grey_level_scatter_frac"] = self.levels.residual_frac
        if self.faces is not None and self.body is not None:
            row["pellet_thickness_um"] = self.faces.thickness_px * um
            row["pellet_thickness_sd_um"] = self.faces.thickness_sd_px * um
            row["pellet_thickness_variation_um"] = self.faces.variation_px * um
            row["pellet_diameter_um"] = 2 * float(np.median(self.body.rim)) * um
            row["edge_blur_um"] = self.body.edge_sigma_px * um
            row["pellet_top_row"] = float(np.median(self.body.top))
            row["pellet_bottom_row"] = float(np.median(self.body.bottom))
            row["pellet_centre_y_px"], row["pellet_centre_x_px"] = self.body.centre
        if self.shards is not None:
            row["shards"] = self.shards.number
            row["shard_volume_um3"] = self.shards.volume_px * um**3
        seen = []
        for name, face in (("anode", self.anode), ("cathode", self.cathode)):
            if face is None:
                continue
            if face.thickness_px is not None and face.thickness_sd_px is not None:
                row[f"{name}_thickness_um"] = face.thickness_px * um
                row[f"{name}_thickness_sd_um"] = face.thickness_sd_px * um
                seen.append(name)
        if self.anode is not None:
            row["outer_faces_in_view"] = "+".join(seen) or "none"
        return row

    def _motion_row(self) -> Row:
        row: Row = dict.fromkeys(
            (
                "drift_z_um", "drift_y_um", "drift_x_um", "rotation_z_deg",
                "rotation_y_deg", "rotation_x_deg", "registration_residual_frac",
            )
        )  # fmt: skip
        if self.motion is None or self.body is None:
            return row
        middle = 0.5 * float(np.median(self.body.top) + np.median(self.body.bottom))
        centre = np.array([middle, *self.body.centre])
        drift_um = (self.motion.apply(centre) - centre) * self.voxel_um
        turn_deg = np.degrees(self.motion.rotation)
        for axis, name in enumerate("zyx"):
            row[f"drift_{name}_um"] = float(drift_um[axis])
            row[f"rotation_{name}_deg"] = float(turn_deg[axis])
        row["registration_residual_frac"] = self.motion.residual_frac
        return row

    def _new_crack_row(self) -> Row:
        row: Row = dict.fromkeys(
            (
                "new_crack_volume_um3", "new_crack_components",
                "new_crack_anode_side_frac", "closed_crack_volume_um3",
                "crack_growth_um3",
            )
        )  # fmt: skip
        if self.new is None or self.crack is None:
            return row
        # A voxel of the mask stands for as much volume as the mean one.
        masked = self.crack.components.voxels.sum()
        volume_um3 = self.crack.volume.deficit_px * self.voxel_um**3
        per_voxel = float(volume_um3 / masked) if masked else self.voxel_um**3
        row["new_crack_volume_um3"] = self.new.voxels * per_voxel
        row["new_crack_components"] = self.new.components
        row["new_crack_anode_side_frac"] = (
            self.new.anode_share if self.new.voxels else None
        )
        row["closed_crack_volume_um3"] = self.new.closed_voxels * per_voxel
        if self.previous_volume_um3 is not None:
            row["crack_growth_um3"] = volume_um3 - self.previous_volume_um3
        return row


def depths_px(components: Components, body: Body) -> tuple[float, float]:
    """Return how deep cracks reach from the anode's and the cathode's face, voxels."""
    anode = cathode = 0.0
    if components.at_anode.any():
        deepest = components.bottom_row[components.at_anode].max()
        anode = max(0.0, float(deepest) + 0.5 - float(np.median(body.top)))
    if components.at_cathode.any():
        highest = components.top_row[components.at_cathode].min()
        cathode = max(0.0, float(np.median(body.bottom)) - float(highest) + 0.5)
    height = float(np.median(body.bottom - body.top))
    return min(anode, height), min(cathode, height)


def width_distributions(widths: Widths) -> tuple[WidthDistribution, WidthDistribution]:
    """Return the distribution weighted by volume, and by area."""
    usable = widths.width_px > NARROWEST_PX
    width = widths.width_px[usable]
    return width_distribution(width), width_distribution(width, 1 / width)
