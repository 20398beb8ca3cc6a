"""IOCs that die and come back: who was lost, and what comes back first."""

import threading
from types import SimpleNamespace

import pytest

from devices.beamline import Beamline
from devices.errors import NotConnectedError
from orchestrator.connection import ConnectionWatch

NAMES = (
    "rotation",
    "sample_stage",
    "camera",
    "position_compare",
    "shutter",
    "potentiostat",
    "source",
)


class Signal:
    """Connected or not; tells who subscribed."""

    def __init__(self, pvname):
        self.pvname = pvname
        self.connected = True
        self._told = None

    def subscribe(self, told, *, event_type, run):
        assert (event_type, run) == ("meta", False)
        self._told = told

    def turn(self, connected):
        self.connected = connected
        self._told(connected=connected)


class Part:
    """A device, or an axis of one, that notes when it is stopped."""

    def __init__(self, name, stopped):
        self.name = name
        self.signal = Signal(f"T:{name}")
        self._stopped = stopped

    def walk_signals(self, *, include_lazy):
        return [SimpleNamespace(item=self.signal)]

    def wait_for_connection(self, timeout):
        pass

    def stop(self):
        self._stopped.append(self.name)
        if self.name == "shutter":
            raise TimeoutError("it does not move")


@pytest.fixture
def stopped():
    return []


@pytest.fixture
def beamline(stopped):
    parts = {name: Part(name, stopped) for name in NAMES}
    for axis in ("x", "y"):
        setattr(parts["sample_stage"], axis, Part(f"sample_{axis}", stopped))
    return Beamline(**parts)


@pytest.fixture
def watch(beamline):
    return ConnectionWatch(beamline)


class GiveUp(threading.Event):
    """Has something happen at each look; nothing waits."""

    def __init__(self, *happenings):
        super().__init__()
        self._happenings = list(happenings)

    def wait(self, timeout=None):
        if self._happenings:
            self._happenings.pop(0)()
        return self.is_set()


def test_who_was_lost_is_told_once_also_after_a_moment(beamline, watch):
    assert watch.lost() == []
    beamline.camera.signal.turn(False)
    beamline.camera.signal.turn(True)
    beamline.source.signal.turn(False)
    assert watch.lost() == ["camera", "source"]
    assert watch.lost() == ["source"]  # it still is
    beamline.source.signal.turn(True)
    assert watch.lost() == []


def test_what_comes_back_first_is_stopped_at_once(beamline, watch, stopped):
    lost = ("shutter", "potentiostat", "camera")
    for name in lost:
        getattr(beamline, name).signal.turn(False)
    seen = []

    def back(name):
        def come():
            seen.append(list(stopped))
            getattr(beamline, name).signal.turn(True)

        return come

    # The shutter fails to stop: the others are stopped all the same.
    watch.wait_until_back(60.0, GiveUp(*(back(name) for name in lost)))
    assert seen == [[], ["shutter"], ["shutter", "potentiostat"]]
    assert stopped == ["shutter", "potentiostat", "camera"]


@pytest.mark.parametrize("asked", [True, False])
def test_a_wait_that_ends_names_who_is_missing(beamline, watch, stopped, asked):
    beamline.camera.signal.turn(False)
    beamline.rotation.signal.turn(False)
    give_up = GiveUp()
    if asked:
        give_up.set()
    with pytest.raises(NotConnectedError, match=r"^camera, rotation did not come back"):
        watch.wait_until_back(60.0 if asked else 0.0, give_up)
    assert stopped == []
