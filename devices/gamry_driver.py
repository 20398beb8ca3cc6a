"""The Gamry instrument as a potentiostat driver, in a thread of its own.

The vendor's toolkit wants one thread and may block in it; the IOC must never wait.
The thread is a dead man's handle as well: when the IOC stops asking, it turns the
cell off.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from .gamry import LIMITS, SAMPLE_PERIOD_S, GamryInstrument
from .potentiostat_driver import (
    EndReason,
    GalvanostaticStep,
    InstrumentIdentity,
    InstrumentLimits,
    InstrumentStatus,
    Sample,
)

SERVICE_PERIOD_S = 0.01
COMMAND_TIMEOUT_S = 5.0
DEAD_MAN_S = 3.0


class GamryDriver:
    """A `devices.potentiostat_driver.PotentiostatDriver` for one Gamry instrument.

    Parameters
    ----------
    make : callable
        Makes the instrument, in the driver's own thread.
    dead_man_s : float
        Without a poll for so long, the cell is turned off.
    """

    def __init__(
        self, make: Callable[[], GamryInstrument], *, dead_man_s: float = DEAD_MAN_S
    ) -> None:
        self._make = make
        self._dead_man_s = dead_man_s
        self._commands: queue.SimpleQueue[
            tuple[Callable[[GamryInstrument], Any], Future[Any]]
        ] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._samples: deque[Sample] = deque()
        self._polled_s = time.monotonic()
        self._closing = False
        self._ready: Future[tuple[InstrumentIdentity, InstrumentStatus]] = Future()
        self._thread = threading.Thread(target=self._run, name="gamry", daemon=True)
        self._thread.start()
        self._identity, self._status = self._ready.result(timeout=60.0)

    @classmethod
    def connect(cls, section: str | None = None) -> "GamryDriver":
        """Connect to an instrument through the vendor's toolkit.

        Raises
        ------
        RuntimeError
            The toolkit is not installed.
        """

        def make() -> GamryInstrument:
            try:
                import toolkitpy  # type: ignore[import-not-found]  # beside it only
            except ImportError as error:
                raise RuntimeError(
                    "the vendor's Python toolkit (toolkitpy) is not installed; it comes"
                    " with the Gamry software on the instrument's computer"
                ) from error
            return GamryInstrument(toolkitpy, section)

        return cls(make)

    @property
    def identity(self) -> InstrumentIdentity:
        """Label and serial number of the instrument."""
        return self._identity

    @property
    def limits(self) -> InstrumentLimits:
        """Largest current and voltage of the Interface 1000E."""
        return LIMITS

    @property
    def sample_period_s(self) -> float:
        """Time between samples while a step runs."""
        return SAMPLE_PERIOD_S

    def arm(self, step: GalvanostaticStep) -> None:
        """Load a step; see `devices.potentiostat_driver`."""
        self._do(lambda instrument: instrument.arm(step))

    def start(self) -> None:
        """Close the relay and drive the armed step."""
        self._do(lambda instrument: instrument.start())

    def open_relay(self, reason: EndReason) -> None:
        """Open the relay; the thread does it next, whatever it was about to do."""
        self._post(lambda instrument: instrument.open_relay(reason))

    def poll(self) -> list[Sample]:
        """Return the samples that the thread has fetched."""
        self._polled_s = time.monotonic()
        samples = []
        while self._samples:
            samples.append(self._samples.popleft())
        return samples

    def status(self) -> InstrumentStatus:
        """Return where the instrument stood when last served."""
        return self._status

    def close(self) -> None:
        """Turn the cell off and end the thread."""
        if not self._closing:
            self.open_relay(EndReason.STOPPED)
            self._closing = True
            self._wake.set()
            self._thread.join(COMMAND_TIMEOUT_S)

    def _do(self, command: Callable[[GamryInstrument], Any]) -> None:
        self._post(command).result(timeout=COMMAND_TIMEOUT_S)

    def _post(self, command: Callable[[GamryInstrument], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._commands.put((command, future))
        self._wake.set()
        return future

    def _run(self) -> None:
        try:
            instrument = self._make()
            self._ready.set_result((instrument.identity, instrument.status()))
        except Exception as error:  # whoever connects must learn of it
            self._ready.set_exception(error)
            return
        try:
            while not self._closing:
                self._wake.wait(SERVICE_PERIOD_S)
                self._wake.clear()
                self._serve(instrument)
        finally:
            instrument.close()

    def _serve(self, instrument: GamryInstrument) -> None:
        while not self._commands.empty():
            command, future = self._commands.get()
            try:
                future.set_result(command(instrument))
            except Exception as error:  # it belongs to whoever commanded
                future.set_exception(error)
            self._status = instrument.status()
        if (
            instrument.status().relay_closed
            and time.monotonic() - self._polled_s > self._dead_man_s
        ):
            instrument.open_relay(EndReason.HEARTBEAT)
        self._samples.extend(instrument.service())
        self._status = instrument.status()
