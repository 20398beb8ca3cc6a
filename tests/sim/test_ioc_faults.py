"""Each fault that the simulation injects, seen by a client; and the IOC's death."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

PREFIX = "FAULT:"
CAMERA = PREFIX + "PCO:cam1:"
WRITER = PREFIX + "PCO:HDF1:"
SETTINGS: dict[str, Any] = {
    "clock_factor": 20.0,
    "cell": {
        "pellet_diameter_mm": 0.05,
        "pellet_thickness_mm": 0.02,
        "lithium_thickness_mm": 0.01,
        "cracks": {"enabled": False},
        "short": {"kind": "none"},
    },
    "camera": {"num_columns": 80, "num_rows": 56},
    "source": {"dump_recovery_s": 10_000},
}


def settings(**changes: Any) -> Any:
    from sim.settings import SimulationSettings

    return SimulationSettings.model_validate(SETTINGS | changes)


def wait_for(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("condition not met")
        threading.Event().wait(0.01)


class Client:
    """PVs by name, one connection each."""

    def __init__(self) -> None:
        self._pvs: dict[str, Any] = {}

    def pv(self, name: str) -> Any:
        import ophyd

        if name not in self._pvs:
            # ophyd's way of making them, for one test goes on to use ophyd.
            self._pvs[name] = ophyd.get_cl().get_pv(name)
        assert self._pvs[name].wait_for_connection(20), name
        return self._pvs[name]

    def get(self, name: str, **kwargs: Any) -> Any:
        return self.pv(name).get(use_monitor=False, timeout=10, **kwargs)

    def text(self, name: str) -> str:
        return self.get(name, as_string=True)

    def put(self, name: str, value: Any, **kwargs: Any) -> None:
        self.pv(name).put(value, **({"wait": True, "timeout": 30} | kwargs))

    def inject(self, name: str, value: int = 1) -> None:
        self.put(f"{PREFIX}FAULT:{name.upper()}", value)

    def active(self, name: str) -> bool:
        return bool(self.get(f"{PREFIX}FAULT:{name.upper()}"))

    def expose(self) -> None:
        """Take one frame that nobody captures: the plugin learns its size."""
        self.put(f"{WRITER}EnableCallbacks", "Enable")
        self.put(f"{CAMERA}AcquireTime", 0.1)
        self.put(f"{CAMERA}AcquirePeriod", 0.2)
        self.put(f"{CAMERA}TriggerMode", "Auto")
        self.put(f"{CAMERA}ImageMode", "Single")
        self.put(f"{CAMERA}Acquire", 1)
        wait_for(lambda: self.get(f"{WRITER}ArraySize0_RBV") > 0)

    def capture(self, path: Path, number: int) -> None:
        if self.get(f"{WRITER}ArraySize0_RBV") == 0:
            self.expose()
        self.put(f"{WRITER}FileTemplate", "%s%s.h5")
        self.put(f"{WRITER}FilePath", f"{path.parent}/")
        self.put(f"{WRITER}FileName", path.stem)
        self.put(f"{WRITER}SWMRMode", "On")
        self.put(f"{WRITER}NumCapture", number)
        self.put(f"{CAMERA}ImageMode", "Multiple")
        self.put(f"{CAMERA}NumImages", number)
        self.put(f"{CAMERA}ArrayCounter", 0)
        self.put(f"{WRITER}Capture", 1)
        assert self.text(f"{WRITER}WriteStatus") == "Write OK"


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


@pytest.fixture(scope="module")
def beamline(
    tmp_path_factory: pytest.TempPathFactory, second_environment: dict[str, str]
) -> Iterator[Any]:
    from sim.beamline import SimulatedBeamline

    with SimulatedBeamline.start(
        settings(),
        tmp_path_factory.mktemp("faulty"),
        prefix=PREFIX,
        environment=second_environment,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def no_fault_left(beamline: Any, client: Client) -> Iterator[None]:
    from sim.faults import FAULTS

    yield
    for name in FAULTS:
        if client.active(name):
            client.inject(name, 0)
    client.put(f"{CAMERA}Acquire", 0)
    client.put(f"{WRITER}Capture", 0)


def test_every_fault_has_a_pv_that_reads_0(client: Client) -> None:
    from sim.faults import FAULTS

    assert not any(client.active(name) for name in FAULTS)


def test_dropped_frame_leaves_a_gap_in_the_unique_ids(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "scan_0000_00_darks.h5"
    client.capture(path, 10)
    client.inject("dropped_frame")
    client.put(f"{CAMERA}Acquire", 1)
    assert not client.active("dropped_frame")
    assert client.get(f"{WRITER}NumCaptured_RBV") == 9
    client.put(f"{WRITER}Capture", 0)
    with h5py.File(path) as file:
        unique_ids = file["entry/instrument/NDAttributes/NDArrayUniqueId"][()]
    assert unique_ids.tolist() == list(range(2, 11))


def test_hanging_camera_delivers_nothing_until_stopped(
    client: Client, tmp_path: Path
) -> None:
    client.capture(tmp_path / "scan_0000_00_darks.h5", 1000)
    client.put(f"{CAMERA}Acquire", 1, wait=False)
    wait_for(lambda: client.get(f"{WRITER}NumCaptured_RBV") > 2)
    client.inject("camera_hang")
    wait_for(lambda: not changes(client, f"{WRITER}NumCaptured_RBV"))
    assert client.text(f"{CAMERA}Acquire") == "Acquire"
    client.put(f"{CAMERA}Acquire", 0)
    wait_for(lambda: not client.active("camera_hang"))
    client.put(f"{WRITER}Capture", 0)
    client.capture(tmp_path / "scan_0000_01_darks.h5", 3)
    client.put(f"{CAMERA}Acquire", 1)
    wait_for(lambda: client.get(f"{WRITER}NumCaptured_RBV") == 3)


def changes(client: Client, name: str) -> bool:
    before = client.get(name)
    threading.Event().wait(0.3)  # many times what a frame or a readback takes
    return client.get(name) != before


@pytest.mark.parametrize(
    ("fault", "message", "lasts"),
    [
        ("hdf5_write_error", "simulated write error", False),
        ("disk_full", "No space left on device", True),
    ],
)
def test_writer_that_fails_says_so_and_keeps_what_it_has(
    client: Client, tmp_path: Path, fault: str, message: str, lasts: bool
) -> None:
    path = tmp_path / "scan_0000_00_darks.h5"
    client.capture(path, 1000)
    client.put(f"{CAMERA}Acquire", 1, wait=False)
    wait_for(lambda: client.get(f"{WRITER}NumCaptured_RBV") > 2)
    client.inject(fault)
    wait_for(lambda: client.text(f"{WRITER}WriteStatus") == "Write error")
    wait_for(lambda: client.text(f"{WRITER}Capture_RBV") == "Done")
    assert message in client.text(f"{WRITER}WriteMessage")
    wait_for(lambda: client.active(fault) is lasts)
    client.put(f"{CAMERA}Acquire", 0)
    captured = client.get(f"{WRITER}NumCaptured_RBV")
    with h5py.File(path) as file:
        assert file["entry/data/data"].shape[0] == captured > 2


def test_stalled_stage_says_it_moves_until_stopped(client: Client) -> None:
    rotation = PREFIX + "ROT"
    client.put(f"{rotation}.VELO", 1.0)
    client.put(rotation, 500.0, wait=False)
    wait_for(lambda: client.get(f"{rotation}.RBV") > 0)
    client.inject("stage_stall")
    wait_for(lambda: not changes(client, f"{rotation}.RBV"))
    assert client.get(f"{rotation}.DMOV") == 0
    client.put(f"{rotation}.STOP", 1)
    wait_for(lambda: client.get(f"{rotation}.DMOV") == 1)
    wait_for(lambda: not client.active("stage_stall"))
    client.put(f"{rotation}.VELO", 30.0)
    client.put(rotation, 0.0)
    assert client.get(f"{rotation}.RBV") == 0.0


def test_limit_switch_ends_the_move_badly_and_frees_the_other_way(
    client: Client,
) -> None:
    from ophyd import EpicsMotor

    motor = EpicsMotor(PREFIX + "ROT", name="motor")
    motor.wait_for_connection(timeout=20)
    motor.velocity.set(1.0).wait(5)
    status = motor.move(500.0, wait=False)
    wait_for(lambda: motor.position > 0)
    client.inject("limit_hit")
    wait_for(lambda: status.done)
    assert not status.success
    assert motor.high_limit_switch.get() == 1
    motor.velocity.set(30.0).wait(5)
    motor.move(-1.0, wait=True, timeout=20)
    wait_for(lambda: motor.high_limit_switch.get() == 0)
    assert motor.position == -1.0
    motor.move(0.0, wait=True, timeout=20)


@pytest.mark.parametrize(
    ("fault", "order", "stays"),
    [
        ("shutter_stuck_closed", "Open", "Closed"),
        ("shutter_stuck_open", "Close", "Open"),
    ],
)
def test_stuck_shutter_shows_a_fault_until_reset(
    client: Client, fault: str, order: str, stays: str
) -> None:
    command, state = PREFIX + "SHTR:CON", PREFIX + "SHTR:STA"
    client.put(command, "Close" if order == "Open" else "Open")
    client.inject(fault)
    client.put(command, order)
    assert client.text(state) == "Fault"
    client.put(command, "Reset")
    assert client.text(state) == stays
    client.inject(fault, 0)
    client.put(command, order)
    assert client.text(state) == ("Open" if order == "Open" else "Closed")
    client.put(command, "Close")


def test_beam_is_lost_and_comes_back(client: Client, tmp_path: Path) -> None:
    current = PREFIX + "RING:CURRENT"
    full_ma = client.get(current)
    client.put(PREFIX + "SHTR:CON", "Open")
    bright = mean_of_one_frame(client, tmp_path / "scan_0000_00_flats.h5")
    client.inject("beam_dump")
    assert client.get(current) == 0.0
    dark = mean_of_one_frame(client, tmp_path / "scan_0000_01_flats.h5")
    client.inject("beam_dump", 0)
    assert client.get(current) == pytest.approx(full_ma, rel=0.02)
    again = mean_of_one_frame(client, tmp_path / "scan_0000_02_flats.h5")
    client.put(PREFIX + "SHTR:CON", "Close")
    assert dark < 0.05 * bright
    assert again == pytest.approx(bright, rel=0.05)  # less the decay of some minutes


def mean_of_one_frame(client: Client, path: Path) -> float:
    client.capture(path, 1)
    client.put(f"{CAMERA}Acquire", 1)
    wait_for(lambda: client.text(f"{WRITER}Capture_RBV") == "Done")
    with h5py.File(path) as file:
        return float(np.mean(file["entry/data/data"][()]))


def test_top_up_raises_the_current_at_once(client: Client) -> None:
    current = PREFIX + "RING:CURRENT"
    client.inject("top_up")
    filled_ma = client.get(current)
    assert filled_ma == pytest.approx(300.0, abs=0.1)
    assert not client.active("top_up")


def half_cycle(client: Client, step: int, current_ma: float = 3e-6) -> None:
    prefix = PREFIX + "PSTAT:"
    values = {
        "Step:Current": current_ma,
        "Step:Duration": 10_000.0,
        "Step:ChargeLimit": 1.0,
        "Step:VoltageMin": -4.0,
        "Step:VoltageMax": 4.0,
        "Compliance": 5.0,
        "Heartbeat:Timeout": 60.0,
        "Heartbeat": 1,
        "Step:Id": step,
        "Arm": 1,
        "Start": step,
    }
    for name, value in values.items():
        client.put(prefix + name, value)
    wait_for(lambda: client.text(prefix + "Relay_RBV") == "Closed")


def test_faults_of_the_potentiostat_reach_its_readings(client: Client) -> None:
    prefix = PREFIX + "PSTAT:"
    half_cycle(client, 101)
    voltage_v = client.get(prefix + "Voltage_RBV")
    assert voltage_v > 0
    client.inject("wrong_polarity")
    wait_for(lambda: client.get(prefix + "Voltage_RBV") < 0)
    client.inject("wrong_polarity", 0)
    client.inject("stale_voltage")
    wait_for(lambda: not changes(client, prefix + "Samples:Number_RBV"))
    client.inject("stale_voltage", 0)
    wait_for(lambda: changes(client, prefix + "Samples:Number_RBV"))
    client.inject("compliance")
    wait_for(lambda: client.text(prefix + "Relay_RBV") == "Open")
    assert client.text(prefix + "EndReason") == "Compliance"


def test_clock_factor_is_a_pv(client: Client) -> None:
    client.put(PREFIX + "CLOCK:FACTOR", 200.0)
    began_s, wall_s = client.get(PREFIX + "CLOCK:TIME"), time.monotonic()
    wait_for(lambda: client.get(PREFIX + "CLOCK:TIME") > began_s + 150)
    assert time.monotonic() - wall_s < 5  # 20 times the wall clock would take 7.5 s
    client.put(PREFIX + "CLOCK:FACTOR", 20.0)


def test_cell_and_clock_outlive_the_death_of_the_ioc(
    beamline: Any, client: Client
) -> None:
    prefix = PREFIX + "PSTAT:"
    half_cycle(client, 102)
    wait_for(lambda: client.get(prefix + "Charge_RBV") > 1e-8)
    relay = client.pv(prefix + "Relay_RBV")
    client.put(f"{PREFIX}FAULT:IOC_DEATH", 1, wait=False)
    wait_for(lambda: not beamline.running)
    died_s = memory(beamline)["time_s"]
    charge_c = memory(beamline)["cell"]["gross_charge_c"]
    assert charge_c > 1e-8
    wait_for(lambda: not relay.connected)
    beamline.restart()
    wait_for(lambda: relay.connected)
    assert client.text(prefix + "Relay_RBV") == "Open"
    wait_for(lambda: client.get(PREFIX + "CLOCK:TIME") > died_s)
    assert memory(beamline)["cell"]["gross_charge_c"] == pytest.approx(charge_c)
    assert client.get(prefix + "StepId_RBV") == 102
    assert client.text(prefix + "EndReason") == "Stopped"


def memory(beamline: Any) -> dict[str, Any]:
    import json

    return json.loads((beamline.truth_file.parent / "cell.json").read_text())
