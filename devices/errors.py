"""What can go wrong with a device, sorted by who must act.

* DeviceError
    x NotConnectedError   operator: a PV that no IOC serves
    x MoveError           operator: a motor that did not arrive
    x WriterError         operator: the camera's file cannot be written
    x FramesLostError     retake: frames missing, late or out of order
    x BeamLostError       wait and retake: no beam on the sample
    x ShortCircuit        stop: the cell is shorted

A value outside its limits is a ValueError, raised before anything is written.
"""


class DeviceError(RuntimeError):
    """A device did not do what it was asked."""


class NotConnectedError(DeviceError):
    """Process variables that did not answer."""


class MoveError(DeviceError):
    """A motor stalled, was stopped, or ended elsewhere."""


class WriterError(DeviceError):
    """The file writer refused or failed."""


class FramesLostError(DeviceError):
    """Frames are missing, late, or their angles do not fit."""


class BeamLostError(DeviceError):
    """The ring current or the shutter says that no beam reaches the sample."""


class ShortCircuit(DeviceError):  # noqa: N818 - the physical event is the name
    """The cell's voltage collapsed while current was driven."""
