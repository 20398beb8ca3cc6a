"""The files that are written of a run once it ended, from its documents."""

import h5py
import numpy as np
import pytest

from orchestrator.archive import Archive
from orchestrator.layout import Layout

NUMBERS = {"darks": 3, "flats": 4, "projections": 12, "flats_after": 4}
ANGLES = np.linspace(0.1, 165.1, 12)


class Written:
    """An archive fed with documents as the RunEngine emits them."""

    def __init__(self, directory):
        self.layout = Layout(directory)
        self.layout.create()
        self.faults = []
        self.archive = Archive(
            self.layout,
            title="test",
            sample="a cell",
            beamline="I13-2",
            on_fault=self.faults.append,
        )
        self._runs = 0

    def _run(self, start, events, exit_status="success"):
        self._runs += 1
        uid = f"run-{self._runs}"
        common = {"gross_charge_c": 0.0, "net_charge_c": 0.0, "attempt": 0}
        self.archive("start", {"uid": uid, "time": 0.0, **common, **start})
        for name, kind, data in events:
            descriptor = f"{uid}-{name}"
            about = {key: {"units": ""} for key in data}
            self.archive(
                "descriptor", {"uid": descriptor, "name": name, "data_keys": about}
            )
            self.archive(kind, {"descriptor": descriptor, "data": data})
        if exit_status is not None:
            self.archive("stop", {"run_start": uid, "exit_status": exit_status})

    def half_cycle(self, number, times_s, *, attempt=0, cut=False):
        samples = {
            "potentiostat_time_s": list(times_s),
            "potentiostat_voltage_v": [0.1] * len(times_s),
            "potentiostat_current_ma": [0.02] * len(times_s),
        }
        start = {
            "plan_name": "half_cycle",
            "half_cycle": number,
            "label": "1",
            "step_index": 2 * number - 1,
            "attempt": attempt,
        }
        events = [("electrochemistry", "event_page", samples)] if len(times_s) else []
        self._run(start, events, None if cut else "success")

    def tomogram(self, number=0, *, flats="before", conditions=None):
        kinds = [kind for kind in NUMBERS if kind != "flats_after" or flats == "both"]
        files = self.layout.raw_files(number, 0)
        files["flats_after"] = files["flats"].with_name("flats_after.h5")
        for index, kind in enumerate(kinds):
            with h5py.File(files[kind], "w", libver="latest") as file:
                frames = np.full((NUMBERS[kind], 6, 8), 100 * (index + 1), "u2")
                file.create_dataset("entry/data/data", data=frames)
                file["entry/instrument/NDAttributes/NDArrayTimeStamp"] = (
                    1.7e9 + 100.0 * index + np.arange(NUMBERS[kind])
                )
        start = {
            "plan_name": "tomogram",
            "scan_number": number,
            "label": "1",
            "step_index": 2 * number,
            "scan": {"pixel_size_um": 0.8, "exposure_time_s": 0.1, "flats": flats},
            "raw_files": {kind: str(files[kind]) for kind in kinds},
        }
        angles = {"rotation_angle_deg": list(ANGLES)}
        self._run(
            start,
            [
                ("angles", "event", angles),
                ("conditions", "event", conditions or {}),
            ],
        )
        self.archive.close()
        assert self.faults == []
        return self.layout.scan_file(number)


@pytest.fixture
def written(tmp_path):
    written = Written(tmp_path / "data")
    yield written
    written.archive.close()


def keys_and_angles(path):
    with h5py.File(path) as file:
        return (
            file["entry/instrument/detector/image_key"][:].tolist(),
            file["entry/sample/rotation_angle"][:],
        )


def test_flats_after_the_projections_follow_them_with_their_angle(written):
    keys, angles = keys_and_angles(written.tomogram(flats="both"))
    assert keys == [2] * 3 + [1] * 4 + [0] * 12 + [1] * 4
    np.testing.assert_array_equal(angles[:7], ANGLES[0])
    np.testing.assert_array_equal(angles[7:19], ANGLES)
    np.testing.assert_array_equal(angles[19:], ANGLES[-1])


def test_flats_only_after_the_projections_stand_after_them(written):
    path = written.tomogram(flats="after")
    keys, angles = keys_and_angles(path)
    assert keys == [2] * 3 + [0] * 12 + [1] * 4
    np.testing.assert_array_equal(angles[3:15], ANGLES)
    np.testing.assert_array_equal(angles[15:], ANGLES[-1])
    with h5py.File(path) as file:  # the frames are in the order of the keys
        means = file["entry/instrument/detector/data"][:, 0, 0]
    assert means.tolist() == [100] * 3 + [300] * 12 + [200] * 4


def test_spoilt_frames_are_marked_in_their_own_file(written):
    conditions = {
        "darks_bad_frames": [],
        "flats_bad_frames": [1],
        "projections_bad_frames": [0, 11],
        "projections_bad_reasons": ["dead", "saturated"],
        "flats_after_bad_frames": [3],
    }
    keys, _ = keys_and_angles(written.tomogram(flats="both", conditions=conditions))
    assert keys == [2] * 3 + [1, 3, 1, 1] + [3] + [0] * 10 + [3] + [1, 1, 1, 3]


def test_a_half_cycle_cut_before_its_first_sample_gives_no_file(written):
    written.half_cycle(1, [], cut=True)
    written.half_cycle(1, [10.0, 11.0], attempt=1)
    written.archive.close()
    assert written.faults == []
    folder = written.layout.directory / "electrochemistry"
    assert [path.name for path in folder.iterdir()] == ["half_cycle_01_01.bdf.csv"]


def test_a_scan_holds_the_whole_half_cycle_before_it_however_often_it_was_cut(written):
    written.half_cycle(1, [1.0, 2.0])
    written.half_cycle(2, [10.0, 11.0], cut=True)
    written.half_cycle(2, [], attempt=1, cut=True)
    written.half_cycle(2, [20.0, 21.0, 22.0], attempt=2)
    with h5py.File(written.tomogram(1)) as file:
        group = file["entry/electrochemistry"]
        assert group["half_cycle"][()] == 2
        assert group["time"][:].tolist() == [10.0, 11.0, 20.0, 21.0, 22.0]
        assert len(group["voltage"]) == len(group["current"]) == 5


def test_files_that_exist_are_kept(written):
    voltage_file = written.layout.electrochemistry_file(1, 0)
    scan_file = written.layout.scan_file(0)
    for path in (voltage_file, scan_file):
        path.write_text("what was measured")
    written.half_cycle(1, [1.0, 2.0])
    written.tomogram()
    for path in (voltage_file, scan_file):
        assert path.read_text() == "what was measured"
