"""Keep a copy to Tiled going beside an experiment, in a process of its own.

It only follows the record; whatever becomes of it or of the server, the experiment
neither waits nor fails. What the server lacks in the end, `resume` or
``insitu-ct tiled DIR`` sends.
"""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from orchestrator.layout import Layout
from orchestrator.tiled_copy import CopyStatus

_log = logging.getLogger(__name__)

STARTS_MAX = 5
CANNOT_START = 2  # exit code: nothing that starting again would mend


class TiledProcess:
    """The copying process, started again when it dies.

    Parameters
    ----------
    layout : Layout
        Of the experiment.
    on_status : callable
        Told how far the copy is, in a thread of this object.
    warn : callable
        Told in one line what is wrong, once for each fault.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        on_status: Callable[[CopyStatus], None],
        warn: Callable[[str], None],
    ):
        self.status = CopyStatus()
        self._layout = layout
        self._on_status = on_status
        self._warn = warn
        self._fault = ""
        self._closing = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(
            target=self._keep_going, name="tiled", daemon=True
        )

    def start(self) -> None:
        """Start to copy."""
        self._thread.start()

    def close(self, timeout_s: float = 30.0) -> None:
        """Send what the server takes in this time, and end."""
        self._closing.set()
        process = self._process
        if process is not None:
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self.status.waiting:
            self._warn(
                f"{self.status.waiting} run(s) are not on the Tiled server; "
                f"'insitu-ct tiled {self._layout.directory}' sends them"
            )

    def _keep_going(self) -> None:
        for _ in range(STARTS_MAX):
            if self._closing.is_set():
                return
            try:
                code = self._run()
            except OSError as error:
                self._tell_fault(f"the copy to Tiled cannot be started: {error}")
                return
            if self._closing.is_set():
                return
            if code == CANNOT_START and self._fault:
                return  # it has said why
            self._tell_fault(f"the copy to Tiled ended ({code}); see log.txt")
            if code == CANNOT_START:
                return
        self._tell_fault(
            f"the copy to Tiled ended {STARTS_MAX} times and is not started again; see "
            f"log.txt; 'insitu-ct tiled {self._layout.directory}' sends what is left"
        )

    def _run(self) -> int:
        """Run the process to its end; return its exit code."""
        command = [sys.executable, "-m", "orchestrator.cli", "tiled", "--follow"]
        with (
            open(self._layout.log_file, "ab") as log,
            subprocess.Popen(
                [*command, str(self._layout.directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is the orchestrator's
            ) as process,
        ):
            self._process = process
            if self._closing.is_set() and process.stdin is not None:
                process.stdin.close()  # `close` may have come too early to see it
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, 10)
            for line in process.stdout or ():
                try:
                    self._take(CopyStatus.from_line(line))
                except (ValueError, TypeError):
                    _log.warning("the copy to Tiled said: %s", line.rstrip())
            return process.wait()

    def _take(self, status: CopyStatus) -> None:
        if status.fault:
            self._tell_fault(f"Tiled: {status.fault}; the record is complete on disk")
        elif status.sent > self.status.sent:
            self._fault = ""
        self.status = status
        self._on_status(status)

    def _tell_fault(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._warn(fault)
