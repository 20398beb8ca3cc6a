"""What every position-compare unit does: one camera trigger per angular step.

A unit compares the encoder's count in hardware, triggers the camera, and latches the
encoder's reading at each trigger, which is the start of an exposure.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ophyd import Device
from ophyd.status import StatusBase

from .errors import DeviceError, FramesLostError
from .waiting import SignalStatus

ARM_TIMEOUT_S = 10.0
SET_TIMEOUT_S = 5.0
DOWNLOAD_MARGIN_S = 10.0
PULSE_WIDTH_FRAC = 0.5


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
    angles_file : Path, optional
        Where a unit that can only hand over its angles in a file writes them.
    """

    start_deg: float
    step_deg: float
    number: int
    duration_s: float
    angles_file: Path | None = None


class CaptureStatus(SignalStatus):
    """Done when every angle is latched and can be read."""

    def __init__(self, compare: PositionCompare, number: int, timeout_s: float) -> None:
        super().__init__(
            compare,
            compare.num_latched,
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


class PositionCompare(Device):
    """Position compare that triggers the camera; prepare, kickoff, complete.

    A unit's class has the signals `armed` (1 while triggers may come) and
    `num_latched` (angles that can be read), and says how a series is written, armed,
    disarmed and read.
    """

    armed: Any
    num_latched: Any

    def __init__(self, prefix: str = "", *, name: str, **kwargs: Any) -> None:
        super().__init__(prefix, name=name, **kwargs)
        self._series: TriggerSeries | None = None
        self._capture: CaptureStatus | None = None

    # --- what a unit's class says -------------------------------------------------

    def check_series(self, series: TriggerSeries) -> None:
        """Raise ValueError if the unit cannot fire such a series."""

    def write_series(self, series: TriggerSeries) -> StatusBase:
        """Write a series; nothing is armed yet."""
        raise NotImplementedError

    def put_armed(self, armed: bool) -> None:
        """Arm or disarm; returns at once, reads nothing."""
        raise NotImplementedError

    def num_triggers(self) -> int:
        """Return how many triggers were fired since it was armed."""
        raise NotImplementedError

    def latched_deg(self) -> NDArray[np.float64]:
        """Return the angles latched since it was armed, as the unit gives them."""
        raise NotImplementedError

    # --- a series -----------------------------------------------------------------

    def prepare(self, value: TriggerSeries) -> StatusBase:
        """Write a series; nothing is armed yet."""
        if value.number < 1 or value.step_deg == 0 or value.duration_s <= 0:
            raise ValueError(
                f"{self.name} was asked for {value.number} triggers every"
                f" {value.step_deg:g} deg within {value.duration_s:g} s; it needs one"
                " or more, a step other than 0 and a positive time"
            )
        self.check_series(value)
        if self.armed.get():
            raise DeviceError(
                f"{self.name} is still armed; stop what runs before a new series"
            )
        written = self.write_series(value)
        self._series = value
        return written

    def kickoff(self) -> SignalStatus:
        """Arm; done when the unit says that it is armed."""
        if self._series is None:
            raise RuntimeError(f"{self.name} has no series; call prepare first")
        armed = self.when_armed()
        self.put_armed(True)
        return armed

    def when_armed(self) -> SignalStatus:
        """Return a status that is done when the unit says that it is armed."""
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
        # First, so that what a kickoff has begun does not arm again.
        self._series = None
        try:
            self.put_armed(False)
        finally:
            # also where its IOC is gone: no wait outlasts a stop
            if self._capture is not None:
                self._capture.stopped()

    def angles_deg(self) -> NDArray[np.float64]:
        """Return the angles latched so far, one for each trigger (deg)."""
        number = int(self.num_latched.get(use_monitor=False))
        triggers = self.num_triggers()
        if number < triggers:
            raise FramesLostError(
                f"{self.name} latched {triggers} angles but gave {number}: wait for"
                " the download or retake the scan"
            )
        latched = self.latched_deg()
        if latched.size < number:
            raise FramesLostError(
                f"{self.name} says {number} angles and gives {latched.size}: what it"
                " latches into is too short for this scan, or was cut"
            )
        return latched[:number]

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
        """Describe the angles: float64, (frame,), degrees."""
        number = int(self.num_latched.get(use_monitor=False))
        return OrderedDict(
            rotation_angle_deg={
                "source": f"PV:{self.num_latched.pvname}",
                "dtype": "array",
                "dtype_numpy": "<f8",
                "shape": [number],
                "units": "deg",
                "precision": 5,
            }
        )
