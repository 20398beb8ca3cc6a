import h5py
import numpy as np
import pytest

from analysis.errors import DataError
from analysis.nxtomo_reader import NXtomoScan


def write(path, change=None, entry="entry"):
    """Write a small NXtomo file; `change` spoils it."""
    with h5py.File(path, "w") as file:
        group = file.create_group(entry)
        group["definition"] = "NXtomo"
        group["instrument/detector/data"] = np.arange(2 + 3 + 4, dtype=np.uint16)[
            :, None, None
        ] * np.ones((1, 6, 8), np.uint16)
        keys = np.array([2, 2, 1, 1, 1, 0, 0, 0, 0], np.int32)
        group["instrument/detector/image_key"] = keys
        angles = np.array([0, 0, 0, 0, 0, -90.0, -30.0, 30.0, 89.9])
        group["sample/rotation_angle"] = angles
        group["sample/rotation_angle"].attrs["units"] = "degree"
        group["instrument/detector/x_pixel_size"] = 0.8
        group["instrument/detector/x_pixel_size"].attrs["units"] = "um"
        if change is not None:
            change(group)
    return path


@pytest.mark.parametrize("entry", ["entry", "entry1/tomo_entry", "scan/tomo"])
def test_a_scan_is_found_wherever_its_entry_is(tmp_path, entry):
    with NXtomoScan(write(tmp_path / "a.nxs", entry=entry)) as scan:
        assert scan.entry == f"/{entry}"
        assert list(scan.darks) == [0, 1]
        assert list(scan.flats) == [2, 3, 4]
        assert list(scan.projections) == [5, 6, 7, 8]
        assert list(scan.angles_deg) == [-90.0, -30.0, 30.0, 89.9]
        assert scan.pixel_size_um == pytest.approx(0.8)
        frames = list(scan.read(scan.projections, slice(1, 3)))
    assert [frame.shape for frame in frames] == [(2, 8)] * 4
    assert frames[0][0, 0] == 5


def moved(group):
    group["data/image_key"] = group["instrument/detector/image_key"][()]
    del group["instrument/detector/image_key"]
    group["data/rotation_angle"] = np.deg2rad(group["sample/rotation_angle"][()])
    group["data/rotation_angle"].attrs["units"] = "rad"
    del group["sample/rotation_angle"]


def test_keys_and_angles_beside_the_data_and_in_radians(tmp_path):
    with NXtomoScan(write(tmp_path / "a.nxs", moved)) as scan:
        assert scan.angles_deg == pytest.approx([-90.0, -30.0, 30.0, 89.9])
        assert len(scan.flats) == 3


def without(path):
    def change(group):
        del group[path]

    return change


def replaced(path, value):
    def change(group):
        del group[path]
        group[path] = value

    return change


def dangling(group):
    del group["instrument/detector/data"]
    group["instrument/detector/data"] = h5py.ExternalLink("gone.h5", "/data")


def virtual(group):
    layout = h5py.VirtualLayout((9, 6, 8), np.uint16)
    layout[:] = h5py.VirtualSource("gone.h5", "data", (9, 6, 8))
    del group["instrument/detector/data"]
    group.create_virtual_dataset("instrument/detector/data", layout)


KEYS = "instrument/detector/image_key"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("sample/rotation_angle"), "no rotation angles"),
        (without(KEYS), "no image keys"),
        (without("instrument/detector/data"), "no frames"),
        (replaced(KEYS, np.array([0] * 7 + [1] * 2)), "no darks"),
        (replaced(KEYS, np.array([0] * 7 + [2] * 2)), "no flats"),
        (replaced(KEYS, np.array([1] * 7 + [2] * 2)), "no projections"),
        (replaced(KEYS, np.array([0, 1, 2])), "3 values.*9 frames"),
        (replaced("sample/rotation_angle", np.arange(8.0)), "8 values.*9 frames"),
        (
            replaced("sample/rotation_angle", np.full(9, np.nan)),
            "4 values that are no numbers",
        ),
        (replaced("instrument/detector/data", np.zeros((9, 8))), "frame, y, x"),
        (dangling, "gone.h5, which is not there"),
        (virtual, "gone.h5, which is not there"),
        (without("instrument"), "no NXtomo entry"),
    ],
)
def test_a_spoilt_file_is_told_by_name(tmp_path, change, said):
    path = write(tmp_path / "spoilt.nxs", change)
    with pytest.raises(DataError, match=said) as raised:
        NXtomoScan(path)
    assert "spoilt.nxs" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [np.empty(0), np.array(b"wide"), -1.0, np.nan])
def test_a_pixel_size_that_cannot_be_is_unknown(tmp_path, value):
    path = write(
        tmp_path / "a.nxs", replaced("instrument/detector/x_pixel_size", value)
    )
    with NXtomoScan(path) as scan:
        assert scan.pixel_size_um is None


def test_what_is_no_hdf5_file_is_told(tmp_path):
    path = tmp_path / "text.nxs"
    path.write_text("not a scan")
    with pytest.raises(DataError, match="not readable as HDF5"):
        NXtomoScan(path)
    with pytest.raises(DataError, match="no such file"):
        NXtomoScan(tmp_path / "absent.nxs")


def test_the_real_scan_starts_at_a_negative_angle(shared_data):
    with NXtomoScan(shared_data / "projections/nxtomo_24737_i13.nxs") as scan:
        assert scan.frames.shape == (93, 135, 160)
        assert (len(scan.darks), len(scan.flats)) == (1, 1)
        assert scan.angles_deg[0] == pytest.approx(-88.2)
        assert scan.angles_deg[-1] == pytest.approx(91.8, abs=0.01)


@pytest.mark.parametrize(
    "name",
    [
        "conformance-reference_NXtomo_all-but-cnxvalidate.nxs",
        "conformance-reference_NXtomo_cnxvalidate-variant.nxs",
    ],
)
def test_reference_files_are_read(shared_data, name):
    with NXtomoScan(shared_data / "nexus-other" / name) as scan:
        assert len(scan.angles_deg) == 91
        assert scan.pixel_size_um is not None
