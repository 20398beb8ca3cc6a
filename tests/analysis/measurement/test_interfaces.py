"""Voids between lithium and electrolyte, on phantoms whose truth is analytic."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from analysis.measurement.body import Body
from analysis.measurement.interfaces import (
    Interfaces,
    face_rows,
    interface_reasons,
    interface_row,
    measure_interfaces,
    write_interfaces,
)
from analysis.measurement.void_optics import (
    VoidOptics,
    boundary_delta_beta,
    lithium_delta,
    phase_optics,
)
from analysis.volume import ArrayVolume

sys.path.insert(0, str(Path(__file__).parent))

from interface_phantom import (
    BOUNDARY_DELTA_BETA,
    ENERGY_KEV,
    LITHIUM_PER_UM,
    SOLID_DELTA_BETA,
    SOLID_PER_UM,
    VOXEL_UM,
    make_interface,
)

LENSES = ((26, 26, 16, 4.0), (26, 70, 12, 3.0), (70, 70, 18, 6.0), (70, 26, 14, 2.0))
ABSORPTION = VoidOptics(LITHIUM_PER_UM * VOXEL_UM)


def body_of(phantom):
    """A body whose upper face is the mean one; its lower face is out of view."""
    ny, nx = phantom.face.shape
    top = np.full((ny, nx), phantom.face.mean(), np.float32)
    rim = np.full((len(phantom.grey), 8), 10.0 * nx, np.float32)
    return Body(top, top + 200, rim, (ny / 2, nx / 2), 0.9)


def measure(phantom, optics, **keywords):
    volume = ArrayVolume(phantom.grey, VOXEL_UM)
    found = measure_interfaces(
        volume, body_of(phantom), optics, reach_um=9.0, slab_bytes=2**20, **keywords
    )
    assert found.cathode.reason == "the lithium at the face is out of view"
    return found


def retrieved(distance_mm):
    return phase_optics(
        BOUNDARY_DELTA_BETA, distance_mm, ENERGY_KEV, VOXEL_UM, LITHIUM_PER_UM
    )


def test_lithium_refracts_as_tabulated():
    # facts/measurement.md, 14: xraydb 4.5.8 at 22.3 keV.
    assert lithium_delta(22.3) == pytest.approx(1.93e-7, rel=0.005)
    assert lithium_delta(44.6) == pytest.approx(1.93e-7 / 4, rel=0.005)


def test_the_ratio_at_a_boundary_is_that_of_the_differences():
    found = boundary_delta_beta(
        SOLID_DELTA_BETA, ENERGY_KEV, SOLID_PER_UM, LITHIUM_PER_UM
    )
    assert found == pytest.approx(BOUNDARY_DELTA_BETA, rel=0.002)
    with pytest.raises(ValueError, match="refract less than lithium"):
        boundary_delta_beta(20.0, ENERGY_KEV, SOLID_PER_UM, LITHIUM_PER_UM)


@pytest.mark.parametrize(("distance_mm", "noise"), [(2.0, 0.10), (10.0, 0.15)])
def test_thin_voids_are_measured_in_the_companion(distance_mm, noise):
    phantom = make_interface(
        LENSES, distance_mm=distance_mm, noise=noise, roughness=0.4
    )
    anode = measure(phantom, retrieved(distance_mm)).anode

    void, height = phantom.void, anode.voids.height_px
    floor_px = anode.voids.floor_px
    # 1.9 blurs of 0.9 voxels, and what the roughness adds to the blur.
    assert 1.9 * 0.9 < floor_px < 1.9 * 1.05
    counted = void > floor_px
    assert anode.lost_frac == pytest.approx(counted.mean(), abs=0.02)
    assert abs(anode.lost_frac - counted.mean()) < 2 * anode.lost_sd_frac
    assert anode.volume_px == pytest.approx(void[counted].sum(), rel=0.05)
    # The middle of each lens, where a neighbour is as high: an eighth of a voxel.
    for y, x, _, tall in LENSES[:3]:
        middle = np.s_[y - 2 : y + 3, x - 2 : x + 3]
        assert height[middle].mean() == pytest.approx(void[middle].mean(), abs=0.13), (
            tall
        )


def test_a_rough_face_in_contact_has_no_voids():
    phantom = make_interface(distance_mm=4.0, roughness=0.7, noise=0.15)

    anode = measure(phantom, retrieved(4.0)).anode

    assert anode.lost_frac < 0.005
    assert anode.seen_frac > 0.99


def test_absorption_tells_wide_voids_only():
    lenses = ((32, 32, 24, 9.0), (70, 70, 8, 4.0))
    phantom = make_interface(lenses, noise=0.03, psf=0.9)

    anode = measure(phantom, ABSORPTION).anode

    # Beyond 3.6 blurs of the edge, and over half the window there.
    assert anode.voids.floor_px == pytest.approx(3.6 * 0.9 + 1.5)
    counted = phantom.void > anode.voids.floor_px
    assert abs(anode.lost_frac - counted.mean()) < 2 * anode.lost_sd_frac
    assert anode.lost_frac == pytest.approx(counted.mean(), abs=0.03)
    assert anode.voids.height_px[32, 32] == pytest.approx(9.0, abs=1.0)
    assert anode.voids.height_px[70, 70] == 0


def test_absorption_says_what_hides_the_voids():
    fringes = make_interface(distance_mm=5.0, retrieved=False, noise=0.03)
    assert "fringes" in measure(fringes, ABSORPTION).anode.reason
    lenses = ((48, 48, 30, 6.0),)
    phase = make_interface(lenses, distance_mm=5.0, noise=0.03)
    assert "that is no absorption" in measure(phase, ABSORPTION).anode.reason
    noisy = measure(make_interface(noise=0.4), ABSORPTION)
    assert "times the noise" in noisy.anode.reason
    thin = measure(make_interface(noise=0.03), ABSORPTION, lithium_px=(11.0, None))
    assert thin.anode.reason == "the lithium is too thin to tell voids"
    row = interface_row(thin, VOXEL_UM)
    assert row["anode_contact_loss_frac"] is None
    assert interface_reasons(thin)[0].startswith("anode interface: the lithium is too")


def test_a_crack_that_opens_at_the_face_is_neither_contact_nor_void():
    phantom = make_interface(distance_mm=10.0)
    grey = phantom.grey.copy()
    grey[40:, :, 40:44] = 0

    anode = measure(
        type(phantom)(grey, phantom.face, phantom.void), retrieved(10.0)
    ).anode

    assert np.isnan(anode.voids.height_px[:, 41:43]).all()
    assert anode.seen_frac == pytest.approx(1 - 8 / 96, abs=0.04)


def test_the_rows_that_are_read_are_told_beforehand():
    phantom = make_interface((), distance_mm=10.0)
    (start, stop), _ = face_rows(body_of(phantom), 9.0 / VOXEL_UM)

    class Strict(ArrayVolume):
        def slab(self, first, last):
            assert start <= first and last <= stop
            return super().slab(first, last)

    found = measure_interfaces(
        Strict(phantom.grey, VOXEL_UM), body_of(phantom), retrieved(10.0),
        reach_um=9.0, slab_bytes=2**15,
    )  # fmt: skip
    assert found.anode.voids is not None


def test_units_of_the_row_and_the_map(tmp_path):
    phantom = make_interface(((48, 48, 30, 5.0),), distance_mm=10.0, noise=0.05)
    found = measure(phantom, retrieved(10.0))
    assert isinstance(found, Interfaces)

    row = interface_row(found, VOXEL_UM)

    counted = phantom.void[phantom.void > found.anode.voids.floor_px]
    assert row["interface_source"] == "phase"
    assert row["anode_voids"] == 1
    assert row["anode_void_thickness_um"] == pytest.approx(
        counted.mean() * VOXEL_UM, rel=0.05
    )
    assert row["anode_void_volume_um3"] == pytest.approx(
        counted.sum() * VOXEL_UM**3, rel=0.05
    )
    assert row["cathode_voids"] is None
    with h5py.File(tmp_path / "r.h5", "w") as file:
        write_interfaces(file.create_group("entry"), found, VOXEL_UM)
        drawn = file["entry/interfaces/anode/void_um"]
        assert drawn.attrs["units"] == "um"
        assert drawn[48, 48] == pytest.approx(5.0 * VOXEL_UM, abs=0.1)
        assert "cathode" not in file["entry/interfaces"]
