"""Position compare on a Zebra: one camera trigger per angular step.

Drives the PC block of the Zebra's EPICS template.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Component as Cpt
from ophyd import EpicsSignal, EpicsSignalRO
from ophyd.status import StatusBase

from .position_compare import (
    PULSE_WIDTH_FRAC,
    SET_TIMEOUT_S,
    PositionCompare,
    TriggerSeries,
)

# Half a step past the last trigger: it is inside the gate, the next one is not.
GATE_MARGIN_STEPS = 0.5


class Zebra(PositionCompare):
    """The PC block of a Zebra."""

    # source
    encoder = Cpt(EpicsSignal, "PC_ENC", string=True, kind="config")
    direction = Cpt(EpicsSignal, "PC_DIR", string=True, kind="config")
    # gate
    gate_source = Cpt(EpicsSignal, "PC_GATE_SEL", string=True, kind="config")
    gate_start = Cpt(EpicsSignal, "PC_GATE_START", kind="config")
    gate_width = Cpt(EpicsSignal, "PC_GATE_WID", kind="config")
    # pulses
    pulse_source = Cpt(EpicsSignal, "PC_PULSE_SEL", string=True, kind="config")
    pulse_start = Cpt(EpicsSignal, "PC_PULSE_START", kind="config")
    pulse_step = Cpt(EpicsSignal, "PC_PULSE_STEP", kind="config")
    pulse_width = Cpt(EpicsSignal, "PC_PULSE_WID", kind="config")
    pulse_max = Cpt(EpicsSignal, "PC_PULSE_MAX", kind="config")
    # commands
    arm = Cpt(EpicsSignal, "PC_ARM", kind="omitted")
    disarm = Cpt(EpicsSignal, "PC_DISARM", kind="omitted")
    # status
    armed = Cpt(EpicsSignalRO, "PC_ARM_OUT", kind="omitted", auto_monitor=True)
    num_captured = Cpt(EpicsSignalRO, "PC_NUM_CAP", kind="omitted", auto_monitor=True)
    num_latched = Cpt(EpicsSignalRO, "PC_NUM_DOWN", kind="omitted", auto_monitor=True)
    # captured arrays
    encoder_array = Cpt(EpicsSignalRO, "PC_ENC1", kind="omitted", auto_monitor=False)
    time_array = Cpt(EpicsSignalRO, "PC_TIME", kind="omitted", auto_monitor=False)

    def write_series(self, series: TriggerSeries) -> StatusBase:
        """Write gate and pulses of a series."""
        step_deg = abs(series.step_deg)
        written: StatusBase = self.direction.set(
            "Positive" if series.step_deg > 0 else "Negative", timeout=SET_TIMEOUT_S
        )
        for signal, wanted in (
            (self.encoder, "Enc1"),
            (self.gate_source, "Position"),
            (self.gate_start, series.start_deg),
            (self.gate_width, (series.number - 1 + GATE_MARGIN_STEPS) * step_deg),
            (self.pulse_source, "Position"),
            (self.pulse_start, 0.0),
            (self.pulse_step, step_deg),
            (self.pulse_width, step_deg * PULSE_WIDTH_FRAC),
            (self.pulse_max, series.number),
        ):
            written = written & signal.set(wanted, timeout=SET_TIMEOUT_S)
        return written

    def put_armed(self, armed: bool) -> None:
        """Arm or disarm."""
        (self.arm if armed else self.disarm).put(1, wait=False)

    def num_triggers(self) -> int:
        """Return how many triggers were fired since it was armed."""
        captured: Any = self.num_captured.get(use_monitor=False)
        return int(captured)

    def latched_deg(self) -> NDArray[np.float64]:
        """Return the latched encoder readings (deg)."""
        latched: Any = self.encoder_array.get(use_monitor=False)
        return np.atleast_1d(np.array(latched, dtype=np.float64))
