"""What the preflight refuses, with a stand-in for the beamline."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator import preflight as module
from orchestrator.config import load_experiment
from orchestrator.disk_need import bytes_needed
from orchestrator.errors import RefusedError
from orchestrator.preflight import analysis_speed, preflight, refuse

EXAMPLES = Path(__file__).parents[2] / "examples"


class Signal:
    def __init__(self, value):
        self.value = value
        self.timestamp = time.time()

    def get(self, **_):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def put(self, value, **_):
        self.value = value


def motor(unit, limits):
    return SimpleNamespace(
        egu=unit,
        limits=limits,
        user_readback=Signal(0.0),
        motor_is_moving=Signal(0),
        acceleration=Signal(0.5),
    )


@pytest.fixture
def beamline():
    return SimpleNamespace(
        potentiostat=SimpleNamespace(
            relay_readback=Signal("Open"),
            state=Signal("Idle"),
            voltage=Signal(0.01),
            manufacturer=Signal("Gamry"),
            model=Signal("1000E"),
            serial=Signal("7"),
            rate=Signal(10.0),
        ),
        source=SimpleNamespace(
            ring_current=Signal(300.0), photon_energy=Signal(22.3), id_gap=Signal(5.0)
        ),
        shutter=SimpleNamespace(state=Signal("Closed")),
        rotation=motor("deg", (-1000, 1000)),
        sample_stage=SimpleNamespace(x=motor("mm", (-20, 20))),
        camera=SimpleNamespace(
            cam=SimpleNamespace(
                acquire=Signal(0),
                model=Signal("PCO"),
                size=SimpleNamespace(size_x=Signal(2560), size_y=Signal(2160)),
            ),
            hdf=SimpleNamespace(
                capture=Signal(0), file_path=Signal(""), file_path_exists=Signal(1)
            ),
        ),
    )


@pytest.fixture
def experiment():
    return load_experiment(EXAMPLES / "paper.yaml")


@pytest.fixture
def free(monkeypatch):
    def set_free(size):
        monkeypatch.setattr(
            module.shutil, "disk_usage", lambda path: SimpleNamespace(free=size)
        )

    set_free(1e16)
    return set_free


@pytest.fixture
def refused(experiment, beamline, tmp_path, free):
    def refused(*, steps=None, **changed):
        asked = experiment.model_copy(update=changed)
        findings = preflight(
            asked,
            beamline,
            tmp_path,
            asked.steps if steps is None else steps,
            simulated=False,
        )
        return {f.name: f for f in findings if f.verdict == "refuse"}

    return refused


def test_a_beamline_that_is_ready_is_not_refused(refused, tmp_path):
    assert refused() == {}
    assert list(tmp_path.iterdir()) == []  # nothing is left of the probe


@pytest.mark.parametrize(
    ("path", "value", "name", "why"),
    [
        ("potentiostat.relay_readback", "Closed", "cell", "something drives the cell"),
        ("potentiostat.state", "Fault", "cell", "has left a fault"),
        ("potentiostat.voltage", 3.5, "voltage", "-2 to 2 V"),
        ("source.ring_current", 2.0, "ring_current", "wait for the beam"),
        ("shutter.state", "Open", "shutter", "close it"),
        ("rotation.egu", "mdeg", "rotation", "its unit is 'mdeg', it must be deg"),
        ("rotation.limits", (-0.1, 180), "rotation", "does not fit into its limits"),
        ("sample_stage.x.limits", (-1, 1), "sample_x", "does not fit into its limits"),
        ("rotation.motor_is_moving", 1, "rotation", "it moves"),
        ("camera.cam.acquire", 1, "camera", "an earlier run left it"),
        ("camera.hdf.capture", 1, "camera", "has a file open"),
        ("camera.hdf.file_path_exists", 0, "camera_folder", "mount the folder"),
        ("source.ring_current", TimeoutError("no answer"), "beam", "look at its IOC"),
    ],
)
def test_what_is_wrong_is_refused_with_a_reason(
    refused, beamline, path, value, name, why
):
    *parents, last = path.split(".")
    owner = beamline
    for parent in parents:
        owner = getattr(owner, parent)
    if isinstance(getattr(owner, last), Signal):
        getattr(owner, last).value = value
    else:
        setattr(owner, last, value)
    findings = refused()
    assert list(findings) == [name]
    assert why in findings[name].advice


SHAPE = (2160, 2560)
VOLUME = 2160 * 2560 * 2560 * 4
PYRAMID = 1 + 1 / 8 + 1 / 64  # two levels
SCRATCH = 2 * 2400 * 2160 * 2560 * 2  # sinograms of two scans
FRAMES = (2400 + 40) * 2160 * 2560 * 2
REPORT = 200e6


def reconstruct(experiment, **changed):
    analysis = experiment.analysis
    reconstruction = analysis.reconstruction.model_copy(update=changed)
    analysis = analysis.model_copy(update={"reconstruction": reconstruction})
    return experiment.model_copy(update={"analysis": analysis})


def test_the_whole_experiment_must_fit_on_the_disk(refused, experiment, free):
    needed = bytes_needed(experiment, SHAPE, experiment.steps)
    assert needed == pytest.approx(41 * (FRAMES + VOLUME * PYRAMID) + SCRATCH + REPORT)
    free(needed + 1e9)  # 2 GB must stay free
    disk = refused()["disk"]
    assert "2 GB must stay free" in disk.advice
    assert "needed for the whole experiment" in disk.value


def test_what_is_done_needs_no_room_again(refused, experiment, free):
    rest = experiment.steps[-10:]  # five of the 41 tomograms
    needed = bytes_needed(experiment, SHAPE, rest)
    assert needed == pytest.approx(5 * (FRAMES + VOLUME * PYRAMID) + SCRATCH + REPORT)
    free(needed + 2.1e9)
    assert refused(steps=rest) == {}
    free(needed + 1.9e9)
    assert "needed for the rest of the experiment" in refused(steps=rest)["disk"].value
    assert bytes_needed(experiment, SHAPE, ()) == REPORT


@pytest.mark.parametrize(
    ("changed", "tomogram", "scratch"),
    [
        ({"binning": 2}, VOLUME / 8 * PYRAMID, SCRATCH / 4),
        ({"rows": (0, 1080)}, VOLUME / 2 * PYRAMID, SCRATCH / 2),
        ({"pyramid_levels": 0}, VOLUME, SCRATCH),
        (
            {"output": "uint16", "output_range": (0.0, 1.0)},
            VOLUME / 2 * PYRAMID,
            SCRATCH,
        ),
    ],
)
def test_room_for_what_is_reconstructed(experiment, changed, tomogram, scratch):
    changed = reconstruct(experiment, **changed)
    assert bytes_needed(changed, SHAPE, changed.steps) == pytest.approx(
        41 * (FRAMES + tomogram) + scratch + REPORT
    )


def test_room_for_the_faces_that_are_kept_a_second_time(experiment):
    phase = {"delta_beta": 221, "distance_mm": 5, "energy_kev": 22.3}
    with_faces = reconstruct(experiment, interface_phase=phase)
    # 20 um of lithium and 5 % of 2 mm at either face.
    rows = 2 * (20 + 100) / experiment.scan.pixel_size_um
    more = bytes_needed(with_faces, SHAPE, with_faces.steps) - bytes_needed(
        experiment, SHAPE, experiment.steps
    )
    volume, scratch = 4 * rows * 2560**2, 2 * rows * 2400 * 2560
    assert more == pytest.approx(41 * volume + scratch, rel=1 / rows)  # a whole row


def test_the_experiment_must_fit_into_the_beam_time(refused, experiment):
    def until(hours):
        end = datetime.now(UTC) + timedelta(hours=hours)
        return experiment.beamline.model_copy(update={"beam_time_until": end})

    assert "time" in refused(beamline=until(20))  # 40 half-cycles take 26 h
    assert "time" not in refused(beamline=until(40))
    rest = experiment.steps[-10:]
    assert "time" not in refused(steps=rest, beamline=until(4))
    assert "time" in refused(steps=rest, beamline=until(3))


def test_clocks_apart_are_refused(refused, beamline):
    beamline.potentiostat.voltage.timestamp -= 30
    assert "synchronise" in refused()["clock"].advice


def test_force_names_what_it_overrides(experiment, beamline, tmp_path, free):
    beamline.shutter.state.value = "Open"
    beamline.source.ring_current.value = 1.0
    findings = preflight(
        experiment, beamline, tmp_path, experiment.steps, simulated=False
    )
    with pytest.raises(RefusedError) as error:
        refuse(findings, ["shutter"])
    (reason,) = error.value.reasons
    assert reason.startswith("ring_current: 1.0 mA")
    assert "--force ring_current overrides" in reason
    overridden = refuse(findings, ["shutter", "ring_current"])
    assert {finding.name for finding in overridden} == {"shutter", "ring_current"}


def test_how_fast_this_machine_reconstructs(experiment):
    small = load_experiment(EXAMPLES / "dry_run.yaml")
    finding = analysis_speed(small, (16, 64))
    assert finding.name == "analysis"
    assert finding.verdict == "ok"
    assert "to reconstruct a tomogram" in finding.value
