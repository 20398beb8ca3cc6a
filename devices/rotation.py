"""The rotation stage: a motor record that can also sweep at constant speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ophyd.status import DeviceStatus, StatusBase

from .axis import MOVE_MARGIN_FRAC, MOVE_MARGIN_S, ArrivalStatus, Axis
from .waiting import SignalStatus


@dataclass(frozen=True)
class Sweep:
    """One turn at constant speed, ramps included.

    Attributes
    ----------
    start_deg, stop_deg : float
        Where the motor starts and stops; both ramps lie between them.
    velocity_deg_s : float
        Constant speed between the ramps, positive in either direction.
    """

    start_deg: float
    stop_deg: float
    velocity_deg_s: float


class Rotation(Axis):
    """Rotation of the sample, in degrees; prepare and kickoff make it sweep."""

    def __init__(
        self, prefix: str = "", *, name: str, tolerance: float = 0.01, **kwargs: Any
    ) -> None:
        super().__init__(prefix, name=name, tolerance=tolerance, **kwargs)
        self._sweep: Sweep | None = None
        self._turning: ArrivalStatus | None = None

    def prepare(self, value: Sweep) -> StatusBase:
        """Set the speed of a sweep; the motor must already stand at its start."""
        self.check_value(value.start_deg)
        self.check_value(value.stop_deg)
        self.check_velocity(value.velocity_deg_s)
        if abs(self.place() - value.start_deg) > self.tolerance:
            raise ValueError(
                f"{self.name} stands at {self.place():g} deg; a sweep from"
                f" {value.start_deg:g} deg starts there: move it first"
            )
        self._sweep = value
        self._turning = None
        return self.set_velocity(value.velocity_deg_s)

    def kickoff(self) -> DeviceStatus:
        """Start the sweep."""
        if self._sweep is None:
            raise RuntimeError(f"{self.name} has no sweep; call prepare first")
        sweep, self._sweep = self._sweep, None
        travel_s = self.travel_time_s(
            sweep.stop_deg - sweep.start_deg, sweep.velocity_deg_s
        )
        started = DeviceStatus(self, call_stop_on_failure=False)
        self._turning = self.set(
            sweep.stop_deg,
            timeout=travel_s * (1 + MOVE_MARGIN_FRAC) + MOVE_MARGIN_S,
        )
        started.set_finished()
        return started

    def passes(
        self, angle_deg: float, direction: float, timeout_s: float
    ) -> SignalStatus:
        """Return a status that is done when the readback is past an angle.

        Parameters
        ----------
        direction : float
            Positive when the stage turns to larger angles, else negative.
        """
        sign = 1.0 if direction > 0 else -1.0
        return SignalStatus(
            self,
            self.user_readback,
            lambda position: sign * (position - angle_deg) >= 0,
            timeout_s=timeout_s + MOVE_MARGIN_S,
            what=f"the stage to pass {angle_deg:g} {self.egu}",
        )

    def complete(self) -> ArrivalStatus:
        """Return the status of the sweep, done where it stops."""
        if self._turning is None:
            raise RuntimeError(f"{self.name} is not sweeping; call kickoff first")
        return self._turning
