"""Messages of the program go to the experiment's log, tracebacks included.

So does what C libraries write to the standard error: libca would write over the
operator's screen.
"""

import faulthandler
import logging
import os
import signal
import sys
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s"


def log_to(path: Path) -> None:
    """Send every message from INFO up to a file, and none to the terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    logging.captureWarnings(True)
    _send_standard_error_of_libraries_to(path)


def _send_standard_error_of_libraries_to(path: Path) -> None:
    """Give Python its own copy of the terminal and the libraries the log."""
    sys.stderr.flush()
    terminal = os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, 2)
    os.close(log)
    # `kill -USR2` writes where every thread stands, should it ever hang.
    faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)
    sys.stderr = open(terminal, "w", encoding=sys.stderr.encoding, buffering=1)
