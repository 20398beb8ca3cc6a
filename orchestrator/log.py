"""Messages of the program go to the experiment's log, tracebacks included.

So does what C libraries write to the standard error: libca would write over the
operator's screen.
"""

import asyncio
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
    handler.addFilter(_is_news)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    logging.captureWarnings(True)
    _send_standard_error_of_libraries_to(path)


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a message means something.

    bluesky (1.15.1, `RunEngine._wait`) asks a wait that it cancelled itself for its
    exception, at the end of every wait with a watch group; asyncio logs a traceback.
    """
    return not (
        record.name == "asyncio"
        and "cancel_status_task_if_error" in record.getMessage()
        and record.exc_info is not None
        and isinstance(record.exc_info[1], asyncio.CancelledError)
    )


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
