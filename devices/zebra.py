"""Position compare on a Zebra: one camera trigger per angular step.

Drives the PC block of the Zebra's EPICS template. The angle latched at each trigger
is the encoder's reading at the start of an exposure.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Component as Cpt
from ophyd import Device, EpicsSignal, EpicsSignalRO
from ophyd.status import StatusBase

from .errors import DeviceError, FramesLostError
from .waiting import SignalStatus

ARM_TIMEOUT_S = 10.0
SET_TIMEOUT_S = 5.0
DOWNLOAD_MARGIN_S = 10.0
PULSE_WIDTH_FRAC = 0.5
# Half a step past the last trigger: it is inside the gate, the next one is not.
GATE_MARGIN_STEPS = 0.5


@dataclass(frozen=True)
class TriggerSeries:
    """Triggers at equal angular steps.

    Attributes
    ----------
    start_deg : float
        Angle of the first trigger.
    step_deg : float
        From trigger to trigger; negative when the stage turns backwards.
    number : int
        How many.
    duration_s : float
        Longest time from arming to the last trigger.
    """

    start_deg: float
    step_deg: float
    number: int
    duration_s: float


class CaptureStatus(SignalStatus):
    """Done when every angle is latched and downloaded."""

    def __init__(self, zebra: Zebra, number: int, timeout_s: float) -> None:
        super().__init__(
            zebra,
            zebra.num_downloaded,
            lambda latched: latched >= number,
            timeout_s=timeout_s,
            what=f"{number} angles to be latched",
        )
        self._number = number
        self._began_s = time.monotonic()
        self._reporters: list[Any] = []

    def watch(self, func: Any) -> None:
        """Report latched angles to `func`."""
        self._reporters.append(func)

    def stopped(self) -> None:
        """End as failed because the position compare was told to stop."""
        self._end(
            FramesLostError(
                f"{self.device.name} was stopped before {self._number} triggers"
            )
        )

    def _changed(self, value: Any = None, **kwargs: Any) -> None:
        if value is not None and not self.done:
            for report in getattr(self, "_reporters", ()):
                report(
                    name=self.device.name,
                    current=int(value),
                    initial=0,
                    target=self._number,
                    unit="triggers",
                    precision=0,
                    fraction=1 - min(int(value) / self._number, 1.0),
                    time_elapsed=time.monotonic() - self._began_s,
                    time_remaining=None,
                )
        super()._changed(value, **kwargs)


class Zebra(Device):
    """Position compare that triggers the camera; prepare, kickoff, complete."""

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
    num_downloaded = Cpt(
        EpicsSignalRO, "PC_NUM_DOWN", kind="omitted", auto_monitor=True
    )
    # captured arrays
    encoder_array = Cpt(EpicsSignalRO, "PC_ENC1", kind="omitted", auto_monitor=False)
    time_array = Cpt(EpicsSignalRO, "PC_TIME", kind="omitted", auto_monitor=False)

    def __init__(self, prefix: str = "", *, name: str, **kwargs: Any) -> None:
        super().__init__(prefix, name=name, **kwargs)
        self._series: TriggerSeries | None = None
        self._capture: CaptureStatus | None = None

    def prepare(self, value: TriggerSeries) -> StatusBase:
        """Write gate and pulses of a series; nothing is armed yet."""
        if value.number < 1 or value.step_deg == 0 or value.duration_s <= 0:
            raise ValueError(
                f"{self.name} was asked for {value.number} triggers every"
                f" {value.step_deg:g} deg within {value.duration_s:g} s; it needs one"
                " or more, a step other than 0 and a positive time"
            )
        if self.armed.get():
            raise DeviceError(
                f"{self.name} is still armed; stop what runs before a new series"
            )
        step_deg = abs(value.step_deg)
        width_deg = (value.number - 1 + GATE_MARGIN_STEPS) * step_deg
        written: StatusBase = self.direction.set(
            "Positive" if value.step_deg > 0 else "Negative", timeout=SET_TIMEOUT_S
        )
        for signal, wanted in (
            (self.encoder, "Enc1"),
            (self.gate_source, "Position"),
            (self.gate_start, value.start_deg),
            (self.gate_width, width_deg),
            (self.pulse_source, "Position"),
            (self.pulse_start, 0.0),
            (self.pulse_step, step_deg),
            (self.pulse_width, step_deg * PULSE_WIDTH_FRAC),
            (self.pulse_max, value.number),
        ):
            written = written & signal.set(wanted, timeout=SET_TIMEOUT_S)
        self._series = value
        return written

    def kickoff(self) -> SignalStatus:
        """Arm; done when the Zebra says that it is armed."""
        if self._series is None:
            raise RuntimeError(f"{self.name} has no series; call prepare first")
        self.arm.put(1, wait=False)
        return SignalStatus(
            self,
            self.armed,
            lambda armed: armed == 1,
            timeout_s=ARM_TIMEOUT_S,
            what="the position compare to be armed",
        )

    def complete(self) -> CaptureStatus:
        """Return the status of the series, done when all angles are latched."""
        if self._series is None:
            raise RuntimeError(f"{self.name} has no series; call prepare first")
        self._capture = CaptureStatus(
            self, self._series.number, self._series.duration_s + DOWNLOAD_MARGIN_S
        )
        return self._capture

    def stop(self, *, success: bool = False) -> None:
        """Disarm at once; no further triggers."""
        self.disarm.put(1, wait=False)
        self._series = None
        if self._capture is not None:
            self._capture.stopped()

    def angles_deg(self) -> NDArray[np.float64]:
        """Return the angles latched so far, one for each trigger (deg)."""
        number = int(self.num_downloaded.get(use_monitor=False))
        captured = int(self.num_captured.get(use_monitor=False))
        if number < captured:
            raise FramesLostError(
                f"{self.name} latched {captured} angles but gave {number}: wait for"
                " the download or retake the scan"
            )
        latched = np.atleast_1d(
            np.asarray(self.encoder_array.get(use_monitor=False), dtype=np.float64)
        )
        if latched.size < number:
            raise FramesLostError(
                f"{self.name} says {number} angles and gives {latched.size}: the array"
                " of PC_ENC1 is too short for this scan"
            )
        return latched[:number].copy()

    # --- the event of stream "angles" ---------------------------------------------

    def read(self) -> Any:
        """Return the latched angles under ``rotation_angle_deg``."""
        return OrderedDict(
            rotation_angle_deg={
                "value": self.angles_deg().tolist(),
                "timestamp": time.time(),
            }
        )

    def describe(self) -> Any:
        """Return the data key of the angles: float64, (frame,), degrees."""
        number = int(self.num_downloaded.get(use_monitor=False))
        return OrderedDict(
            rotation_angle_deg={
                "source": f"PV:{self.encoder_array.pvname}",
                "dtype": "array",
                "dtype_numpy": "<f8",
                "shape": [number],
                "units": "deg",
                "precision": 5,
            }
        )
