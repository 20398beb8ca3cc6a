"""The NXtomo file against the readers and validators others use."""

import subprocess
import sys
import warnings

import h5py
import numpy as np
import pytest

from orchestrator.nxtomo_file import HalfCycleTrace, ScanRecord, write_nxtomo

NUMBERS = {"darks": 3, "flats": 4, "projections": 12}


def write_raw(path, number, value, start_s):
    with h5py.File(path, "w", libver="latest") as file:
        frames = np.full((number, 6, 8), value, "u2")
        frames += np.arange(number, dtype="u2")[:, None, None]
        file.create_dataset("entry/data/data", data=frames, chunks=(1, 6, 8))
        file["entry/instrument/NDAttributes/NDArrayTimeStamp"] = start_s + np.arange(
            number, dtype=float
        )


@pytest.fixture
def scan(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    files = {}
    for index, (stream, number) in enumerate(NUMBERS.items()):
        files[stream] = raw / f"scan_0007_00_{stream}.h5"
        write_raw(files[stream], number, 100 * (index + 1), 1.7e9 + 100 * index)
    return ScanRecord(
        title="test",
        sample="Li/Li3PS4/Li",
        beamline="I13-2",
        label="4",
        scan_number=7,
        attempt=0,
        simulated=True,
        raw_files=files,
        angles_deg=np.linspace(0, 165, 12),
        pixel_size_um=0.8,
        exposure_time_s=0.19,
        gross_charge_c=7 * 8.482e-3,
        net_charge_c=8.482e-3,
        lithium_volume_um3=7 * 1.1425e6,
        run_uid="a-run",
        half_cycle=HalfCycleTrace(
            7, "4", np.arange(5.0), np.full(5, 0.1), np.full(5, -4.7e-3)
        ),
        facts={"ring_current": (300.0, "mA"), "shutter": ("Open", "")},
    )


@pytest.fixture
def nxs(scan, tmp_path):
    path = tmp_path / "scans" / "scan_0007.nxs"
    write_nxtomo(path, scan)
    return path


def test_frames_keys_and_angles_are_in_order(nxs):
    with h5py.File(nxs) as file:
        keys = file["entry/instrument/detector/image_key"][:]
        images = file["entry/instrument/detector/data"][:]
        angles = file["entry/sample/rotation_angle"][:]
    assert keys.tolist() == [2] * 3 + [1] * 4 + [0] * 12
    assert keys.dtype == np.int32
    assert images.dtype == np.uint16
    assert images[:, 0, 0].tolist() == (
        [100, 101, 102] + [200, 201, 202, 203] + list(range(300, 312))
    )
    np.testing.assert_array_equal(angles[7:], np.linspace(0, 165, 12))


def test_frames_are_not_copied(nxs):
    with h5py.File(nxs) as file:
        data = file["entry/instrument/detector/data"]
        assert data.is_virtual
        assert all(not s.file_name.startswith("/") for s in data.virtual_sources())


def test_charge_voltage_and_current_stand_in_the_file(nxs):
    with h5py.File(nxs) as file:
        group = file["entry/electrochemistry"]
        assert group["gross_charge"][()] == pytest.approx(7 * 8.482e-3)
        assert group["gross_charge"].attrs["units"] == "C"
        assert group["current"][0] == pytest.approx(-4.7e-6)  # ampere
        assert group["simulated"][()] == 1
        assert file["entry/title"][()].decode().startswith("SIMULATED")
        assert file["entry/baseline/ring_current"].attrs["units"] == "mA"
        assert file["entry/start_time"][()] == b"2023-11-14T22:13:20.000+00:00"


def test_nxvalidate_finds_no_error(nxs):
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "nexusformat.scripts.nxvalidate",
            "-a",
            "NXtomo",
            str(nxs),
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    report = run.stdout + run.stderr
    assert "Total number of errors: 0" in report, report


def test_nxtomo_loads_it(nxs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of that library
        from nxtomo.application.nxtomo import NXtomo

        loaded = NXtomo().load(str(nxs), "entry", detector_data_as="as_numpy_array")
    assert loaded.instrument.detector.data.shape == (19, 6, 8)
    assert [int(key.value) for key in loaded.instrument.detector.image_key_control] == (
        [2] * 3 + [1] * 4 + [0] * 12
    )
    assert loaded.sample.name == "Li/Li3PS4/Li"
    pixel = loaded.instrument.detector.x_pixel_size
    assert float(pixel.to_base_units().magnitude) == pytest.approx(0.8e-6)


def test_a_missing_angle_is_refused(scan, tmp_path):
    import dataclasses

    short = dataclasses.replace(scan, angles_deg=scan.angles_deg[:-1])
    with pytest.raises(ValueError, match="12 projections on disk, 11 angles"):
        write_nxtomo(tmp_path / "x.nxs", short)
    assert not (tmp_path / "x.nxs").exists()


def test_a_scan_file_is_never_overwritten(scan, nxs):
    before = nxs.read_bytes()
    with pytest.raises(FileExistsError, match="never overwritten"):
        write_nxtomo(nxs, scan)
    assert nxs.read_bytes() == before
