"""One orchestrator per experiment."""

import os
import signal
import subprocess
import sys

import pytest

from orchestrator.errors import RefusedError
from orchestrator.lock import ExperimentLock, lock_holder

HOLD = """
import sys, signal
from pathlib import Path
from orchestrator.lock import ExperimentLock
with ExperimentLock(Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "orchestrator.lock"


@pytest.fixture
def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_orchestrator_is_refused_and_told_who_holds_it(path, holder):
    assert lock_holder(path) == holder.pid
    with pytest.raises(RefusedError, match=f"pid {holder.pid} on"):
        with ExperimentLock(path):
            pass
    assert lock_holder(path) == holder.pid


def test_a_lock_dies_with_its_holder(path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert lock_holder(path) is None
    with ExperimentLock(path):
        assert lock_holder(path) == os.getpid()
    assert lock_holder(path) is None


def test_it_can_be_taken_again(path):
    for _ in range(2):
        with ExperimentLock(path):
            pass


def test_nobody_holds_a_lock_that_never_was(path):
    assert lock_holder(path) is None
