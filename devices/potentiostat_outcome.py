"""How a step ended, and the same as a reading for the stream ``outcome``."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from .short_circuit import Alarm

CHARGE_TOLERANCE_FRAC = 0.005


@dataclass(frozen=True)
class StepOutcome:
    """How a step ended.

    Attributes
    ----------
    end_reason : str
        One of `devices.potentiostat_driver.EndReason`.
    charge_c : float
        Signed, as counted by the instrument.
    integrated_charge_c : float
        Signed, integrated here from the measured current.
    elapsed_s : float
        Time at current, by the instrument's clock.
    alarms : tuple[Alarm, ...]
        What the rules found, in order of onset.
    acted_on : Alarm or None
        The alarm for which the relay was opened.
    fault : str
        Why the step did not end as planned, if it did not; empty otherwise.
    samples, samples_missing : int
        Samples that arrived, and that the IOC numbered but never arrived.
    clock_offset_s : float
        The orchestrator's clock minus the instrument's at the first sample.
    clock_rate : float
        Seconds of the instrument per second of the orchestrator; 0 if unknown.
    ended_s : float
        When the orchestrator learnt of the end (Unix time).
    confirmed : bool
        Whether the instrument itself said that the step ended, and with which charge;
        otherwise the charge and time are those of the samples that still arrived.
    interrupt_resistance_ohm : float
        Step of the voltage as the current was cut, over the current; 0 where there
        was no such step to be measured.
    interrupt_resistance_missing : str
        Why it is 0; empty where it was measured.
    """

    step_id: int
    end_reason: str
    charge_c: float
    integrated_charge_c: float
    elapsed_s: float
    alarms: tuple[Alarm, ...]
    acted_on: Alarm | None
    fault: str
    samples: int
    samples_missing: int
    clock_offset_s: float
    clock_rate: float
    ended_s: float
    confirmed: bool = True
    interrupt_resistance_ohm: float = 0.0
    interrupt_resistance_missing: str = ""

    @property
    def charge_difference_frac(self) -> float:
        """Integrated charge against the instrument's, as a fraction of it."""
        if self.charge_c == 0:
            return 0.0
        return self.integrated_charge_c / self.charge_c - 1.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the record, though the step ended."""
        found = []
        if abs(self.charge_difference_frac) > CHARGE_TOLERANCE_FRAC:
            found.append(
                f"the measured current gives {self.integrated_charge_c:.6g} C, the "
                f"instrument counts {self.charge_c:.6g} C: they differ by more than "
                f"{CHARGE_TOLERANCE_FRAC:.1%}; check the current range"
            )
        if self.samples_missing:
            found.append(
                f"{self.samples_missing} of {self.samples + self.samples_missing} "
                "samples never arrived; the network or this computer was too busy"
            )
        return tuple(found)


@dataclass(frozen=True)
class _Column:
    key: str
    dtype: str
    units: str
    value: Callable[[StepOutcome], Any]


def _evidence(outcome: StepOutcome) -> str:
    return json.dumps([asdict(alarm) for alarm in outcome.alarms])


_COLUMNS = (
    _Column("end_reason", "string", "", lambda o: o.end_reason),
    _Column("charge_c", "number", "C", lambda o: o.charge_c),
    _Column("integrated_charge_c", "number", "C", lambda o: o.integrated_charge_c),
    _Column("elapsed_s", "number", "s", lambda o: o.elapsed_s),
    _Column("confirmed", "boolean", "", lambda o: o.confirmed),
    _Column("fault", "string", "", lambda o: o.fault),
    _Column("acted_on", "string", "", lambda o: str(o.acted_on) if o.acted_on else ""),
    _Column("alarms", "string", "", _evidence),
    _Column("warnings", "string", "", lambda o: "; ".join(o.warnings)),
    _Column(
        "interrupt_resistance_ohm",
        "number",
        "ohm",
        lambda o: o.interrupt_resistance_ohm,
    ),
    _Column(
        "interrupt_resistance_missing",
        "string",
        "",
        lambda o: o.interrupt_resistance_missing,
    ),
    _Column("samples", "integer", "", lambda o: o.samples),
    _Column("samples_missing", "integer", "", lambda o: o.samples_missing),
    _Column("clock_offset_s", "number", "s", lambda o: o.clock_offset_s),
    _Column("clock_rate", "number", "", lambda o: o.clock_rate),
)


class OutcomeReading:
    """The end of the last step, readable.

    Parameters
    ----------
    name : str
        Of the potentiostat; prefixes every key.
    outcome : callable
        Returns the outcome, None while the step runs.
    """

    parent = None

    def __init__(self, name: str, outcome: Callable[[], StepOutcome | None]) -> None:
        self.name = f"{name}_outcome"
        self._prefix = name
        self._outcome = outcome

    def describe(self) -> dict[str, dict[str, Any]]:
        """Describe the reading."""
        return {
            f"{self._prefix}_{column.key}": {
                "source": self.name,
                "dtype": column.dtype,
                "shape": [],
                **({"units": column.units} if column.units else {}),
            }
            for column in _COLUMNS
        }

    def read(self) -> dict[str, dict[str, Any]]:
        """Return how the last step ended."""
        outcome = self._outcome()
        if outcome is None:
            raise RuntimeError(f"{self.name}: the step has not ended yet")
        return {
            f"{self._prefix}_{column.key}": {
                "value": column.value(outcome),
                "timestamp": outcome.ended_s,
            }
            for column in _COLUMNS
        }

    def describe_configuration(self) -> dict[str, dict[str, Any]]:
        """Describe nothing: the potentiostat carries its own configuration."""
        return {}

    def read_configuration(self) -> dict[str, dict[str, Any]]:
        """Return nothing."""
        return {}
