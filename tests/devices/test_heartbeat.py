"""An orchestrator that is killed, frozen or cut off leaves an open relay in time."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "heartbeat.py"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_relay_opens_within_the_heartbeat_timeout() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--trials", "2", "--timeout", "3"],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in ("kill", "freeze", "cut"):
        assert f"{kind:6s}   2 trials" in done.stdout
