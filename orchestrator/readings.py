"""Show on the screen what the hardware says between documents."""

from typing import Any

from devices.beamline import Beamline
from orchestrator.snapshot import NOT_CONNECTED
from orchestrator.state import ExperimentState


def show_readings(beamline: Beamline, state: ExperimentState) -> None:
    """Send each new value of the cell and the beam to the screen.

    A value is shown only while its process variable is connected: a relay that was
    open before the connection was lost may be closed now.
    """
    shown: dict[str, Any] = {
        "voltage_v": beamline.potentiostat.voltage,
        "current_ma": beamline.potentiostat.current,
        "relay": beamline.potentiostat.relay_readback,
        "shutter": beamline.shutter.state,
        "ring_current_ma": beamline.source.ring_current,
        "rotation_deg": beamline.rotation.user_readback,
    }
    for name, signal in shown.items():
        _show(name, signal, state)


def _show(name: str, signal: Any, state: ExperimentState) -> None:
    def value_changed(*, value: Any, **_kwargs: Any) -> None:
        state.reading(name, value)

    def connection_changed(*, connected: bool = True, **_kwargs: Any) -> None:
        if not connected:
            state.reading(name, NOT_CONNECTED)

    signal.subscribe(value_changed, run=True)
    signal.subscribe(connection_changed, event_type="meta", run=False)
