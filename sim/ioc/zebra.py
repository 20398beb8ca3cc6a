"""The Zebra's position compare: a trigger at each angular step."""

import asyncio
from typing import Any

from caproto.server import PVGroup, pvproperty

from sim.ioc.camera import PcoCamera
from sim.ioc.channel_types import DOUBLE, ENUM
from sim.ioc.triggering import fire_triggers
from sim.position_compare import Gate
from sim.world import World

# As many as the real unit's buffer holds.
_MAX_CAPTURED = 100_000

_SETPOINTS = (
    "arm_source", "encoder", "time_unit", "direction", "gate_source", "gate_start",
    "gate_width", "gate_number", "gate_step", "pulse_source", "pulse_start",
    "pulse_width", "pulse_step", "pulse_delay", "pulse_max", "captured_bits",
)  # fmt: skip


_SOURCES = ["Position", "Time", "External"]


def _angle(name: str, units: str = "deg") -> Any:
    return pvproperty(value=0.0, name=name, units=units, precision=5)


def _choice(name: str, value: str, strings: list[str]) -> Any:
    return pvproperty(value=value, dtype=ENUM, enum_strings=strings, name=name)


class ZebraIOC(PVGroup):
    """Position compare on the encoder of the rotation stage.

    Parameters
    ----------
    prefix : str
    world : World
        Owns the compare logic and the clock.
    camera : PcoCamera
        Takes the triggers.
    """

    arm: Any = pvproperty(value=0, name="PC_ARM")
    disarm: Any = pvproperty(value=0, name="PC_DISARM")
    armed: Any = pvproperty(value=0, name="PC_ARM_OUT", read_only=True)
    arm_source: Any = _choice("PC_ARM_SEL", "Soft", ["Soft", "External"])
    encoder: Any = _choice("PC_ENC", "Enc1", ["Enc1", "Enc2", "Enc3", "Enc4"])
    time_unit: Any = _choice("PC_TSPRE", "s", ["ms", "s", "10s"])
    direction: Any = _choice("PC_DIR", "Positive", ["Positive", "Negative"])
    gate_source: Any = _choice("PC_GATE_SEL", "Position", _SOURCES)
    gate_start: Any = pvproperty(
        value=0.0, name="PC_GATE_START", units="deg", precision=5
    )
    gate_width: Any = pvproperty(
        value=0.0, name="PC_GATE_WID", units="deg", precision=5
    )
    gate_number: Any = pvproperty(value=1, name="PC_GATE_NGATE")
    gate_step: Any = pvproperty(
        value=0.0, name="PC_GATE_STEP", units="deg", precision=5
    )
    pulse_source: Any = _choice("PC_PULSE_SEL", "Position", _SOURCES)
    pulse_start: Any = pvproperty(
        value=0.0, name="PC_PULSE_START", units="deg", precision=5
    )
    pulse_width: Any = pvproperty(
        value=0.0, name="PC_PULSE_WID", units="deg", precision=5
    )
    pulse_step: Any = pvproperty(
        value=0.0, name="PC_PULSE_STEP", units="deg", precision=5
    )
    pulse_delay: Any = pvproperty(
        value=0.0, name="PC_PULSE_DLY", units="s", precision=5
    )
    pulse_max: Any = pvproperty(value=0, name="PC_PULSE_MAX")
    captured_bits: Any = pvproperty(value=1, name="PC_BIT_CAP")
    number_captured: Any = pvproperty(value=0, name="PC_NUM_CAP", read_only=True)
    number_downloaded: Any = pvproperty(value=0, name="PC_NUM_DOWN", read_only=True)
    positions: Any = pvproperty(
        value=[0.0],
        dtype=DOUBLE,
        max_length=_MAX_CAPTURED,
        max_subscription_backlog=20,
        name="PC_ENC1",
        units="deg",
        precision=5,
        read_only=True,
    )
    times: Any = pvproperty(
        value=[0.0],
        dtype=DOUBLE,
        max_length=_MAX_CAPTURED,
        max_subscription_backlog=20,
        name="PC_TIME",
        units="s",
        precision=6,
        read_only=True,
    )

    def __init__(self, prefix: str, *, world: World, camera: PcoCamera) -> None:
        super().__init__(prefix)
        self._world = world
        self._compare = world.position_compare
        self._camera = camera
        self._gate: Gate | None = None
        self._firing: asyncio.Task[None] | None = None
        self._posted = 0
        world.on_schedule_change(self._replan)
        self.arm.putter = self._put_arm
        self.disarm.putter = self._put_disarm
        for name in _SETPOINTS:
            channel = getattr(self, name)
            self.pvdb[f"{channel.pvname}:RBV"] = channel

    async def _put_arm(self, instance: Any, value: int) -> int:
        """Forget what was captured and wait for the gate."""
        if not value:
            return 0
        if "Position" not in (self.gate_source.value, self.pulse_source.value):
            raise ValueError(
                f"PC_GATE_SEL is {self.gate_source.value}, PC_PULSE_SEL "
                f"{self.pulse_source.value}; only Position is simulated"
            )
        gate = self._gate = Gate(
            start=self.gate_start.value,
            width=self.gate_width.value,
            pulse_start=self.pulse_start.value,
            pulse_step=self.pulse_step.value,
            pulse_max=self.pulse_max.value,
            direction=1 if self.direction.value == "Positive" else -1,
        )
        self._compare.arm(gate, self._world.clock.now())
        self._posted = 0
        await self.number_captured.write(0)
        await self.number_downloaded.write(0)
        await self.armed.write(1, timestamp=self._compare.armed_s)
        self._world.schedule_changed()
        return 0

    async def _put_disarm(self, instance: Any, value: int) -> int:
        """Fire no more."""
        if value:
            self._compare.disarm()
            self._world.schedule_changed()
            await self._post()
            await self.armed.write(0)
        return 0

    def _replan(self) -> None:
        if self._firing is not None:
            self._firing.cancel()
            self._firing = None
        if self._gate is not None and self._compare.gate is self._gate:
            self._firing = asyncio.create_task(self._fire())

    async def _fire(self) -> None:
        await fire_triggers(self._world, self._camera, self._post)
        if not self._compare.armed:
            await self.armed.write(0)

    async def _post(self) -> None:
        number = len(self._compare.times_s)
        if number == self._posted:
            return
        self._posted = number
        await self.number_captured.write(number)
        since_s = [t - self._compare.armed_s for t in self._compare.times_s]
        await self.times.write(since_s)
        await self.positions.write(list(self._compare.positions))
        await self.number_downloaded.write(number)
