import h5py
import numpy as np
import pytest

from analysis.errors import DataError
from analysis.tomogram_file import TomogramWriter
from analysis.volume import ArrayVolume, Hdf5Volume, open_volume

VOXELS = np.random.default_rng(0).normal(0.01, 0.004, (37, 50, 50)).astype(np.float32)


def written(path, slabs=(16, 16, 5), **options):
    with TomogramWriter(path, VOXELS.shape, voxel_size_um=0.8, **options) as writer:
        start = 0
        for number in slabs:
            writer.write(VOXELS[start : start + number])
            start += number
        writer.finish({"rotation_axis_px": 24.5})
    return path


def test_a_viewer_finds_the_data_and_its_axes(tmp_path):
    path = written(tmp_path / "scan_0001.h5")
    with h5py.File(path) as file:
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        assert data.attrs["signal"] == "data"
        assert list(data.attrs["axes"]) == ["z", "y", "x"]
        assert np.array_equal(data["data"][()], VOXELS)
        assert data["data"].dtype == np.float32
        assert data["x"].attrs["units"] == "um"
        assert data["x"][25] == 0.0  # the axis of rotation
        assert np.allclose(np.diff(data["z"]), 0.8)
        process = entry["reconstruction"]
        assert process.attrs["complete"] == 1
        assert process["rotation_axis_px"][()] == 24.5
    with Hdf5Volume(path) as volume:
        assert volume.voxel_size_um == pytest.approx(0.8)
        assert np.array_equal(volume.slab(30, 37), VOXELS[30:37])


@pytest.mark.parametrize("slabs", [(16, 16, 5), (1,) * 37, (37,)])
def test_the_pyramid_is_the_mean_of_eight_voxels(tmp_path, slabs):
    with h5py.File(written(tmp_path / "a.h5", slabs)) as file:
        half = file["entry/data_2x/data"][()]
        quarter = file["entry/data_4x/data"][()]
        middle = file["entry/data_2x/x"][12]
    blocks = VOXELS[:36].reshape(18, 2, 25, 2, 25, 2).mean(axis=(1, 3, 5))
    assert np.allclose(half, blocks, atol=1e-7)
    blocks = half[:, :24, :24].reshape(9, 2, 12, 2, 12, 2).mean(axis=(1, 3, 5))
    assert np.allclose(quarter, blocks, atol=1e-7)
    # A voxel of two stands half a voxel off the axis.
    assert middle == pytest.approx(-0.5 * 0.8)


def test_sixteen_bits_come_back_within_half_a_step(tmp_path):
    path = written(tmp_path / "a.h5", output_range=(-0.01, 0.03))
    with h5py.File(path) as file:
        assert file["entry/data/data"].dtype == np.uint16
    with Hdf5Volume(path) as volume:
        step = 0.04 / 65535
        assert np.abs(volume.slab(0, 37) - VOXELS).max() < 0.51 * step + 1e-8


def test_a_file_that_was_not_finished_says_so(tmp_path):
    path = tmp_path / "a.h5"
    with TomogramWriter(path, VOXELS.shape, voxel_size_um=0.8) as writer:
        writer.write(VOXELS[:16])
        with pytest.raises(DataError, match="16 of 37 slices"):
            writer.finish()
    assert not path.exists()
    with h5py.File(tmp_path / "a.partial.h5") as file:
        assert file["entry/reconstruction"].attrs["complete"] == 0
        assert np.array_equal(file["entry/data/data"][:16], VOXELS[:16])
        assert np.isnan(file["entry/data/data"][16:]).all()


def test_a_full_disk_is_told_before_the_first_slice(tmp_path):
    path = tmp_path / "scan_0001.h5"
    # 10^15 voxels of 4 bytes, and a seventh for the pyramid.
    with pytest.raises(DataError, match=r"scan_0001.h5: needs 4571428.6 GB.* GB free"):
        TomogramWriter(path, (10**5, 10**5, 10**5), voxel_size_um=None)
    assert list(tmp_path.iterdir()) == []


def test_too_many_slices_are_refused(tmp_path):
    with TomogramWriter(tmp_path / "a.h5", (3, 8, 8), voxel_size_um=None) as writer:
        writer.write(np.zeros((2, 8, 8), np.float32))
        with pytest.raises(DataError, match="4 slices for a tomogram of 3"):
            writer.write(np.zeros((2, 8, 8), np.float32))


def test_volumes_of_every_kind_are_opened(tmp_path):
    import tifffile

    folder = tmp_path / "slices"
    folder.mkdir()
    for index, page in enumerate(VOXELS[:4]):
        tifffile.imwrite(
            folder / f"slice_{index:04d}.tif", page, photometric="minisblack"
        )
    tifffile.imwrite(tmp_path / "a.tif", VOXELS[:4], photometric="minisblack")
    np.save(tmp_path / "a.npy", VOXELS[:4])
    np.savez(tmp_path / "a.npz", volume=VOXELS[:4])
    for name in ("slices", "a.tif", "a.npy", "a.npz"):
        volume = open_volume(tmp_path / name, voxel_size_um=0.8)
        assert volume.shape == (4, 50, 50)
        assert np.array_equal(volume.slab(1, 3), VOXELS[1:3])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent.h5", "no such file"),
        ("absent.tif", "no such file"),
        ("absent.npy", "no such file"),
        ("a.jpg", "unknown kind of volume"),
        ("empty", "holds no TIFF"),
        ("text.h5", "not readable as HDF5"),
        ("text.npy", "not readable as NumPy"),
        ("text.tif", "not readable as TIFF"),
    ],
)
def test_what_is_no_volume_is_told(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    for suffix in ("h5", "npy", "tif"):
        (tmp_path / f"text.{suffix}").write_text("not a volume")
    with pytest.raises(DataError, match=said):
        open_volume(tmp_path / name, voxel_size_um=1.0)


def test_slices_that_are_not_there_are_refused():
    volume = ArrayVolume(VOXELS, 0.8)
    with pytest.raises(DataError, match="there are 37"):
        volume.slab(30, 38)
    with pytest.raises(DataError, match="must be above 0"):
        ArrayVolume(VOXELS, 0.0)
    with pytest.raises(DataError, match="3 axes"):
        ArrayVolume(VOXELS[0], 0.8)
