"""The journal survives what happens to a computer at a beamline."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass

import numpy as np
import pytest

from orchestrator.errors import RecordError
from orchestrator.journal import Journal, read_entries
from plans.steps import HalfCycleStep, TomogramStep

SCAN = TomogramStep(index=0, scan_number=0, label="0")
CHARGE = HalfCycleStep(
    index=1, half_cycle=1, label="1", current_ma=4.7e-3, duration_s=1800
)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.sqlite")
    yield journal
    journal.close()


def test_what_was_noted_is_read_back_by_another_process(journal):
    journal.begin(SCAN, 0)
    journal.failed(SCAN, 0, "7 of 360 frames missing")
    journal.begin(SCAN, 1)
    journal.done(SCAN, 1, {"num_projections": np.int64(360)})
    journal.begin(CHARGE, 0)
    journal.decide("beam is back after 61 s")
    entries = read_entries(journal.path)
    assert [(e.kind, e.step_index, e.attempt) for e in entries] == [
        ("begin", 0, 0),
        ("failed", 0, 0),
        ("begin", 0, 1),
        ("done", 0, 1),
        ("begin", 1, 0),
        ("decision", None, None),
    ]
    assert entries[1].text == "tomogram 0: 7 of 360 frames missing"
    assert entries[3].details == {"num_projections": 360}
    assert entries[4].details["current_ma"] == 4.7e-3
    assert entries == journal.entries()


def test_a_dataclass_as_outcome(journal):
    @dataclass
    class Outcome:
        charge_c: float

    journal.done(CHARGE, 0, Outcome(8.48e-3))
    assert journal.entries()[0].details == {"charge_c": 8.48e-3}


def test_entries_cannot_be_changed_or_removed(journal):
    journal.begin(SCAN, 0)
    database = sqlite3.connect(journal.path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute("DELETE FROM entry")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute("UPDATE entry SET text = 'x'")
    database.close()


def test_every_thread_may_write(journal):
    def write():
        for _ in range(20):
            journal.decide(threading.current_thread().name)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.entries()) == 80


def test_it_is_write_ahead_and_synchronous(journal):
    assert journal._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_kill_9_loses_nothing_that_was_noted(tmp_path):
    path = tmp_path / "journal.sqlite"
    script = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from orchestrator.journal import Journal
        journal = Journal(Path({str(path)!r}))
        for number in range(50):
            journal.decide(str(number))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    run = subprocess.run([sys.executable, "-c", script], timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert [e.text for e in read_entries(path)] == [str(n) for n in range(50)]
    again = Journal(path)
    again.decide("resumed")
    again.close()
    assert read_entries(path)[-1].text == "resumed"


def test_a_journal_that_cannot_be_written_stops_the_experiment(journal):
    journal.close()
    with pytest.raises(RecordError, match="cannot be written .* the experiment stops"):
        journal.begin(SCAN, 0)


def test_no_journal_and_no_database(tmp_path):
    with pytest.raises(FileNotFoundError, match="no journal"):
        read_entries(tmp_path / "journal.sqlite")
    (tmp_path / "junk.sqlite").write_bytes(os.urandom(4096))
    with pytest.raises(RecordError, match="cannot be read"):
        read_entries(tmp_path / "junk.sqlite")
    with pytest.raises(RecordError, match="cannot be opened"):
        Journal(tmp_path / "missing" / "journal.sqlite")
