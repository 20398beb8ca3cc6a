"""A motor record whose moves are checked before and after.

Drives the EPICS motor record through `ophyd.EpicsMotor`.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

from ophyd import Component as Cpt
from ophyd import EpicsMotor, EpicsSignalRO
from ophyd.status import DeviceStatus, MoveStatus
from ophyd.utils.errors import LimitError

from .errors import MoveError
from .waiting import AWAY_S, SignalStatus

MOVE_MARGIN_S = 20.0
MOVE_MARGIN_FRAC = 0.2
STOP_TIMEOUT_S = 20.0
REREAD_S = 1.0
# Twice, so that the usual update comes first when all is well.
REREADS_TO_BELIEVE = 2

logger = logging.getLogger(__name__)


class ArrivalStatus(DeviceStatus):
    """A move that succeeds only when the motor ends where it was sent.

    A stopped motor record reports the end of a move like any other, so the position
    is compared with the target. Progress comes from the move itself.
    """

    def __init__(self, axis: Axis, move: MoveStatus, target: float) -> None:
        # The move's own status stops a stalled motor; a second, later stop would
        # hit whatever move came next.
        super().__init__(axis, call_stop_on_failure=False)
        self._move = move
        self._target = target
        self._ended = threading.Event()
        move.add_callback(self._moved)
        threading.Thread(
            target=self._reread, daemon=True, name=f"{axis.name} moves"
        ).start()

    def watch(self, func: Callable[..., Any]) -> None:
        """Report progress of the move to `func`."""
        self._move.watch(func)

    def _reread(self) -> None:
        """Ask the record itself now and then: an update may be lost on its way."""
        axis: Any = self.device
        arrived = 0
        while not self._ended.wait(REREAD_S):
            try:
                standing = axis.motor_done_move.get(use_monitor=False) == 1
                position = axis.user_readback.get(use_monitor=False)
            except Exception as error:  # noqa: BLE001 - the move's timeout decides
                logger.warning("%s: %s", axis.name, error)
                continue
            there = standing and abs(position - self._target) <= axis.tolerance
            arrived = arrived + 1 if there else 0
            if arrived >= REREADS_TO_BELIEVE and not self._move.done:
                axis.settle()

    def _settled(self) -> None:
        self._ended.set()
        super()._settled()

    def _moved(self, move: MoveStatus) -> None:
        axis = self.device
        error = move.exception()
        position = math.nan
        try:
            position = axis.place()
            if abs(position - self._target) > axis.tolerance:
                # A monitor may still be under way: ask the record itself.
                position = axis.user_readback.get(use_monitor=False)
        except TimeoutError as late:
            # Judged by what was posted: raised here it would end no wait at all.
            logger.warning("%s: %s", axis.name, late)
        if error is None and abs(position - self._target) <= axis.tolerance:
            self.set_finished()
            return
        why = "" if error is None else f" ({type(error).__name__})"
        self.set_exception(
            MoveError(
                f"{axis.name} stands at {position:g} {axis.egu} instead of"
                f" {self._target:g} ± {axis.tolerance:g} {axis.egu}{why}: it was"
                " stopped, stalled or hit a limit; free it, then go on"
            )
        )


class Axis(EpicsMotor):
    """A motor that checks a target before it moves and its place after.

    Parameters
    ----------
    tolerance : float
        Largest distance from the target that counts as arrived, in the motor's unit.
    """

    # configuration
    velocity_max = Cpt(EpicsSignalRO, ".VMAX", kind="config", auto_monitor=True)

    def __init__(
        self, prefix: str = "", *, name: str, tolerance: float, **kwargs: Any
    ) -> None:
        super().__init__(prefix, name=name, **kwargs)
        self.tolerance = tolerance

    def describe(self) -> Any:
        """Describe the readings; each has the record's unit."""
        described: Any = super().describe()
        for key in described.values():
            if not key.get("units"):
                # Some servers send a motor's fields without the record's unit.
                key["units"] = self.egu
        return described

    def check_value(self, pos: float) -> None:
        """Raise if `pos` is not a number or outside the soft limits."""
        if not math.isfinite(pos):
            raise ValueError(f"{self.name} was sent to {pos}; it needs a finite number")
        low, high = self.limits
        if low < high and not low <= pos <= high:
            raise LimitError(
                f"{self.name} was sent to {pos:g} {self.egu}; its limits are"
                f" {low:g} to {high:g} {self.egu}: change the plan's positions, or the"
                " limits if the range is free"
            )

    def check_velocity(self, velocity: float) -> None:
        """Raise unless the motor can turn or move this fast."""
        fastest = _number(self.velocity_max)
        if not velocity > 0 or 0 < fastest < velocity:
            limit = f" and at most {fastest:g} {self.egu}/s" if fastest > 0 else ""
            raise ValueError(
                f"{self.name} was asked for {velocity:g} {self.egu}/s; its speed is"
                f" positive{limit}: lengthen the exposure or take more projections"
            )

    def set_velocity(self, velocity: float) -> Any:
        """Check and write the speed; the status is done when it reads back."""
        self.check_velocity(velocity)
        return self.velocity.set(velocity, timeout=MOVE_MARGIN_S)

    def ramp_distance(self, velocity: float) -> float:
        """Return the way the motor needs to reach `velocity`, in its unit.

        The record ramps linearly to its speed within ACCL seconds.
        """
        return 0.5 * abs(velocity) * self.ramp_time_s()

    def ramp_time_s(self) -> float:
        """Return the time of one ramp (ACCL, s)."""
        return _number(self.acceleration)

    def place(self) -> float:
        """Return where the motor stands, in its unit."""
        return _number(self.user_readback)

    def travel_time_s(self, distance: float, velocity: float | None = None) -> float:
        """Return the time a move takes, both ramps included (s)."""
        speed = _number(self.velocity) if velocity is None else velocity
        if not speed > 0:
            raise ValueError(
                f"{self.name} has a velocity of {speed:g} {self.egu}/s; set one above 0"
            )
        return abs(distance) / speed + 2 * self.ramp_time_s()

    def set(
        self,
        new_position: float,
        *,
        timeout: float | None = None,
        moved_cb: Callable[..., Any] | None = None,
        wait: bool = False,
    ) -> ArrivalStatus:
        """Move; the status fails unless the motor arrives.

        Parameters
        ----------
        new_position : float
            Target, in the motor's unit.
        timeout : float, optional
            Longest time of the move (s); computed from the way when left out.
        """
        self.check_value(new_position)
        if timeout is None:
            travel_s = self.travel_time_s(new_position - self.place())
            timeout = travel_s * (1 + MOVE_MARGIN_FRAC) + MOVE_MARGIN_S
        move = self.move(new_position, wait=False, moved_cb=moved_cb, timeout=timeout)
        status = ArrivalStatus(self, move, new_position)
        if wait:
            status.wait()
        return status

    def settle(self) -> None:
        """End the move in progress: it has arrived although no update said so."""
        self._done_moving(success=True)

    def stopped(self) -> SignalStatus:
        """Return a status that is done when the motor stands."""
        return SignalStatus(
            self,
            self.motor_done_move,
            lambda done: done == 1,
            timeout_s=STOP_TIMEOUT_S,
            what="the motor to stand",
            away_s=AWAY_S,
        )


def _number(signal: Any) -> float:
    return float(signal.get())
