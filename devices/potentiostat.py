"""The potentiostat as an ophyd fly device, on the PVs of `devices.potentiostat_ioc`.

A half-cycle is kicked off and completed, never ``set``: the RunEngine stops and
repeats what is set whenever it is interrupted, and charge would pass twice. The same
step kicked off again is the step that already runs, or has run.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ophyd import Component as Cpt
from ophyd import Device, EpicsSignal, EpicsSignalRO, Kind
from ophyd.status import DeviceStatus, Status
from ophyd.utils.errors import DisconnectedError as OphydDisconnectedError

from .errors import DeviceError
from .potentiostat_driver import GalvanostaticStep, StepState
from .potentiostat_outcome import OutcomeReading, StepOutcome
from .potentiostat_watch import StepWatch
from .short_circuit import CellHealth, GuardSettings

PUT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 60.0  # wall time in which an instrument at rest gives a sample
LISTEN_PERIOD_S = 0.1
ASK_AGAIN_S = 1.0  # wall time
# What a read or a put raises where the IOC does not answer.
LOST = (TimeoutError, OphydDisconnectedError)
ENDED = {str(state) for state in (StepState.DONE, StepState.FAULT, StepState.IDLE)}

_log = logging.getLogger(__name__)

COLLECTED = {
    "time_s": ("time_s", "s", "number"),
    "voltage_v": ("voltage_v", "V", "number"),
    "current_ma": ("current_ma", "mA", "number"),
    "charge_c": ("charge_c", "C", "number"),
    "relay_closed": ("relay_closed", "", "boolean"),
}


@dataclass(frozen=True)
class ArmedStep:
    """What `Potentiostat.prepare` is given."""

    step: GalvanostaticStep
    heartbeat_timeout_s: float


class Potentiostat(Device):
    """A galvanostat with a cell relay.

    Attributes
    ----------
    guard : GuardSettings
        Thresholds of the short-circuit guard and what follows each alarm.
    """

    # readback
    voltage = Cpt(EpicsSignalRO, "Voltage_RBV", kind=Kind.hinted, auto_monitor=True)
    current = Cpt(EpicsSignalRO, "Current_RBV", kind=Kind.normal, auto_monitor=True)
    relay_readback = Cpt(
        EpicsSignalRO, "Relay_RBV", kind=Kind.normal, string=True, auto_monitor=True
    )
    charge = Cpt(EpicsSignalRO, "Charge_RBV", kind=Kind.omitted, auto_monitor=True)
    elapsed = Cpt(EpicsSignalRO, "Elapsed_RBV", kind=Kind.omitted, auto_monitor=True)
    gross_charge = Cpt(
        EpicsSignalRO, "GrossCharge_RBV", kind=Kind.normal, auto_monitor=True
    )
    net_charge = Cpt(
        EpicsSignalRO, "NetCharge_RBV", kind=Kind.normal, auto_monitor=True
    )
    samples_number = Cpt(EpicsSignalRO, "Samples:Number_RBV", kind=Kind.omitted)
    samples_block = Cpt(
        EpicsSignalRO, "Samples:Block", kind=Kind.omitted, auto_monitor=True
    )

    # status
    state = Cpt(
        EpicsSignalRO, "State", kind=Kind.omitted, string=True, auto_monitor=True
    )
    end_reason = Cpt(
        EpicsSignalRO, "EndReason", kind=Kind.omitted, string=True, auto_monitor=True
    )
    armed_id = Cpt(EpicsSignalRO, "ArmedId_RBV", kind=Kind.omitted)
    last_step_id = Cpt(
        EpicsSignalRO, "StepId_RBV", kind=Kind.omitted, auto_monitor=True
    )
    message = Cpt(EpicsSignalRO, "Message", kind=Kind.omitted, string=True)

    # setpoints of the next step
    step_current = Cpt(EpicsSignal, "Step:Current", kind=Kind.omitted)
    step_duration = Cpt(EpicsSignal, "Step:Duration", kind=Kind.omitted)
    step_charge_limit = Cpt(EpicsSignal, "Step:ChargeLimit", kind=Kind.omitted)
    step_voltage_min = Cpt(EpicsSignal, "Step:VoltageMin", kind=Kind.omitted)
    step_voltage_max = Cpt(EpicsSignal, "Step:VoltageMax", kind=Kind.omitted)
    step_id = Cpt(EpicsSignal, "Step:Id", kind=Kind.omitted)
    compliance = Cpt(EpicsSignal, "Compliance", kind=Kind.omitted)
    heartbeat_timeout = Cpt(EpicsSignal, "Heartbeat:Timeout", kind=Kind.omitted)

    # commands
    relay = Cpt(EpicsSignal, "Relay", kind=Kind.omitted, string=True)
    heartbeat = Cpt(EpicsSignal, "Heartbeat", kind=Kind.omitted)
    arm = Cpt(EpicsSignal, "Arm", kind=Kind.omitted)
    start = Cpt(EpicsSignal, "Start", kind=Kind.omitted)

    # configuration
    manufacturer = Cpt(EpicsSignalRO, "Manufacturer", kind=Kind.config, string=True)
    model = Cpt(EpicsSignalRO, "Model", kind=Kind.config, string=True)
    serial = Cpt(EpicsSignalRO, "Serial", kind=Kind.config, string=True)
    simulated = Cpt(EpicsSignalRO, "Simulated", kind=Kind.config, string=True)
    rate = Cpt(EpicsSignalRO, "Rate_RBV", kind=Kind.config)

    def __init__(
        self, prefix: str = "", *, guard: GuardSettings | None = None, **kwargs: Any
    ) -> None:
        super().__init__(prefix, **kwargs)
        self.guard = guard or GuardSettings()
        self._watch: StepWatch | None = None
        self._health = CellHealth()
        self._prepared: ArmedStep | None = None
        self._kicked_off: DeviceStatus | None = None
        self._completed: DeviceStatus | None = None
        self._subscriptions: list[tuple[EpicsSignalRO, int]] = []
        self.outcome = OutcomeReading(self.name, lambda: self.step_outcome)
        self.rest = Rest(self)

    # --- verbs --------------------------------------------------------------------

    def prepare(self, value: ArmedStep) -> DeviceStatus:
        """Arm a step in the instrument; the relay stays open.

        A step that was kicked off already is left alone, unless it did not start.
        """
        kicked_off = self._kicked_off
        failed = kicked_off is not None and kicked_off.done and not kicked_off.success
        if kicked_off is not None and self._prepared == value and not failed:
            return self._finished_status()
        running = self._watch
        if running is not None and running.outcome is None:
            raise DeviceError(
                f"{self.name}: step {running.step.id} is still running; stop it before "
                f"preparing step {value.step.id}"
            )
        self._unsubscribe()
        self._prepared = value
        if running is not None:
            self._health = running.health
        self._watch = self._kicked_off = self._completed = None
        return self._in_thread(lambda: self._arm(value))

    def kickoff(self) -> DeviceStatus:
        """Close the relay and drive the prepared step.

        Called again for the same step, it returns the first call's status: charge
        never passes twice.
        """
        if self._prepared is None:
            raise DeviceError(f"{self.name}: no step is prepared; prepare one first")
        if self._kicked_off is None:
            prepared = self._prepared
            self._completed = DeviceStatus(self, call_stop_on_failure=True)
            self._kicked_off = self._in_thread(lambda: self._start(prepared))
        return self._kicked_off

    def complete(self) -> DeviceStatus:
        """Return the status that ends with the running step."""
        if self._completed is None:
            raise DeviceError(f"{self.name}: no step was kicked off")
        return self._completed

    def stop(self, *, success: bool = False) -> None:
        """Open the relay now: no read before it, no wait for it."""
        try:
            self._put_open()
        finally:
            # also where the connection is lost: not a beat keeps it closed from here
            watch = self._watch
            if watch is not None:
                watch.stopped()

    def open_relay(self) -> DeviceStatus:
        """Open the relay; the status ends when the instrument confirms it."""
        try:
            self.stop()
        except LOST as error:
            _log.warning("%s: %s; it is told to open again", self.name, error)
        return self._in_thread(self._confirm_open)

    def heard(self, timeout_s: float = SILENCE_TIMEOUT_S) -> DeviceStatus:
        """Return a status that ends when the instrument gives a new sample.

        It fails with a `DeviceError` after `timeout_s` of silence (wall time).
        """
        return self._in_thread(lambda: self._listen(timeout_s))

    # --- collecting ---------------------------------------------------------------

    def describe_collect(self) -> dict[str, dict[str, Any]]:
        """Describe the samples of the stream ``electrochemistry``."""
        described = {}
        for key, (_, units, dtype) in COLLECTED.items():
            described[f"{self.name}_{key}"] = {
                "source": f"PV:{self.prefix}Samples:Block",
                "dtype": dtype,
                "shape": [],
                **({"units": units} if units else {}),
            }
        return described

    def collect_pages(self) -> Iterator[dict[str, Any]]:
        """Yield the samples not collected yet as one event page."""
        samples = self._watch.take() if self._watch is not None else []
        if not samples:
            return
        arrivals = [sample.arrival_s for sample in samples]
        yield {
            "time": arrivals,
            "data": {
                f"{self.name}_{key}": [getattr(sample, field) for sample in samples]
                for key, (field, _, _) in COLLECTED.items()
            },
            "timestamps": {f"{self.name}_{key}": arrivals for key in COLLECTED},
        }

    def rested(self, duration_s: float) -> Status:
        """Return a status that ends `duration_s` after the step, relay open."""
        if self._watch is None or self._watch.outcome is None:
            raise DeviceError(f"{self.name}: no step has ended; nothing rests")
        return self._watch.rested(duration_s)

    @property
    def kicked_off(self) -> bool:
        """Whether the prepared step was told to start."""
        return self._kicked_off is not None

    @property
    def step_outcome(self) -> StepOutcome | None:
        """How the last step ended; None while it runs."""
        return self._watch.outcome if self._watch is not None else None

    # --- how ----------------------------------------------------------------------

    def _put_open(self) -> None:
        self.relay.put("Open", wait=False)

    def _confirm_open(self) -> None:
        # a monitor could still hold the value of a moment ago
        self.relay.put("Open", wait=True, timeout=PUT_TIMEOUT_S)
        relay = self._read(self.relay_readback)
        if relay != "Open":
            raise DeviceError(
                f"{self.name}: the relay reads {relay} after it was told to open; open "
                "the cell at the instrument"
            )

    def _listen(self, timeout_s: float) -> None:
        def number() -> int:
            return int(self._read(self.samples_number))

        first, pause = number(), threading.Event()
        deadline_s = time.monotonic() + timeout_s
        while number() == first:
            if time.monotonic() > deadline_s:
                raise DeviceError(
                    f"{self.name}: no new sample for {timeout_s:g} s; the instrument "
                    "is silent, look at it and at its cable"
                )
            pause.wait(LISTEN_PERIOD_S)

    def _arm(self, value: ArmedStep) -> None:
        step = value.step
        limit_c = step.charge_limit_c
        for signal, setpoint in (
            (self.step_current, step.current_ma),
            (self.step_duration, step.duration_s),
            (self.step_charge_limit, limit_c if limit_c < float("inf") else 0.0),
            (self.step_voltage_min, step.voltage_min_v),
            (self.step_voltage_max, step.voltage_max_v),
            (self.compliance, step.compliance_v),
            (self.heartbeat_timeout, value.heartbeat_timeout_s),
            (self.step_id, step.id),
            (self.arm, 1),
        ):
            signal.put(setpoint, wait=True, timeout=PUT_TIMEOUT_S)
        armed = self._read(self.armed_id)
        if armed != step.id:
            raise DeviceError(
                f"{self.name}: step {step.id} was not armed: {self._why()}"
            )

    def _start(self, prepared: ArmedStep) -> None:
        completed = self.complete()
        try:
            self._begin(prepared, completed)
        except Exception as error:
            # Whoever waits for the end of a step that nothing watches waits for ever.
            if self._watch is None and not completed.done:
                completed.set_exception(error)
            raise

    def _begin(self, prepared: ArmedStep, completed: DeviceStatus) -> None:
        step = prepared.step
        number = int(self._read(self.samples_number))
        watch = StepWatch(
            step,
            self.guard,
            heartbeat_timeout_s=prepared.heartbeat_timeout_s,
            first_number=number,
            health=replace(self._health, rest_v=float(self._read(self.voltage))),
            open_relay=self._put_open,
            beat=lambda: self.heartbeat.put(1, wait=False),
            ended=lambda _: self._end(completed),
        )
        self._watch = watch
        # before the start: no sample and no end can be missed
        self._subscriptions = [
            (
                self.samples_block,
                self.samples_block.subscribe(
                    lambda value, **_: watch.samples(value), run=False
                ),
            ),
            (
                self.state,
                self.state.subscribe(
                    lambda value, **_: self._on_state(watch, value), run=False
                ),
            ),
        ]
        try:
            self.start.put(step.id, wait=True, timeout=PUT_TIMEOUT_S)
            started = self._read(self.last_step_id)
        except LOST as error:
            # It may have started: nothing beats for it, and the watchdog opens the
            # relay until the instrument answers or is given up.
            watch.stopped()
            watch.start()
            raise DeviceError(
                f"{self.name}: no answer to the start of step {step.id} ({error}); its"
                " relay is told to open, what passed is asked of the instrument"
            ) from error
        if started != step.id:
            watch.abandon()
            self._unsubscribe()
            self._watch = None
            error = DeviceError(
                f"{self.name}: step {step.id} did not start: {self._why()}"
            )
            completed.set_exception(error)
            raise error
        watch.start()

    def _on_state(self, watch: StepWatch, state: Any) -> None:
        if str(state) in ENDED:
            threading.Thread(
                target=self._conclude,
                args=(watch,),
                name=f"{self.name}-conclude",
                daemon=True,
            ).start()

    def _conclude(self, watch: StepWatch) -> None:
        """Tell the watch how its step ended, if it did.

        A monitor may be late and belong to the step before, and so may every value
        kept from monitors: all is read anew, and the id first. An instrument that
        answers late is asked again, for no monitor may come any more.
        """
        pause = threading.Event()
        while watch.outcome is None and watch is self._watch:
            try:
                self._ask_for_end(watch)
            except LOST as error:
                _log.warning("%s: the end could not be read: %s", self.name, error)
                pause.wait(ASK_AGAIN_S)
            else:
                return

    def _ask_for_end(self, watch: StepWatch) -> None:
        step_id = self._read(self.last_step_id)
        state = str(self._read(self.state))
        if step_id != watch.step.id or state not in ENDED:
            return
        reason = str(self._read(self.end_reason))
        charge_c = float(self._read(self.charge))
        elapsed_s = float(self._read(self.elapsed))
        watch.finished(state, reason, charge_c, elapsed_s)

    def _read(self, signal: EpicsSignalRO) -> Any:
        """Return what the instrument says now, not what a monitor left."""
        return signal.get(use_monitor=False, timeout=READ_TIMEOUT_S)

    def _end(self, completed: DeviceStatus) -> None:
        if not completed.done:
            completed.set_finished()

    def _unsubscribe(self) -> None:
        subscriptions, self._subscriptions = self._subscriptions, []
        for signal, subscription in subscriptions:
            signal.unsubscribe(subscription)

    def _why(self) -> str:
        said = self._read(self.message)
        return str(said) or "the instrument gave no reason"

    def _in_thread(self, action: Callable[[], None]) -> DeviceStatus:
        """Run puts that wait outside the RunEngine's loop."""
        status = DeviceStatus(self, call_stop_on_failure=True)

        def work() -> None:
            try:
                action()
            except Exception as error:  # whatever failed must reach the plan
                status.set_exception(error)
            else:
                status.set_finished()

        threading.Thread(target=work, name=f"{self.name}-command", daemon=True).start()
        return status

    def _finished_status(self) -> DeviceStatus:
        status = DeviceStatus(self)
        status.set_finished()
        return status


class Rest:
    """The open circuit after a step, as something to trigger.

    Triggered again it goes on: its end is a moment, not a duration.
    """

    parent = None

    def __init__(self, potentiostat: Potentiostat) -> None:
        self.name = f"{potentiostat.name}_rest"
        self._potentiostat = potentiostat
        self._status: Status | None = None

    def begin(self, duration_s: float) -> None:
        """Rest for `duration_s` from the end of the last step."""
        self._status = self._potentiostat.rested(duration_s)

    @property
    def over(self) -> bool:
        """Whether the rest is over."""
        return self._status is not None and self._status.done

    def trigger(self) -> Status:
        """Return the status of the rest."""
        if self._status is None:
            raise DeviceError(f"{self.name}: no rest has begun")
        return self._status
