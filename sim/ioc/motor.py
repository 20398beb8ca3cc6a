"""EPICS motor records whose stages follow the simulated clock exactly."""

import asyncio
from typing import Any

from caproto import AlarmSeverity, AlarmStatus, SkipWrite
from caproto.server import PVGroup, pvproperty

from sim.motion import Axis
from sim.world import World

# Wall time between readbacks of a moving stage (at least 20 Hz is promised).
_POST_PERIOD_S = 0.04
# A move too short to be seen still shows DMOV at 0 for this wall time.
_SHORTEST_PULSE_S = 0.005


class MotorRecord(PVGroup):
    """One motor record.

    Parameters
    ----------
    prefix : str
        Name of the record.
    axis : Axis
        The stage.
    world : World
        Gives the clock, and is told when a motion is planned anew.
    units : str
        ``"deg"`` or ``"mm"``.
    velocity : float
        Fastest and initial speed, units per second.
    acceleration_s : float
        Time from rest to that speed.
    limits : tuple[float, float]
        Lowest and highest position.
    """

    motor: Any = pvproperty(value=0.0, name="", record="motor", precision=5)

    def __init__(
        self,
        prefix: str,
        *,
        axis: Axis,
        world: World,
        units: str,
        velocity: float,
        acceleration_s: float,
        limits: tuple[float, float],
    ) -> None:
        super().__init__(prefix)
        self._axis = axis
        self._world = world
        self._clock = world.clock
        self._units = units
        self._first_velocity = velocity
        self._first_acceleration_s = acceleration_s
        self._first_limits = limits
        self._pressed = 0
        # An order and the end of a move are one after the other, never mixed.
        self._ordering = asyncio.Lock()
        self._ordered = False
        self._moving: asyncio.Task[None] | None = None

    @property
    def _fields(self) -> Any:
        return self.motor.field_inst

    async def begin(self) -> None:
        """Set the fields that a real record takes from its database."""
        fields = self._fields
        low, high = self._first_limits
        position = self._axis.position_at(self._clock.now())
        await fields.engineering_units.write(self._units)
        await fields.velocity.write(self._first_velocity)
        await fields.max_velocity.write(self._first_velocity)
        await fields.seconds_to_velocity.write(self._first_acceleration_s)
        await fields.user_high_limit.write(high)
        await fields.user_low_limit.write(low)
        await fields.dial_high_limit.write(high)
        await fields.dial_low_limit.write(low)
        await fields.motor_step_size.write(1e-5)
        await fields.stop_pause_move_go.write("Go")
        await fields.limit_violation.write(0)
        await self.motor.write(
            position,
            verify_value=False,
            units=self._units,
            upper_ctrl_limit=high,
            lower_ctrl_limit=low,
            upper_disp_limit=high,
            lower_disp_limit=low,
        )
        await self._post(position)
        # The fields are those of this record, so are their putters.
        self.motor.putter = self._put_value
        fields.stop.putter = self._put_stop
        fields.stop_pause_move_go.putter = self._put_spmg
        fields.user_high_limit.putter = self._put_high_limit
        fields.user_low_limit.putter = self._put_low_limit
        fields.velocity.putter = self._put_velocity
        fields.home_forward.putter = self._put_home
        fields.home_reverse.putter = self._put_home

    async def _put_value(self, instance: Any, value: float) -> None:
        # As with a real record, a put is complete when the stage has come to rest.
        async with self._ordering:
            if not await self._order(value):
                raise SkipWrite
            if self._moving is None or self._moving.done():
                self._moving = asyncio.create_task(self._post_motion())
        await asyncio.shield(self._moving)
        raise SkipWrite

    async def _order(self, value: float) -> bool:
        """Plan a move; return whether the record takes it."""
        fields = self._fields
        low, high = fields.user_low_limit.value, fields.user_high_limit.value
        if not low <= value <= high:
            await fields.limit_violation.write(1)
            await self.motor.write(self.motor.value, verify_value=False)
            return False
        await fields.limit_violation.write(0)
        await self.motor.write(value, verify_value=False)
        if fields.stop_pause_move_go.value in {"Stop", "Pause"}:
            return False
        now_s = self._clock.now()
        travel = value - self._axis.position_at(now_s)
        if travel * self._pressed < 0:
            await self.leave_limit()
        if not self._pressed:
            velocity = fields.velocity.value
            acceleration = velocity / max(fields.seconds_to_velocity.value, 1e-3)
            self._axis.move_to(value, self._clock.now(), velocity, acceleration)
            self._world.schedule_changed()
        await fields.dial_desired_value.write(value)
        await fields.direction_of_travel.write(int(travel >= 0))
        self._ordered = True
        return True

    async def _post_motion(self) -> None:
        """Post where the stage is until it rests; one task serves all orders."""
        fields = self._fields
        while self._ordered:
            self._ordered = False
            await fields.done_moving_to_value.write(0)
            await fields.motor_is_moving.write(1)
            await asyncio.sleep(_SHORTEST_PULSE_S)
            await self._post_until_rest()
            async with self._ordering:
                if self._ordered:
                    continue
                position = self._axis.position_at(self._axis.end_s)
                await self._post(position)
                if abs(position - self.motor.value) > 1e-9:  # stopped on the way
                    await self.motor.write(position, verify_value=False)
                await fields.stop.write(0, verify_value=False)
                await fields.motor_is_moving.write(0)
                await fields.done_moving_to_value.write(1)

    async def _post_until_rest(self) -> None:
        while True:
            now_s = self._clock.now()
            if now_s >= self._axis.end_s and not self._axis.stalled:
                return
            await self._post(self._axis.position_at(now_s), at_s=now_s)
            left_s = (self._axis.end_s - now_s) / self._clock.factor
            await asyncio.sleep(min(max(left_s, 1e-3), _POST_PERIOD_S))

    async def _post(self, position: float, *, at_s: float | None = None) -> None:
        """Show a position, stamped with the time it is of."""
        fields = self._fields
        stamp = {} if at_s is None else {"timestamp": at_s}
        await fields.user_readback_value.write(position, **stamp)
        await fields.dial_readback_value.write(position, **stamp)

    async def stop_motion(self) -> None:
        """Brake at once, whatever the record does."""
        fields = self._fields
        velocity = fields.velocity.value
        acceleration = velocity / max(fields.seconds_to_velocity.value, 1e-3)
        self._axis.free()
        self._axis.stop(self._clock.now(), acceleration)
        self._world.schedule_changed()

    @property
    def on_limit(self) -> bool:
        """Whether a limit switch is pressed."""
        return self._pressed != 0

    async def hit_limit(self) -> None:
        """Press the limit switch that lies ahead: the stage stops where it is."""
        self._pressed = 1 if self._axis.velocity_at(self._clock.now()) >= 0 else -1
        await self._show_switches()  # before the move ends: it must end badly
        self._axis.stall(self._clock.now())
        self._axis.free()
        self._world.schedule_changed()

    async def leave_limit(self) -> None:
        """Release the limit switch."""
        self._pressed = 0
        await self._show_switches()

    async def _show_switches(self) -> None:
        fields = self._fields
        await fields.user_high_limit_switch.write(int(self._pressed > 0))
        await fields.user_low_limit_switch.write(int(self._pressed < 0))
        alarmed = self._pressed != 0
        await fields.user_readback_value.alarm.write(
            status=AlarmStatus.HIHI if alarmed else AlarmStatus.NO_ALARM,
            severity=(AlarmSeverity.MAJOR_ALARM if alarmed else AlarmSeverity.NO_ALARM),
        )

    async def _put_stop(self, instance: Any, value: int) -> int:
        if value:
            await self.stop_motion()
        return 0

    async def _put_spmg(self, instance: Any, value: str) -> str:
        if value in {"Stop", "Pause"}:
            await self.stop_motion()
        return value

    async def _put_velocity(self, instance: Any, value: float) -> float:
        fastest = self._fields.max_velocity.value
        return min(max(value, 1e-6), fastest)

    async def _put_high_limit(self, instance: Any, value: float) -> float:
        await self.motor.write_metadata(upper_ctrl_limit=value)
        return value

    async def _put_low_limit(self, instance: Any, value: float) -> float:
        await self.motor.write_metadata(lower_ctrl_limit=value)
        return value

    async def _put_home(self, instance: Any, value: int) -> int:
        if value:
            await self.motor.write(0.0)
        return 0
