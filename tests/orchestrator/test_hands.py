"""The operator's hands at a real terminal: Ctrl-C, an answer, Ctrl-C again."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

# A program that can be stopped, at the terminal that it is given.
PROGRAM = """
import os, threading
os.open(os.ttyname(0), os.O_RDWR)  # the leader of a session gets it as its own
from orchestrator.hands import OperatorHands

class Display:
    def ask(self, question):
        print("ASKED" if question else "NOT ASKED", flush=True)
    def notice(self, text):
        print("NOTICE", text, flush=True)
    def alarm(self, text):
        print("ALARM", text, flush=True)

ended = threading.Event()
hands = OperatorHands(Display())

refusals = [RuntimeError("the plan is just about to begin")]

def abort(why):
    if refusals:
        raise refusals.pop()
    print("ABORT", why, flush=True)
    ended.set()

with hands:
    hands.reach(open_cell=lambda: print("CELL OPENED", flush=True), abort=abort)
    print("READY", flush=True)
    ended.wait(60)
    print("AFTER", hands.stop_after_tomogram(), "NOW", hands.abort_reason(), flush=True)
"""
CTRL_C = b"\x03"
NEVER_S = 30.0


class Terminal:
    """A program at a terminal, and what it has written there."""

    def __init__(self):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""

    def press(self, keys):
        os.write(self.master, keys)

    def expect(self, text):
        """Wait for a text, and return what came up to it."""
        end_s = time.monotonic() + NEVER_S
        while text not in self.text:
            assert time.monotonic() < end_s, self.text
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 4096).decode()
        before, _, self.text = self.text.partition(text)
        return before

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.close()


def test_t_stops_after_the_tomogram(terminal):
    terminal.expect("READY")
    terminal.press(CTRL_C)
    terminal.expect("ASKED")
    terminal.press(b"t")
    terminal.expect("NOT ASKED")
    assert "ABORT" not in terminal.expect("ALARM it stops after the next tomogram")
    terminal.process.send_signal(signal.SIGTERM)
    terminal.expect(
        "AFTER stopped after a tomogram (asked at the terminal) NOW stopped by SIGTERM"
    )


def test_s_opens_the_cell_and_then_aborts(terminal):
    terminal.expect("READY")
    terminal.press(CTRL_C)
    terminal.expect("ASKED")
    terminal.press(b"s")
    terminal.expect("CELL OPENED")
    terminal.expect("ABORT stopped at the terminal")
    terminal.expect("AFTER  NOW stopped at the terminal")


def test_g_goes_on_and_the_next_ctrl_c_asks_again(terminal):
    terminal.expect("READY")
    for _ in range(2):
        terminal.press(CTRL_C)
        terminal.expect("ASKED")
        terminal.press(b"G")
        between = terminal.expect("NOTICE it goes on")
        assert "ABORT" not in between
        assert "CELL" not in between


def test_any_other_key_is_no_answer(terminal):
    terminal.expect("READY")
    terminal.press(CTRL_C)
    terminal.expect("ASKED")
    terminal.press(b"x\ny s")
    assert "NOTICE" not in terminal.expect("ABORT stopped at the terminal")


def test_ctrl_c_again_stops_at_once(terminal):
    terminal.expect("READY")
    terminal.press(CTRL_C)
    terminal.expect("ASKED")
    terminal.press(CTRL_C)
    terminal.expect("CELL OPENED")
    terminal.expect("ABORT stopped by Ctrl-C (SIGINT)")


def test_a_terminal_that_is_closed_stops_it_safely(terminal):
    terminal.expect("READY")
    terminal.process.send_signal(signal.SIGHUP)
    terminal.expect("CELL OPENED")
    terminal.expect("ABORT stopped by SIGHUP")
