"""The potentiostat's IOC: any driver of `devices.potentiostat_driver` as PVs.

It runs on the computer beside the instrument and is the second guardian of the cell:
when the orchestrator's heartbeat stops while a step is armed or running, it opens the
relay. Waits are wall time, stamps are the instrument's clock.
"""

import asyncio
import math
import time
from collections import deque
from typing import Any

import numpy as np
from caproto import ChannelType
from caproto.server import PVGroup, pvproperty

from .potentiostat_driver import (
    EndReason,
    GalvanostaticStep,
    PotentiostatDriver,
    Sample,
    StepState,
)

HISTORY_SAMPLES = 4096
BLOCK_COLUMNS = 6  # number, time, voltage, current, charge, relay
BLOCK_ROWS = 2048
BLOCK_OVERLAP_S = 0.4  # wall time of earlier samples repeated, at least
# Clients on ctypes keep a type for every length they have met: let there be few.
BLOCK_STEP_ROWS = 16
POLL_PERIOD_S = 0.005
PROMPT_ROWS = 3  # so few new samples are published at once
PUBLISH_PERIOD_S = 0.04  # fast simulated clocks make samples faster than CA likes
HISTORY_PERIOD_S = 0.5
# The last beat may arrive some time after its sender died, and polling takes time; the
# timeout is a promise about the death.
HEARTBEAT_MARGIN_FRAC = 0.05
RELAY = ["Open", "Closed"]
STATES = [str(state) for state in StepState]
END_REASONS = [str(reason) for reason in EndReason]


# caproto annotates dtype as a Python type, yet takes these as well
ENUM: Any = ChannelType.ENUM
DOUBLE: Any = ChannelType.DOUBLE
CHAR: Any = ChannelType.CHAR


def _enum(name: str, strings: list[str], doc: str, **kwargs: Any) -> Any:
    return pvproperty(
        name=name,
        value=strings[0],
        dtype=ENUM,
        enum_strings=strings,
        doc=doc,
        **kwargs,
    )


def _number(name: str, value: float, units: str, doc: str, **kwargs: Any) -> Any:
    return pvproperty(
        name=name, value=float(value), units=units, precision=9, doc=doc, **kwargs
    )


def _integer(name: str, doc: str, **kwargs: Any) -> Any:
    return pvproperty(name=name, value=0, doc=doc, **kwargs)


def _waveform(name: str, units: str, length: int, doc: str) -> Any:
    return pvproperty(
        name=name,
        value=[0.0],
        dtype=DOUBLE,
        max_length=length,
        # caproto keeps what it has sent until this many are newer: arrays are large
        max_subscription_backlog=10,
        units=units,
        doc=doc,
        read_only=True,
    )


def _text(name: str, doc: str, **kwargs: Any) -> Any:
    return pvproperty(
        name=name,
        value="",
        dtype=CHAR,
        max_length=400,
        string_encoding="utf-8",
        report_as_string=False,
        doc=doc,
        read_only=True,
        **kwargs,
    )


class PotentiostatIOC(PVGroup):
    """Process variables around one driver.

    Parameters
    ----------
    prefix : str
        Ends with a colon.
    driver : PotentiostatDriver
        Called from the server's event loop only.
    """

    # commands, named by the process variables below

    async def _put_relay(self, instance: Any, value: Any) -> str:
        """Open the relay at once; closing it is the business of Start."""
        if value in ("Open", 0):
            self._driver.open_relay(EndReason.RELAY)
            await self._publish()
            return "Open"
        await self._say(
            "Relay refuses Closed: the relay closes only with a step; arm one and "
            "put its id to Start"
        )
        return "Closed" if self._driver.status().relay_closed else "Open"

    async def _put_stop(self, instance: Any, value: Any) -> int:
        """End whatever runs and open the relay."""
        self._driver.open_relay(EndReason.STOPPED)
        await self._publish()
        return 0

    async def _put_arm(self, instance: Any, value: Any) -> int:
        """Check the set points and load them into the instrument."""
        if not value:
            return 0
        limit_c = float(self.charge_limit.value)
        try:
            step = GalvanostaticStep(
                id=int(self.step_id.value),
                current_ma=float(self.current.value),
                duration_s=float(self.duration.value),
                charge_limit_c=limit_c if limit_c > 0 else math.inf,
                voltage_min_v=float(self.voltage_min.value),
                voltage_max_v=float(self.voltage_max.value),
                compliance_v=float(self.compliance.value),
            )
            self._driver.arm(step)
        except (ValueError, RuntimeError, TimeoutError) as error:
            await self._say(f"Arm refused: {error or 'no answer in time'}")
            return 0
        self._beat_s = time.monotonic()
        await self._say("")
        await self.armed_id.write(step.id)
        await self._publish()
        return 0

    async def _put_start(self, instance: Any, value: Any) -> int:
        """Close the relay for the armed step, if `value` is its id."""
        if not value:
            return 0
        if int(value) != int(self.armed_id.value):
            await self._say(
                f"Start refused: step {int(value)} is not the armed one "
                f"({int(self.armed_id.value)}); arm it first"
            )
            return 0
        try:
            self._driver.start()
        except (RuntimeError, TimeoutError) as error:
            self._driver.open_relay(EndReason.FAULT)
            await self._say(f"Start refused: {error or 'no answer in time'}")
            return 0
        self._beat_s = time.monotonic()
        await self._publish()
        return 0

    async def _put_heartbeat(self, instance: Any, value: Any) -> Any:
        """Note that the orchestrator lives."""
        self._beat_s = time.monotonic()
        return value

    async def _put_heartbeat_timeout(self, instance: Any, value: Any) -> float:
        """Accept a positive, finite time."""
        if not 0 < float(value) < math.inf:
            await self._say(
                f"Heartbeat:Timeout refuses {float(value):g} s; it must be positive "
                "and finite"
            )
            return float(self.heartbeat_timeout.value)
        return float(value)

    async def _run(self, instance: Any, async_lib: Any) -> None:
        """Poll the driver for as long as the server runs."""
        identity = self._driver.identity
        await self.manufacturer.write(identity.manufacturer)
        await self.model.write(identity.model)
        await self.serial.write(identity.serial)
        await self.simulated.write("Yes" if identity.simulated else "No")
        await self.rate.write(1.0 / self._driver.sample_period_s)
        try:
            while True:
                await asyncio.sleep(POLL_PERIOD_S)
                try:
                    await self._tick()
                except Exception as error:  # the watchdog must outlive any fault
                    self._driver.open_relay(EndReason.FAULT)
                    await self._say(f"{type(error).__name__}: {error}")
        finally:
            self._driver.close()

    # set points of the next step
    current = _number("Step:Current", 0.0, "mA", "positive charges the cell")
    duration = _number("Step:Duration", 0.0, "s", "longest time at current")
    charge_limit = _number("Step:ChargeLimit", 0.0, "C", "magnitude; 0 for none")
    voltage_min = _number("Step:VoltageMin", -5.0, "V", "ends the step below")
    voltage_max = _number("Step:VoltageMax", 5.0, "V", "ends the step above")
    step_id = _integer("Step:Id", "larger than any id before")
    compliance = _number("Compliance", 5.0, "V", "largest voltage the source applies")

    # commands
    relay = _enum("Relay", RELAY, "Open works in any state", put=_put_relay)
    arm = _integer("Arm", "put 1: check and arm the step", put=_put_arm)
    start_ = _integer("Start", "put the id of the armed step", put=_put_start)
    stop_ = _integer("Stop", "put 1: open the relay, end the step", put=_put_stop)
    heartbeat_timeout = _number(
        "Heartbeat:Timeout",
        5.0,
        "s",
        "silence that opens the relay, wall time",
        put=_put_heartbeat_timeout,
    )
    heartbeat = _integer("Heartbeat", "any put refreshes it", put=_put_heartbeat)

    # readbacks
    relay_rbv = _enum("Relay_RBV", RELAY, "state of the relay", read_only=True)
    state = _enum("State", STATES, "where the instrument stands", read_only=True)
    end_reason = _enum(
        "EndReason", END_REASONS, "why the last step ended", read_only=True
    )
    voltage = _number(
        "Voltage_RBV", 0.0, "V", "last sample", read_only=True, startup=_run
    )
    current_rbv = _number("Current_RBV", 0.0, "mA", "last sample", read_only=True)
    charge = _number("Charge_RBV", 0.0, "C", "signed, this step", read_only=True)
    elapsed = _number("Elapsed_RBV", 0.0, "s", "time at current", read_only=True)
    armed_id = _integer("ArmedId_RBV", "id of the armed step", read_only=True)
    step_id_rbv = _integer("StepId_RBV", "id of the last step started", read_only=True)
    gross_charge = _number(
        "GrossCharge_RBV", 0.0, "C", "both directions, since start", read_only=True
    )
    net_charge = _number(
        "NetCharge_RBV", 0.0, "C", "signed, since start", read_only=True
    )
    rate = _number("Rate_RBV", 0.0, "Hz", "samples per second", read_only=True)
    samples_number = _integer(
        "Samples:Number_RBV", "samples since start", read_only=True
    )
    samples_block = _waveform(
        "Samples:Block",
        "",
        BLOCK_ROWS * BLOCK_COLUMNS,
        "rows of number, time, voltage, current, charge, relay; overlapping",
    )
    samples_time = _waveform("Samples:Time", "s", HISTORY_SAMPLES, "Unix time")
    samples_voltage = _waveform("Samples:Voltage", "V", HISTORY_SAMPLES, "history")
    samples_current = _waveform("Samples:Current", "mA", HISTORY_SAMPLES, "history")
    samples_relay = _waveform("Samples:Relay", "", HISTORY_SAMPLES, "1 for closed")

    # identity
    message = _text("Message", "the last refusal or fault, in one line")
    manufacturer = _text("Manufacturer", "of the instrument")
    model = _text("Model", "of the instrument")
    serial = _text("Serial", "of the instrument")
    simulated = _enum(
        "Simulated", ["No", "Yes"], "Yes for a virtual cell", read_only=True
    )

    def __init__(self, prefix: str, *, driver: PotentiostatDriver) -> None:
        super().__init__(prefix)
        self._driver = driver
        self._history = np.empty((0, BLOCK_COLUMNS))
        self._unpublished: list[Sample] = []
        self._number = 0
        self._publications: deque[tuple[float, int]] = deque()
        self._published_s = -math.inf
        self._history_published_s = -math.inf
        self._beat_s = time.monotonic()
        self._lock = asyncio.Lock()

    async def _tick(self) -> None:
        self._unpublished.extend(self._driver.poll())
        status = self._driver.status()
        if status.state in {StepState.ARMED, StepState.RUNNING}:
            silence_s = time.monotonic() - self._beat_s
            allowed_s = (1 - HEARTBEAT_MARGIN_FRAC) * float(
                self.heartbeat_timeout.value
            )
            if silence_s > allowed_s:
                self._driver.open_relay(EndReason.HEARTBEAT)
                await self._say(
                    f"no heartbeat for {silence_s:.1f} s: the relay was opened"
                )
        changed = (
            str(status.state) != self.state.value
            or RELAY[status.relay_closed] != self.relay_rbv.value
        )
        due = (
            len(self._unpublished) <= PROMPT_ROWS
            or time.monotonic() - self._published_s >= PUBLISH_PERIOD_S
        )
        if changed or (due and self._unpublished):
            await self._publish()

    async def _publish(self) -> None:
        """Give out the new samples first, then what they led to."""
        async with self._lock:
            self._unpublished.extend(self._driver.poll())
            status = self._driver.status()
            stamp = status.time_s
            if self._unpublished:
                await self._publish_samples(stamp)
            for channel, value in (
                (self.charge, status.charge_c),
                (self.elapsed, status.elapsed_s),
                (self.gross_charge, status.gross_charge_c),
                (self.net_charge, status.net_charge_c),
                # a client that sees a new id sees no reason left from the step before
                (self.end_reason, str(status.end_reason)),
                (self.step_id_rbv, status.step_id),
                (self.relay_rbv, RELAY[status.relay_closed]),
                (self.state, str(status.state)),
            ):
                if channel.value != value:
                    await channel.write(value, timestamp=stamp)
            if status.message:
                await self._say(status.message)
            if status.state is not StepState.ARMED and self.armed_id.value:
                await self.armed_id.write(0)
            if not status.relay_closed and self.relay.value == "Closed":
                await self.relay.write("Open", verify_value=False)
            self._published_s = time.monotonic()

    async def _publish_samples(self, stamp: float) -> None:
        new, self._unpublished = self._unpublished, []
        rows = np.empty((len(new), BLOCK_COLUMNS))
        rows[:, 0] = np.arange(self._number, self._number + len(new))
        rows[:, 1:] = new
        self._number += len(new)
        self._history = np.concatenate((self._history, rows))[-HISTORY_SAMPLES:]
        now_s = time.monotonic()
        self._publications.append((now_s, len(new)))
        while self._publications[0][0] < now_s - BLOCK_OVERLAP_S:
            self._publications.popleft()
        recent = sum(count for _, count in self._publications)
        rounded = math.ceil(recent / BLOCK_STEP_ROWS) * BLOCK_STEP_ROWS
        block = self._history[-min(rounded, BLOCK_ROWS) :]
        await self.samples_block.write(block.ravel(), timestamp=stamp)
        last = new[-1]
        await self.voltage.write(last.voltage_v, timestamp=stamp)
        if self.current_rbv.value != last.current_ma:
            await self.current_rbv.write(last.current_ma, timestamp=stamp)
        await self.samples_number.write(self._number, timestamp=stamp)
        if now_s - self._history_published_s >= HISTORY_PERIOD_S:
            self._history_published_s = now_s
            for channel, column in (
                (self.samples_time, 1),
                (self.samples_voltage, 2),
                (self.samples_current, 3),
                (self.samples_relay, 5),
            ):
                await channel.write(self._history[:, column], timestamp=stamp)

    async def _say(self, text: str) -> None:
        if self.message.value != text:
            await self.message.write(text)
