"""Start and stop the simulated beamline; no ophyd, no caproto in this process."""

import json
import logging
import multiprocessing
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from devices.pvs import BeamlinePVs, simulated_pvs
from sim.child_process import close_input, wait_or_kill
from sim.faults import STRIKE
from sim.settings import SimulationSettings

log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
# Name of the process in which this program analyses.
_WORKER = "analysis-worker"
# The paper's cell takes minutes to prepare, and the first start compiles.
START_TIMEOUT_S = 1800.0
_LOG_TAIL_LINES = 15
_STOP_TIMEOUT_S = 5.0


def loopback_environment(
    ca_port: int | None = None, repeater_port: int | None = None
) -> dict[str, str]:
    """Return EPICS_* variables that keep Channel Access on this machine.

    They must be in ``os.environ`` before ophyd or epics is first imported.

    Parameters
    ----------
    ca_port, repeater_port : int, optional
        Ports to use; free ones if not given.
    """
    server = str(ca_port or _free_port())
    repeater = str(repeater_port or _free_port())
    return {
        "EPICS_CA_ADDR_LIST": _LOOPBACK,
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_SERVER_PORT": server,
        "EPICS_CA_REPEATER_PORT": repeater,
        "EPICS_CA_MAX_ARRAY_BYTES": "20000000",
        "EPICS_CAS_SERVER_PORT": server,
        "EPICS_CAS_BEACON_PORT": repeater,
        "EPICS_CAS_INTF_ADDR_LIST": _LOOPBACK,
        "EPICS_CAS_BEACON_ADDR_LIST": _LOOPBACK,
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
    }


def _free_port() -> int:
    # Channel Access wants the same number free for TCP and UDP.
    for _ in range(100):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            tcp.bind((_LOOPBACK, 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind((_LOOPBACK, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free for both TCP and UDP on the loopback interface")


class SimulatedBeamline:
    """The simulated beamline in a process of its own.

    Use `start`; the object is a context manager that stops the process.

    Attributes
    ----------
    environment : dict[str, str]
        EPICS_* variables of clients, to be set before ophyd is imported.
    pvs : BeamlinePVs
        Names it serves.
    truth_file : Path
        What the virtual cell was, scan by scan.
    log_file : Path
        What the process printed.
    victims : dict
        How each fault that strikes this program does so, by its name; a program that
        runs a Tiled server adds ``tiled_death``.
    """

    def __init__(
        self,
        settings: SimulationSettings,
        directory: Path,
        prefix: str,
        environment: dict[str, str],
    ) -> None:
        self.environment = environment
        self.pvs: BeamlinePVs = simulated_pvs(prefix, settings.position_compare)
        self.truth_file = directory / "truth.h5"
        self.log_file = directory / "ioc.log"
        self._settings = settings
        self._directory = directory
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self.victims: dict[str, Callable[[], None]] = {
            "worker_death": _kill_worker,
            "power_cut": _kill_this_program,
        }

    @classmethod
    def start(
        cls,
        settings: SimulationSettings,
        directory: Path,
        *,
        prefix: str = "SIM:",
        environment: dict[str, str] | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> Self:
        """Start the process and wait until clients can connect and frames be drawn.

        Parameters
        ----------
        settings : SimulationSettings
        directory : Path
            For the truth file and the log; made if it does not exist.
        prefix : str
            First part of every PV's name.
        environment : dict[str, str], optional
            Made by `loopback_environment`; a new one if not given.
        timeout_s : float
            Wall time after which starting has failed.

        Raises
        ------
        RuntimeError
            If the process ends or is not ready in time; with the end of its log.
        """
        directory.mkdir(parents=True, exist_ok=True)
        beamline = cls(
            settings, directory, prefix, environment or loopback_environment()
        )
        beamline.restart(timeout_s=timeout_s)
        return beamline

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id, None when it is not running."""
        return self._process.pid if self._process and self.running else None

    def restart(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the process on the same ports, after it died or was stopped."""
        self.stop()
        request = {
            "settings": self._settings.model_dump(mode="json"),
            "directory": str(self._directory.resolve()),
            "prefix": self._prefix,
        }
        served = {
            name: value
            for name, value in self.environment.items()
            if name.startswith("EPICS_CAS_")
        }
        # caproto reads the port that it serves from the client's variable.
        served["EPICS_CA_SERVER_PORT"] = self.environment["EPICS_CAS_SERVER_PORT"]
        # The server reads ophyd's classes only: no client, no socket of one.
        served["OPHYD_CONTROL_LAYER"] = "dummy"
        own = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_")}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sim.server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**own, **served},
            )
        try:
            self._send(json.dumps(request).encode() + b"\n")
            said = self._wait_ready(timeout_s)
        except BaseException:
            self.stop()
            raise
        self._listener = threading.Thread(
            target=self._listen,
            args=(self._process, said),
            name="simulated faults",
            daemon=True,
        )
        self._listener.start()

    def _listen(self, process: "subprocess.Popen[bytes]", said: bytes) -> None:
        """Let faults of this program strike as the IOC asks for them."""
        if process.stdout is None:
            raise RuntimeError("the simulated beamline has no pipe")
        while True:
            *lines, said = said.split(b"\n")
            for line in lines:
                order, _, name = line.decode().partition(" ")
                if order == STRIKE:
                    self._strike(name)
            chunk = os.read(process.stdout.fileno(), 4096)
            if not chunk:
                return
            said += chunk

    def _strike(self, name: str) -> None:
        log.warning("fault injected: %s", name)
        victim = self.victims.get(name)
        if victim is None:
            log.warning("fault %s: nothing of that kind runs here", name)
        else:
            victim()

    def _send(self, line: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise RuntimeError("the simulated beamline is not running")
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; the wait for its ready line says why

    def _wait_ready(self, timeout_s: float) -> bytes:
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError("the simulated beamline is not running")
        deadline_s = time.monotonic() + timeout_s
        seen = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"ready\n" not in seen:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not selector.select(left_s):
                    raise RuntimeError(
                        f"the simulated beamline was not ready in {timeout_s:g} s; "
                        f"its log, {self.log_file}, ends:\n{self._log_tail()}"
                    )
                chunk = os.read(process.stdout.fileno(), 4096)
                if not chunk:
                    raise RuntimeError(
                        f"the simulated beamline ended with code {process.wait(5)}; "
                        f"its log, {self.log_file}, ends:\n{self._log_tail()}"
                    )
                seen += chunk
        return seen

    def _log_tail(self) -> str:
        text = self.log_file.read_text(errors="replace")
        return "\n".join(text.splitlines()[-_LOG_TAIL_LINES:])

    def stop(self) -> None:
        """End the process, by force if need be; stopping twice does no harm."""
        process, self._process = self._process, None
        if process is None:
            return
        close_input(process)
        wait_or_kill(process, _STOP_TIMEOUT_S)
        listener, self._listener = self._listener, None
        if listener is not None and listener is not threading.current_thread():
            listener.join(_STOP_TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> Self:
        """Return this beamline, running."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the process."""
        self.stop()


def _kill_worker() -> None:
    workers = [p for p in multiprocessing.active_children() if p.name == _WORKER]
    for worker in workers:
        worker.kill()
    if not workers:
        log.warning("fault worker_death: no analysis worker runs here")


def _kill_this_program() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
