"""The operator's hands: Ctrl-C, ``insitu-ct stop`` and the system's wish to end.

The first Ctrl-C at a terminal asks what is meant; the second, or the first where
nobody can answer, goes to the safe state at once. The cell is opened here, before the
RunEngine hears of it.
"""

import logging
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

_log = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 60.0
POLL_S = 0.2
ABORT_AGAIN_S = 0.2
ABORTS_MAX = 25
ANSWERS = ("t", "s", "g")
QUESTION = (
    "Ctrl-C: press t to finish this tomogram and stop, s to stop now safely, g to go "
    "on; Ctrl-C again stops at once"
)


class Display(Protocol):
    """What shows one line each to the operator: `orchestrator.state`."""

    def ask(self, question: str) -> None:
        """Show a question until it is asked with an empty one."""

    def notice(self, text: str) -> None:
        """Show what the operator may want to know."""

    def alarm(self, text: str) -> None:
        """Show what the operator must know; it stays."""


class OperatorHands:
    """Turns signals into wishes; a context manager for the main thread.

    It is the `plans.wishes.Wishes` of the plans.
    """

    def __init__(self, display: Display):
        self.asked_to_end = threading.Event()
        self._released = threading.Event()
        self._display = display
        self._lock = threading.Lock()
        self._after_tomogram = ""
        self._now = ""
        self._abort: Callable[[str], None] | None = None
        self._open_cell: Callable[[], None] | None = None
        self._asking = threading.Event()
        self._before: dict[int, Any] = {}

    # --- what the plans ask ----------------------------------------------------------

    def stop_after_tomogram(self) -> str:
        """Return why to stop once a tomogram is done, empty to go on."""
        return self._after_tomogram

    def abort_reason(self) -> str:
        """Return why the plan was aborted, empty if it was not."""
        return self._now

    # --- wiring ----------------------------------------------------------------------

    def reach(
        self, *, open_cell: Callable[[], None], abort: Callable[[str], None]
    ) -> None:
        """Set what a stop does first and second, while plans run."""
        with self._lock:
            self._released.clear()
            self._open_cell, self._abort = open_cell, abort

    def let_go(self) -> None:
        """Forget both: the plans have ended."""
        with self._lock:
            self._open_cell = self._abort = None
            self._released.set()

    def __enter__(self) -> Self:
        """Take the signals over."""
        handlers = {
            signal.SIGINT: self._interrupted,
            signal.SIGTERM: self._told_to_end,
            signal.SIGHUP: self._told_to_end,
            signal.SIGUSR1: self._asked_for_later,
        }
        for number, handler in handlers.items():
            self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *exception: object) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._asking.clear()

    # --- signals: the handlers only note and start threads ---------------------------

    def _interrupted(self, number: int, frame: object) -> None:
        if self._asking.is_set() or not _at_a_terminal():
            self._start(self._stop_now, "stopped by Ctrl-C (SIGINT)")
        else:
            self._asking.set()
            self._start(self._ask)

    def _told_to_end(self, number: int, frame: object) -> None:
        self._start(self._stop_now, f"stopped by {signal.Signals(number).name}")

    def _asked_for_later(self, number: int, frame: object) -> None:
        self._start(self._stop_later, "insitu-ct stop --after-tomogram")

    @staticmethod
    def _start(action: Callable[..., None], *arguments: str) -> None:
        threading.Thread(
            target=action, args=arguments, name="operator", daemon=True
        ).start()

    # --- actions ---------------------------------------------------------------------

    def _ask(self) -> None:
        try:
            with _single_keys() as descriptor:
                # What was typed before is gone now: only an answer can be one.
                self._display.ask(QUESTION)
                answer = _answer(descriptor, ANSWER_TIMEOUT_S, self._asking)
        except (OSError, termios.error):  # the terminal went away while it asked
            _log.exception("no answer could be read")
            answer = ""
        self._display.ask("")
        if not self._asking.is_set():
            return
        self._asking.clear()
        if answer == "t":
            self._stop_later("asked at the terminal")
        elif answer == "s":
            self._stop_now("stopped at the terminal")
        else:
            self._display.notice("it goes on" + ("" if answer else ": no answer came"))

    def _stop_later(self, why: str) -> None:
        self._after_tomogram = f"stopped after a tomogram ({why})"
        self._display.alarm("it stops after the next tomogram")

    def _stop_now(self, why: str) -> None:
        with self._lock:
            first = not self._now
            self._now = self._now or why
            open_cell, abort = self._open_cell, self._abort
        self._asking.clear()
        if open_cell is not None:
            try:
                open_cell()
            except Exception:  # the plan's finaliser opens it too
                _log.exception("the cell could not be opened at once")
        if first:
            self._display.alarm(f"{why}: going to the safe state")
        self.asked_to_end.set()
        if first and abort is not None:
            self._abort_plans(abort, why)

    def _abort_plans(self, abort: Callable[[str], None], why: str) -> None:
        """Abort them; once more where they are just about to begin, or paused."""
        for _ in range(ABORTS_MAX):
            try:
                abort(why)
            except Exception:
                _log.exception("abort (%s)", why)
            else:
                return
            self._released.wait(ABORT_AGAIN_S)
            if self._released.is_set():
                return  # they have ended in the meantime


def _at_a_terminal() -> bool:
    try:
        return sys.stdin.isatty() and os.getpgrp() == os.tcgetpgrp(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def _single_keys() -> Iterator[int]:
    """Let the terminal give each key as it is pressed; Ctrl-C stays a signal."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _answer(descriptor: int, timeout_s: float, asking: threading.Event) -> str:
    """Return one of the keys asked for, empty if none came in time."""
    for _ in range(round(timeout_s / POLL_S)):
        if not asking.is_set():
            return ""
        if not select.select([descriptor], [], [], POLL_S)[0]:
            continue
        key = os.read(descriptor, 1).decode(errors="replace").lower()
        if key in ANSWERS:  # a slip of the hand is no answer
            return key
        if not key:  # the terminal is gone
            return ""
    return ""
