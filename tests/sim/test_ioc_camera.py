"""The simulated camera, its HDF5 plugin and the Zebra, driven through ophyd."""

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

ATTRIBUTES = "entry/instrument/NDAttributes"
# A double of a Unix time resolves 0.24 us; the times of two frames differ by twice it.
STAMP_TOLERANCE_S = 1e-6


@pytest.fixture(scope="module")
def detector(simulated_beamline: Any) -> Any:
    from ophyd import Component, DetectorBase
    from ophyd.areadetector.cam import PcoDetectorCam
    from ophyd.areadetector.plugins import HDF5Plugin_V34

    class Detector(DetectorBase):
        cam = Component(PcoDetectorCam, "cam1:")
        hdf = Component(HDF5Plugin_V34, "HDF1:")

    detector = Detector(simulated_beamline.pvs.camera, name="detector")
    detector.wait_for_connection(timeout=20)
    prime(detector)
    return detector


@pytest.fixture(scope="module")
def signals(simulated_beamline: Any) -> Any:
    from ophyd import EpicsMotor, EpicsSignal, EpicsSignalRO

    pvs = simulated_beamline.pvs
    rotation = EpicsMotor(pvs.rotation, name="rotation")
    shutter = EpicsSignal(pvs.shutter + "CON", name="shutter", string=True)
    state = EpicsSignalRO(pvs.shutter + "STA", name="state", string=True)
    lost = EpicsSignalRO(pvs.camera + "LostTriggers", name="lost")
    signals = SimpleNamespace(
        rotation=rotation, shutter=shutter, state=state, lost=lost
    )
    for signal in vars(signals).values():
        signal.wait_for_connection(timeout=20)
    signals.zebra = {
        name: EpicsSignal(pvs.position_compare + name, name=name)
        for name in (
            "PC_ARM", "PC_DISARM", "PC_ARM_OUT", "PC_DIR", "PC_GATE_START",
            "PC_GATE_WID", "PC_PULSE_START", "PC_PULSE_STEP", "PC_PULSE_MAX",
            "PC_NUM_CAP", "PC_NUM_DOWN", "PC_ENC1", "PC_TIME",
        )
    }  # fmt: skip
    for signal in signals.zebra.values():
        signal.wait_for_connection(timeout=20)
    return signals


def prime(detector: Any) -> None:
    cam, hdf = detector.cam, detector.hdf
    hdf.enable.set(1).wait(10)
    cam.array_callbacks.set(1).wait(10)
    cam.trigger_mode.set("Auto").wait(10)
    cam.image_mode.set("Single").wait(10)
    cam.acquire_time.set(0.01).wait(10)
    cam.acquire.put(1, use_complete=True, wait=True, timeout=60)
    wait_for(lambda: hdf.array_size.width.get() > 0)


def wait_for(condition: Any, timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("condition not met")
        threading.Event().wait(0.01)


def capture(detector: Any, path: Path, number: int, mode: str = "Auto") -> None:
    cam, hdf = detector.cam, detector.hdf
    hdf.create_directory.set(-3).wait(10)
    hdf.file_path.set(f"{path.parent}/").wait(10)
    hdf.file_name.set(path.stem).wait(10)
    hdf.file_template.set("%s%s.h5").wait(10)
    hdf.file_write_mode.set("Stream").wait(10)
    hdf.swmr_mode.set("On").wait(10)
    hdf.num_frames_flush.set(1).wait(10)
    hdf.num_capture.set(number).wait(10)
    cam.image_mode.set("Multiple").wait(10)
    cam.num_images.set(number).wait(10)
    cam.trigger_mode.set(mode).wait(10)
    cam.array_counter.set(0).wait(10)
    hdf.capture.put(1, wait=True)


def test_every_signal_of_ophyds_classes_is_served(detector: Any) -> None:
    from ophyd.signal import EpicsSignalBase

    # Make them all, then wait: one after the other they would take 15 s.
    for port in (detector.cam, detector.hdf):
        port.lazy_wait_for_connection = False
    signals = [
        walked.item
        for walked in detector.walk_signals(include_lazy=True)
        if isinstance(walked.item, EpicsSignalBase)
    ]
    assert len(signals) > 200
    for signal in signals:
        signal.wait_for_connection(timeout=20)


def test_plugin_looks_as_ophyd_wants_it(detector: Any) -> None:
    assert detector.hdf.plugin_type.get().startswith("NDFileHDF5")
    assert detector.hdf.nd_array_port.get() == detector.cam.port_name.get()
    detector.validate_asyn_ports()
    assert detector.dtype_numpy == "<u2"


def test_internal_period_is_exact_in_simulated_time(
    detector: Any, tmp_path: Path
) -> None:
    path = tmp_path / "raw" / "scan_0000_00_darks.h5"
    detector.cam.acquire_time.set(0.2).wait(10)
    detector.cam.acquire_period.set(0.5).wait(10)
    capture(detector, path, 20)
    assert Path(detector.hdf.full_file_name.get()) == path
    detector.cam.acquire.put(1, use_complete=True, wait=True, timeout=60)
    wait_for(lambda: detector.hdf.capture.get() == 0)
    assert detector.hdf.num_captured.get() == 20
    with h5py.File(path) as file:  # closed: opens without SWMR
        frames = file["entry/data/data"]
        rows, columns = detector.hdf.array_size.get()[1:]
        assert frames.shape == (20, rows, columns)
        assert frames.dtype == np.uint16
        assert file[f"{ATTRIBUTES}/NDArrayUniqueId"][()].tolist() == list(range(1, 21))
        stamps_s = file[f"{ATTRIBUTES}/NDArrayTimeStamp"][()]
    assert np.diff(stamps_s) == pytest.approx(0.5, abs=STAMP_TOLERANCE_S)


def test_a_file_that_exists_is_not_overwritten(detector: Any, tmp_path: Path) -> None:
    path = tmp_path / "scan_0000_00_darks.h5"
    path.write_bytes(b"irreplaceable")
    capture(detector, path, 1)
    assert detector.hdf.write_status.get(as_string=True) == "Write error"
    assert "exists" in detector.hdf.write_message.get()
    assert detector.hdf.capture.get() == 0
    assert path.read_bytes() == b"irreplaceable"


def arm(signals: Any, start: float, step: float, number: int, direction: str) -> None:
    values = {
        "PC_DIR": direction,
        "PC_GATE_START": start,
        "PC_GATE_WID": (number - 0.5) * step,
        "PC_PULSE_START": 0.0,
        "PC_PULSE_STEP": step,
        "PC_PULSE_MAX": number,
        "PC_ARM": 1,
    }
    for name, value in values.items():
        signals.zebra[name].put(value, wait=True)


@pytest.mark.parametrize(("begin", "sign"), [(-4.0, 1), (40.0, -1)])
def test_one_frame_per_step_at_the_angles_latched(
    detector: Any, signals: Any, tmp_path: Path, begin: float, sign: int
) -> None:
    path = tmp_path / "scan_0003_00_projections.h5"
    number, step, period_s = 60, 0.5, 0.25
    signals.shutter.put("Open", wait=True)
    assert signals.state.get() == "Open"
    signals.rotation.velocity.set(30.0).wait(5)
    signals.rotation.move(begin, wait=True, timeout=20)
    signals.rotation.velocity.set(step / period_s).wait(5)
    detector.cam.acquire_time.set(0.2).wait(10)
    capture(detector, path, number, "Ext Only")
    start = begin + 4.0 * sign
    arm(signals, start, step, number, "Positive" if sign > 0 else "Negative")
    assert signals.zebra["PC_ARM_OUT"].get() == 1
    detector.cam.acquire.put(1, wait=False)
    wait_for(lambda: detector.cam.detector_state.get(as_string=True) == "Acquire")
    signals.rotation.move(begin + 40 * sign, wait=True, timeout=60)
    wait_for(lambda: detector.hdf.capture.get() == 0)
    wait_for(lambda: signals.zebra["PC_NUM_DOWN"].get() == number)
    signals.shutter.put("Close", wait=True)

    angles = signals.zebra["PC_ENC1"].get()
    expected = start + sign * step * np.arange(number)
    # A double of a Unix time resolves 0.24 us: 5e-7 deg at 2 deg/s.
    assert angles == pytest.approx(expected, abs=1e-6)
    assert np.diff(signals.zebra["PC_TIME"].get()) == pytest.approx(
        period_s, abs=STAMP_TOLERANCE_S
    )
    assert signals.zebra["PC_ARM_OUT"].get() == 0
    assert signals.lost.get() == 0
    with h5py.File(path) as file:
        stamps_s = file[f"{ATTRIBUTES}/NDArrayTimeStamp"][()]
        frames = file["entry/data/data"][()]
    assert np.diff(stamps_s) == pytest.approx(period_s, abs=STAMP_TOLERANCE_S)
    # Light is on, and no two frames are the same picture.
    assert frames.mean() > 1000
    assert len({frame.tobytes() for frame in frames}) == number


def test_triggers_as_fast_as_the_camera_can_are_all_taken(
    detector: Any, signals: Any, tmp_path: Path
) -> None:
    number, step = 60, 0.5
    signals.rotation.velocity.set(30.0).wait(5)
    signals.rotation.move(-4.0, wait=True, timeout=20)
    # 0.2 s a step: 0.19 s of exposure and 0.01 s of readout fill it to the rounding.
    signals.rotation.velocity.set(step / 0.2).wait(5)
    detector.cam.acquire_time.set(0.19).wait(10)
    capture(detector, tmp_path / "scan_0004_00_flats.h5", number, "Ext Only")
    arm(signals, 0.0, step, number, "Positive")
    detector.cam.acquire.put(1, wait=False)
    wait_for(lambda: detector.cam.detector_state.get(as_string=True) == "Acquire")
    signals.rotation.move(40.0, wait=True, timeout=60)
    wait_for(lambda: detector.hdf.capture.get() == 0)
    assert detector.hdf.num_captured.get() == number
    assert signals.lost.get() == 0


def test_triggers_that_come_too_fast_are_lost_and_counted(
    detector: Any, signals: Any, tmp_path: Path
) -> None:
    path = tmp_path / "scan_0004_00_projections.h5"
    number, step = 40, 0.5
    signals.rotation.velocity.set(30.0).wait(5)
    signals.rotation.move(-4.0, wait=True, timeout=20)
    # 0.15 s a step, 0.2 s exposure and 0.01 s readout: every second one is lost.
    signals.rotation.velocity.set(step / 0.15).wait(5)
    detector.cam.acquire_time.set(0.2).wait(10)
    capture(detector, path, number, "Ext Only")
    arm(signals, 0.0, step, number, "Positive")
    detector.cam.acquire.put(1, wait=False)
    wait_for(lambda: detector.cam.detector_state.get(as_string=True) == "Acquire")
    signals.rotation.move(30.0, wait=True, timeout=60)
    wait_for(lambda: signals.zebra["PC_NUM_DOWN"].get() == number)
    detector.cam.acquire.put(0, wait=True)
    detector.hdf.capture.put(0, wait=True)
    assert signals.lost.get() == number // 2
    assert detector.hdf.num_captured.get() == number // 2
    with h5py.File(path) as file:
        stamps_s = file[f"{ATTRIBUTES}/NDArrayTimeStamp"][()]
        unique_ids = file[f"{ATTRIBUTES}/NDArrayUniqueId"][()]
    assert np.diff(stamps_s) == pytest.approx(0.3, abs=STAMP_TOLERANCE_S)
    assert np.diff(unique_ids).tolist() == [1] * (number // 2 - 1)


def test_frames_counted_can_be_read_while_the_file_grows(
    detector: Any, tmp_path: Path
) -> None:
    path = tmp_path / "scan_0005_00_darks.h5"
    detector.cam.acquire_time.set(0.5).wait(10)
    detector.cam.acquire_period.set(2.0).wait(10)
    capture(detector, path, 40)
    detector.cam.acquire.put(1, wait=False)
    wait_for(lambda: detector.hdf.num_captured.get() > 0)
    with h5py.File(path, "r", swmr=True) as file:
        frames = file["entry/data/data"]
        seen = 0
        while seen < 40:
            counted = detector.hdf.num_captured.get()
            frames.refresh()
            assert frames.shape[0] >= counted
            seen = counted
            threading.Event().wait(0.02)
    wait_for(lambda: detector.hdf.capture.get() == 0)


def test_acquire_0_ends_the_acquisition_and_frees_the_clock(
    detector: Any, signals: Any, tmp_path: Path
) -> None:
    capture(detector, tmp_path / "scan_0006_00_projections.h5", 100, "Ext Only")
    detector.cam.acquire.put(1, wait=False)
    wait_for(lambda: detector.cam.detector_state.get(as_string=True) == "Acquire")
    for _ in range(5):  # every line of defence stops it once more
        detector.cam.acquire.put(0, wait=False)
    detector.cam.acquire.put(0, wait=True)
    assert detector.cam.acquire.get() == 0
    assert detector.cam.detector_state.get(as_string=True) == "Idle"
    detector.hdf.capture.put(0, wait=True)
    signals.rotation.velocity.set(30.0).wait(5)
    signals.rotation.move(0.0, wait=True, timeout=20)
