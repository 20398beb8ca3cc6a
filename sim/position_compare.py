"""When a position-compare unit fires, worked out from the stage's planned motion."""

import math
from dataclasses import dataclass

from sim.motion import Axis


@dataclass(frozen=True)
class Gate:
    """What was asked: the first pulse, their spacing, and where they end.

    Attributes
    ----------
    start : float
        Position at which the gate opens.
    width : float
        Length of the gate along the direction of travel; 0 leaves it open.
    pulse_start : float
        Distance of the first pulse from the start of the gate.
    pulse_step : float
        Distance between pulses.
    pulse_max : int
        Number of pulses; 0 for as many as the gate holds.
    direction : int
        1 for positive travel, -1 for negative.
    """

    start: float
    width: float
    pulse_start: float
    pulse_step: float
    pulse_max: int
    direction: int

    def __post_init__(self) -> None:
        """Refuse what could never fire or never end."""
        if self.pulse_step <= 0:
            raise ValueError(f"PC_PULSE_STEP is {self.pulse_step}; it must be above 0")
        if self.width <= 0 and self.pulse_max <= 0:
            raise ValueError("PC_GATE_WID and PC_PULSE_MAX are both 0: no end is set")

    @property
    def number(self) -> int:
        """Pulses between the start and the end of the gate."""
        if self.width <= 0:
            return self.pulse_max
        # A pulse on the very end of the gate does not fire, rounding or not.
        inside = math.ceil((self.width - self.pulse_start) / self.pulse_step - 1e-6)
        inside = max(inside, 0)
        return min(inside, self.pulse_max) if self.pulse_max > 0 else inside

    def position(self, pulse: int) -> float:
        """Return where pulse number `pulse`, counted from 0, is due."""
        ahead = self.pulse_start + pulse * self.pulse_step
        return self.start + self.direction * ahead


class PositionCompare:
    """The pulses of one arming.

    Parameters
    ----------
    axis : Axis
        The stage whose encoder is compared.
    """

    def __init__(self, axis: Axis) -> None:
        self._axis = axis
        self._gate: Gate | None = None
        self._armed_s = 0.0
        self.times_s: list[float] = []
        self.positions: list[float] = []

    @property
    def armed(self) -> bool:
        """Whether pulses are still due."""
        return self._gate is not None

    @property
    def gate(self) -> Gate | None:
        """What it is armed for; the unit that armed it knows it by this."""
        return self._gate

    def arm(self, gate: Gate, at_s: float) -> None:
        """Forget the pulses of the last arming and wait for the gate."""
        self._gate = gate
        self._armed_s = at_s
        self.times_s = []
        self.positions = []

    def disarm(self) -> None:
        """Fire no more pulses; those latched remain readable."""
        self._gate = None

    @property
    def armed_s(self) -> float:
        """When it was armed last."""
        return self._armed_s

    def next_s(self) -> float | None:
        """Return when the next pulse fires as the stage is planned to move now."""
        gate = self._gate
        if gate is None:
            return None
        pulse = len(self.times_s)
        if pulse >= gate.number:
            return None
        after_s = self.times_s[-1] if self.times_s else self._armed_s
        return self._axis.crossing_s(gate.position(pulse), after_s, gate.direction)

    def fire(self) -> tuple[float, float] | None:
        """Fire the next pulse: latch and return its time and position."""
        time_s = self.next_s()
        if time_s is None or self._gate is None:
            return None
        position = self._axis.position_at(time_s)
        self.times_s.append(time_s)
        self.positions.append(position)
        if len(self.times_s) >= self._gate.number:
            self._gate = None
        return time_s, position
