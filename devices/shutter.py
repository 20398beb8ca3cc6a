"""A shutter with a command and a status PV, as Diamond's beamlines have them."""

from __future__ import annotations

from typing import Any

from ophyd import Component as Cpt
from ophyd import Device, EpicsSignal, EpicsSignalRO

from .waiting import AWAY_S, SignalStatus

SHUTTER_TIMEOUT_S = 15.0
RESULTS = {"Open": "Open", "Close": "Closed"}


class Shutter(Device):
    """Photon shutter: `set("Open")` or `set("Close")`, done when the status says so."""

    # status
    state = Cpt(EpicsSignalRO, "STA", string=True, kind="hinted", auto_monitor=True)
    # command; Reset clears a fault
    command = Cpt(EpicsSignal, "CON", string=True, kind="omitted")

    def check_value(self, value: str, **_kwargs: Any) -> None:
        """Raise if `value` is not a command of the shutter."""
        if value not in RESULTS:
            raise ValueError(
                f"{self.name} was told '{value}'; it knows {' and '.join(RESULTS)}"
            )

    def set(self, value: str, *, timeout_s: float = SHUTTER_TIMEOUT_S) -> SignalStatus:
        """Open or close; the status fails on a new fault or after `timeout_s`."""
        self.check_value(value)
        faulty = self.state.get() == "Fault"
        if faulty:
            # Only after a fault: some interlocks answer a needless reset with one.
            self.command.put("Reset", wait=False)
        self.command.put(value, wait=False)
        wanted = RESULTS[value]
        return SignalStatus(
            self,
            self.state,
            lambda state: state == wanted,
            timeout_s=timeout_s,
            what=f"the state {wanted}",
            away_s=AWAY_S,
            refused=None if faulty else lambda state: state == "Fault",
        )

    def stop(self, *, success: bool = False) -> None:
        """Send the command to close and return at once: closed is the safe place."""
        self.command.put("Close", wait=False)

    def is_open(self) -> bool:
        """Return whether the beam may pass."""
        state: Any = self.state.get()
        return state == "Open"
