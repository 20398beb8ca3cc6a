import pytest


def test_the_shutter_opens_and_closes(beamline):
    shutter = beamline.shutter
    shutter.set("Open").wait(20)
    assert shutter.is_open()
    shutter.set("Close").wait(20)
    assert not shutter.is_open()


def test_stopping_the_shutter_closes_it(beamline):
    shutter = beamline.shutter
    shutter.set("Open").wait(20)
    shutter.stop()
    shutter.set("Close").wait(20)
    assert shutter.state.get() == "Closed"


def test_an_unknown_command_is_refused(beamline):
    with pytest.raises(ValueError, match="Open and Close"):
        beamline.shutter.set("Ajar")
