"""What an instrument must offer to be served as a potentiostat: one small protocol.

The IOC (`devices.potentiostat_ioc`) turns a driver into process variables. The driver
is the instrument, or stands right beside it: it holds the armed step and ends it by
itself, so that a step ends on time whoever has died meanwhile.

Every call returns within milliseconds and is made from one thread. A driver whose
instrument blocks owns a thread of its own and answers from what it last heard.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class StepState(StrEnum):
    """Where the instrument stands; the order is that of the PV ``State``."""

    IDLE = "Idle"
    ARMED = "Armed"
    RUNNING = "Running"
    DONE = "Done"
    FAULT = "Fault"


class EndReason(StrEnum):
    """Why the last step ended; the order is that of the PV ``EndReason``."""

    NONE = "None"
    ELAPSED = "Elapsed"
    CHARGE = "Charge"
    VOLTAGE = "Voltage"
    COMPLIANCE = "Compliance"
    HEARTBEAT = "Heartbeat"
    RELAY = "Relay"
    STOPPED = "Stopped"
    FAULT = "Fault"


@dataclass(frozen=True)
class GalvanostaticStep:
    """A constant current that ends by itself.

    Attributes
    ----------
    id : int
        Larger than that of any step before; an instrument never runs an id twice.
    current_ma : float
        Positive charges the cell, which plates lithium on the anode.
    duration_s : float
        Longest time at current, in instrument time.
    charge_limit_c : float
        Magnitude of charge that ends the step; infinity for none.
    voltage_min_v, voltage_max_v : float
        Window that ends the step when the voltage leaves it.
    compliance_v : float
        Largest magnitude of voltage the source may apply; reaching it ends the step,
        because the current is then no longer as asked.
    """

    id: int
    current_ma: float
    duration_s: float
    charge_limit_c: float = math.inf
    voltage_min_v: float = -5.0
    voltage_max_v: float = 5.0
    compliance_v: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a step that no instrument could run."""
        for name in ("current_ma", "duration_s"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(
                    f"step {self.id}: {name} is {getattr(self, name)}; give a number"
                )
        if self.id < 1:
            raise ValueError(f"step id is {self.id}; ids count from 1")
        if self.current_ma == 0:
            raise ValueError(
                f"step {self.id}: current_ma is 0; rest with the relay open instead"
            )
        if self.duration_s <= 0:
            raise ValueError(
                f"step {self.id}: duration_s is {self.duration_s:g}; "
                "it must be greater than 0"
            )
        if not self.charge_limit_c > 0:
            raise ValueError(
                f"step {self.id}: charge_limit_c is {self.charge_limit_c:g}; it must "
                "be greater than 0 (infinity for none)"
            )
        if not self.voltage_min_v < self.voltage_max_v:
            raise ValueError(
                f"step {self.id}: voltage_min_v {self.voltage_min_v:g} is not below "
                f"voltage_max_v {self.voltage_max_v:g}"
            )
        if not self.compliance_v > 0:
            raise ValueError(
                f"step {self.id}: compliance_v is {self.compliance_v:g}; "
                "it must be greater than 0"
            )

    @property
    def charge_c(self) -> float:
        """Signed charge the step passes when nothing ends it early."""
        magnitude = min(
            abs(self.current_ma) * 1e-3 * self.duration_s, self.charge_limit_c
        )
        return math.copysign(magnitude, self.current_ma)


class Sample(NamedTuple):
    """One reading, stamped by the instrument's clock (s since the Unix epoch)."""

    time_s: float
    voltage_v: float
    current_ma: float
    charge_c: float
    relay_closed: bool


@dataclass(frozen=True)
class InstrumentIdentity:
    """Whom one is talking to."""

    manufacturer: str
    model: str
    serial: str
    simulated: bool


@dataclass(frozen=True)
class InstrumentLimits:
    """What the instrument can do; a step outside is refused when it is armed."""

    max_current_ma: float
    max_voltage_v: float


@dataclass(frozen=True)
class InstrumentStatus:
    """Snapshot of the instrument, taken together with the samples of a poll.

    ``charge_c`` (signed) and ``elapsed_s`` belong to step ``step_id``, the last one
    started; ``gross_charge_c`` and ``net_charge_c`` count since the driver began.
    """

    time_s: float
    relay_closed: bool
    state: StepState
    end_reason: EndReason
    step_id: int
    charge_c: float
    elapsed_s: float
    gross_charge_c: float
    net_charge_c: float
    message: str = ""


class PotentiostatDriver(Protocol):
    """A galvanostat with a cell relay."""

    @property
    def identity(self) -> InstrumentIdentity:
        """Manufacturer, model, serial number; whether it is simulated."""
        ...

    @property
    def limits(self) -> InstrumentLimits:
        """Largest current and voltage."""
        ...

    @property
    def sample_period_s(self) -> float:
        """Time between samples, in instrument time."""
        ...

    def arm(self, step: GalvanostaticStep) -> None:
        """Load a step into the instrument; the relay stays open.

        Raises
        ------
        ValueError
            The step lies outside the limits, or its id has run before.
        RuntimeError
            A step is running, or the instrument is at fault.
        """
        ...

    def start(self) -> None:
        """Close the relay and drive the armed step.

        Raises
        ------
        RuntimeError
            No step is armed.
        """
        ...

    def open_relay(self, reason: EndReason) -> None:
        """Open the relay now, in any state and with no read before it.

        A running step ends with `reason`; an armed one is forgotten.
        """
        ...

    def poll(self) -> list[Sample]:
        """Return the samples taken since the last poll, oldest first."""
        ...

    def status(self) -> InstrumentStatus:
        """Return where the instrument stands, as of the last poll or command."""
        ...

    def close(self) -> None:
        """Open the relay and let go of the instrument."""
        ...
