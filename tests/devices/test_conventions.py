"""Conventions every device and plan keeps."""

import inspect
import types

import pytest
from ophyd import Device, EpicsSignal, EpicsSignalRO
from ophyd.areadetector.base import EpicsSignalWithRBV

import plans.darks_flats
import plans.experiment
import plans.half_cycle
import plans.safe_state
import plans.tomogram

PLANS = [
    plans.darks_flats.darks,
    plans.darks_flats.flats,
    plans.experiment.experiment,
    plans.half_cycle.half_cycle,
    plans.safe_state.safe_state,
    plans.tomogram.tomogram,
]
RUNS = {"tomogram": plans.tomogram, "half_cycle": plans.half_cycle}


def used_signals(device):
    from devices.beamline import _signals

    return _signals(device)


def test_every_process_variable_a_device_names_is_served(beamline):
    # Connected means that an IOC answered for its name, set point and readback.
    names = []
    for device in beamline.devices():
        for signal in used_signals(device):
            if isinstance(signal, EpicsSignal | EpicsSignalRO | EpicsSignalWithRBV):
                assert signal.connected, signal.pvname
                names.append(signal.pvname)
    assert len(names) > 150


def test_every_device_says_in_its_docstring_what_it_drives(beamline):
    for device in beamline.devices():
        assert isinstance(device, Device)
        assert inspect.getdoc(type(device)), type(device).__name__
        module = inspect.getmodule(type(device))
        assert module is not None
        assert module.__doc__, module.__name__


def test_every_device_can_be_stopped_and_named(beamline):
    for device in beamline.devices():
        assert device.name
        assert callable(getattr(device, "stop", None)), device.name
    names = [device.name for device in beamline.devices()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
def test_every_plan_has_a_docstring_and_makes_messages(plan):
    assert inspect.getdoc(plan)
    assert inspect.isgeneratorfunction(inspect.unwrap(plan))
    annotation = str(inspect.signature(plan).return_annotation)
    assert "Generator" in annotation


@pytest.mark.parametrize("name", RUNS)
def test_every_run_says_the_name_of_its_plan(name):
    source = inspect.getsource(getattr(RUNS[name], name))
    assert f'"plan_name": "{name}"' in source


def test_importing_a_package_imports_no_channel_access():
    # ophyd and pyepics read the environment when they are first imported.
    for package in ("devices", "plans"):
        module = __import__(package)
        public = {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, types.ModuleType) and "ophyd" in name
        }
        assert not public


def test_plain_settings_need_neither_ophyd_nor_bluesky():
    import subprocess
    import sys

    code = (
        "import sys, plans.settings, plans.steps, plans.schedule, plans.timing,"
        " plans.journal, plans.wishes, plans.scan_files, devices.pvs;"
        "bad = [m for m in ('ophyd', 'epics', 'bluesky') if m in sys.modules];"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
