"""Rewrite the report while the experiment runs, in a process of its own.

Drawing takes seconds of a processor; the orchestrator has a beamline to watch.
"""

import logging
import os
import subprocess
import sys
from contextlib import suppress

from orchestrator.layout import Layout

_log = logging.getLogger(__name__)


class ReportWriter:
    """Rewrite the report beside the experiment, never two at once."""

    def __init__(self, layout: Layout):
        self._layout = layout
        self._process: subprocess.Popen[bytes] | None = None

    def refresh(self) -> None:
        """Start to rewrite it, unless that is going on already."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()

    def end(self) -> None:
        """Cut one that is being written short: the last one is about to follow."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes] | None:
        command = [sys.executable, "-m", "orchestrator.cli", "report"]
        try:
            with open(self._layout.log_file, "ab") as log:
                process = subprocess.Popen(
                    [*command, str(self._layout.directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is the orchestrator's
                )
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, 15)
        except OSError:
            _log.exception("the report could not be refreshed")
            return None
        return process
