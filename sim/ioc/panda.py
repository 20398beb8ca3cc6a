"""A PandABox as its IOC serves it: PCOMP1 triggers, PCAP latches, DATA writes a file.

Only the blocks that the device class uses are simulated, wired as it wires them; wired
in another way nothing fires, as with the real one.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import h5py
from caproto.server import PVGroup, pvproperty

from sim.ioc.camera import PcoCamera
from sim.ioc.channel_types import CHAR, ENUM, STRING
from sim.ioc.triggering import fire_triggers
from sim.position_compare import Gate
from sim.world import World

# 3.6 million counts a turn, a common rotary encoder.
_DEG_PER_COUNT = 1e-4
_CAPTURES = ["No", "Value", "Diff", "Sum", "Mean", "Min", "Max", "Min Max"]
_MODES = ["FIRST_N", "LAST_N", "FOREVER"]


def _choice(name: str, strings: list[str], value: int = 0) -> Any:
    return pvproperty(value=strings[value], dtype=ENUM, enum_strings=strings, name=name)


def _count(name: str, value: int = 0) -> Any:
    return pvproperty(value=value, name=name)


def _wire(name: str) -> Any:
    return pvproperty(value="ZERO", dtype=STRING, name=name)


def _text(name: str, value: str = "") -> Any:
    return pvproperty(
        value=value,
        dtype=CHAR,
        max_length=1024,
        string_encoding="utf-8",
        report_as_string=False,
        name=name,
    )


class PandaIOC(PVGroup):
    """Position compare and capture on the encoder of the rotation stage.

    Parameters
    ----------
    prefix : str
    world : World
        Owns the compare logic and the clock.
    camera : PcoCamera
        Takes the triggers: its cable is on ``PCOMP1.OUT``.
    """

    scale: Any = pvproperty(value=_DEG_PER_COUNT, name="INENC1:VAL:SCALE")
    offset: Any = pvproperty(value=0.0, name="INENC1:VAL:OFFSET")
    units: Any = pvproperty(value="deg", dtype=STRING, name="INENC1:VAL:UNITS")
    capture: Any = _choice("INENC1:VAL:CAPTURE", _CAPTURES)
    dataset: Any = pvproperty(value="", dtype=STRING, name="INENC1:VAL:DATASET")

    source: Any = _wire("PCOMP1:INP")
    enable: Any = _wire("PCOMP1:ENABLE")
    relative: Any = _choice("PCOMP1:RELATIVE", ["Absolute", "Relative"])
    direction: Any = _choice("PCOMP1:DIR", ["Positive", "Negative", "Either"])
    pre_start: Any = _count("PCOMP1:PRE_START")
    start: Any = _count("PCOMP1:START")
    step: Any = _count("PCOMP1:STEP")
    width: Any = _count("PCOMP1:WIDTH")
    pulses: Any = _count("PCOMP1:PULSES")
    produced: Any = pvproperty(value=0, name="PCOMP1:PRODUCED", read_only=True)
    compare_active: Any = _choice("PCOMP1:ACTIVE", ["0", "1"])
    compare_health: Any = pvproperty(
        value="OK", dtype=STRING, name="PCOMP1:HEALTH", read_only=True
    )

    capture_enable: Any = _wire("PCAP:ENABLE")
    capture_gate: Any = _wire("PCAP:GATE")
    capture_trigger: Any = _wire("PCAP:TRIG")
    capture_edge: Any = _choice("PCAP:TRIG_EDGE", ["Rising", "Falling", "Either"])
    capture_health: Any = pvproperty(
        value="OK", dtype=STRING, name="PCAP:HEALTH", read_only=True
    )
    arm: Any = _choice("PCAP:ARM", ["Disarm", "Arm"])
    active: Any = _choice("PCAP:ACTIVE", ["0", "1"])

    directory: Any = _text("DATA:HDF_DIRECTORY")
    create_directory: Any = _count("DATA:CREATE_DIRECTORY")
    directory_exists: Any = _choice("DATA:DIRECTORY_EXISTS", ["No", "Yes"])
    file_name: Any = _text("DATA:HDF_FILE_NAME")
    full_file_path: Any = _text("DATA:HDF_FULL_FILE_PATH")
    mode: Any = _choice("DATA:CAPTURE_MODE", _MODES)
    flush_period: Any = pvproperty(value=1.0, name="DATA:FLUSH_PERIOD", units="s")
    num_capture: Any = _count("DATA:NUM_CAPTURE")
    num_captured: Any = pvproperty(value=0, name="DATA:NUM_CAPTURED", read_only=True)
    writing: Any = _choice("DATA:CAPTURE", ["0", "1"])
    message: Any = _text("DATA:STATUS", "OK")

    def __init__(self, prefix: str, *, world: World, camera: PcoCamera) -> None:
        super().__init__(prefix)
        self._world = world
        self._compare = world.position_compare
        self._camera = camera
        self._gate: Gate | None = None
        self._firing: asyncio.Task[None] | None = None
        self._file: h5py.File | None = None
        self._rows = 0
        world.on_schedule_change(self._replan)
        self.arm.putter = self._put_arm
        self.writing.putter = self._put_writing
        self.directory.putter = self._put_directory
        self.file_name.putter = self._put_file_name

    # --- the file -----------------------------------------------------------------

    async def _put_directory(self, instance: Any, value: str) -> str:
        """Make the directory as far as allowed and say whether it is there."""
        if self._file is not None:
            return self.directory.value
        path = Path(value)
        missing = [p for p in (path, *path.parents) if not p.exists()]
        if missing and len(missing) <= abs(self.create_directory.value):
            path.mkdir(parents=True)
        exists = path.is_dir() and os.access(path, os.W_OK)
        await self.directory_exists.write(int(exists))
        await self.full_file_path.write(f"{value}/{self.file_name.value}")
        return value

    async def _put_file_name(self, instance: Any, value: str) -> str:
        if self._file is not None:
            return self.file_name.value
        await self.full_file_path.write(f"{self.directory.value}/{value}")
        return value

    async def _put_writing(self, instance: Any, value: str) -> None | str:
        """Open a file, over one of the same name as the real IOC does, or close it."""
        if value == "1":
            if self.directory_exists.value != "Yes":
                await self.message.write("Configured HDF directory does not exist")
                return "0"
            self._close()
            self._rows = 0
            await self.num_captured.write(0)
            self._file = h5py.File(self.full_file_path.value, "w", libver="latest")
            self._file.create_dataset(
                self.dataset.value or "INENC1.VAL.Value",
                (0,),
                maxshape=(None,),
                chunks=(1024,),
                dtype="<f8",
            )
            self._file.swmr_mode = True
        elif self._file is not None:
            self._close()
            await self.message.write("Capturing disabled")
        return value

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # --- triggers -----------------------------------------------------------------

    async def _put_arm(self, instance: Any, value: str) -> str:
        """Arm PCAP, which enables PCOMP1; or disarm both."""
        if value == "Arm":
            if self._wired():
                self._gate = self._asked()
                self._compare.arm(self._gate, self._world.clock.now())
            await self.produced.write(0)
            await self._show_active(True)
            self._world.schedule_changed()
        else:
            if self._is_mine():
                self._compare.disarm()
                self._world.schedule_changed()
                await self._post()
            await self._show_active(False)
        return value

    def _wired(self) -> bool:
        return (
            self.source.value == "INENC1.VAL"
            and self.enable.value == "PCAP.ACTIVE"
            and self.capture_trigger.value == "PCOMP1.OUT"
            and self.capture_enable.value in ("PCOMP1.ACTIVE", "ONE")
            and self.relative.value == "Absolute"
            and self.step.value > 0
        )

    def _asked(self) -> Gate:
        """Return the pulses that PCOMP1's counts mean on the stage."""
        scale = self.scale.value
        ahead = 1 if self.direction.value == "Positive" else -1
        return Gate(
            start=self.start.value * scale + self.offset.value,
            width=0.0,
            pulse_start=0.0,
            pulse_step=self.step.value * abs(scale),
            pulse_max=self.pulses.value,
            direction=ahead if scale > 0 else -ahead,
        )

    def _is_mine(self) -> bool:
        return self._gate is not None and self._compare.gate is self._gate

    def _replan(self) -> None:
        if self._firing is not None:
            self._firing.cancel()
            self._firing = None
        if self._is_mine():
            self._firing = asyncio.create_task(self._fire())

    async def _fire(self) -> None:
        await fire_triggers(self._world, self._camera, self._post)
        if not self._compare.armed:
            # PCOMP1 has produced its pulses, and its end disarms PCAP.
            self._gate = None
            await self._show_active(False)

    async def _show_active(self, active: bool) -> None:
        await self.compare_active.write(int(active))
        await self.active.write(int(active))

    async def _post(self) -> None:
        """Show and write what was latched since the last time."""
        latched = self._compare.positions
        await self.produced.write(len(latched))
        wanted = self.num_capture.value or len(latched)
        number = min(len(latched), wanted)
        if self._file is None or number == self._rows:
            return
        rows: Any = self._file[self.dataset.value or "INENC1.VAL.Value"]
        rows.resize((number,))
        rows[self._rows :] = [self._read_out(p) for p in latched[self._rows : number]]
        rows.flush()
        self._rows = number
        await self.num_captured.write(number)
        if number == self.num_capture.value:
            self._close()
            await self.message.write("Requested number of frames captured")
            await self.writing.write("0", verify_value=False)

    def _read_out(self, position: float) -> float:
        """Return a position as the encoder's whole counts give it."""
        scale, offset = self.scale.value, self.offset.value
        return round((position - offset) / scale) * scale + offset
