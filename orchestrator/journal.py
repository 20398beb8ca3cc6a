"""The journal: what was begun and what was done, in SQLite.

Write-ahead: an entry is on disk (WAL, ``synchronous=FULL``) before what it announces
happens, so that after a power cut the journal never claims less than was done.
Entries are only ever added.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import RecordError
from plans.steps import Step

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time_s REAL NOT NULL,
    kind TEXT NOT NULL,
    step_index INTEGER,
    attempt INTEGER,
    text TEXT NOT NULL,
    details TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS entry_is_never_changed BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS entry_is_never_removed BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""


@dataclass(frozen=True)
class Entry:
    """One line of the journal.

    Attributes
    ----------
    time_s : float
        Seconds since the Unix epoch, wall clock of the orchestrator.
    kind : str
        ``session``, ``begin``, ``done``, ``failed``, ``decision``, ``alarm``,
        ``analysis_queued``, ``measured``, ``analysis_failed`` or ``ended``.
    step_index : int or None
        Place of the step in the experiment, None where no step is meant.
    """

    number: int
    time_s: float
    kind: str
    step_index: int | None
    attempt: int | None
    text: str
    details: dict[str, Any]


class Journal:
    """Append-only journal of one experiment; safe to call from any thread.

    It is the `plans.journal.StepJournal` of the plans.

    Parameters
    ----------
    path : Path
        The SQLite file, made if it does not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(
                path, timeout=5, check_same_thread=False, isolation_level=None
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise RecordError(f"journal {path} cannot be opened: {error}") from error

    def begin(self, step: Step, attempt: int) -> None:
        """Note that a step is about to begin."""
        self.add("begin", _name(step), step, attempt, asdict(step))

    def done(self, step: Step, attempt: int, outcome: object = None) -> None:
        """Note that a step was done, with what came out of it."""
        self.add("done", _name(step), step, attempt, _details(outcome))

    def failed(self, step: Step, attempt: int, reason: str) -> None:
        """Note that a step failed and why."""
        self.add("failed", f"{_name(step)}: {reason}", step, attempt)

    def decide(self, text: str, details: Mapping[str, Any] | None = None) -> None:
        """Note a decision that was taken, by a rule or by the operator."""
        self.add("decision", text, details=details)

    def add(
        self,
        kind: str,
        text: str,
        step: Step | None = None,
        attempt: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an entry; it is on disk when this returns.

        Raises
        ------
        RecordError
            The entry could not be written: the experiment must stop.
        """
        values = (
            time.time(),
            kind,
            None if step is None else step.index,
            attempt,
            text,
            json.dumps(dict(details or {}), default=_plain),
        )
        try:
            with self._lock:
                self._database.execute(
                    "INSERT INTO entry"
                    " (time_s, kind, step_index, attempt, text, details)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    values,
                )
        except sqlite3.Error as error:
            raise RecordError(
                f"journal {self.path} cannot be written ({error}) while noting "
                f"{kind} '{text}'; the experiment stops: look at the disk"
            ) from error

    def entries(self) -> list[Entry]:
        """Return all entries in order."""
        with self._lock:
            return _entries(self._database)

    def close(self) -> None:
        """Close the file; further entries fail."""
        with self._lock:
            self._database.close()


def read_entries(path: Path) -> list[Entry]:
    """Return the entries of a journal that another process may be writing.

    Raises
    ------
    FileNotFoundError
        There is no journal.
    RecordError
        The file is not a journal or is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(f"no journal at {path}")
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=5)) as database:
            return _entries(database)
    except (sqlite3.Error, json.JSONDecodeError) as error:
        raise RecordError(f"journal {path} cannot be read: {error}") from error


def _entries(database: sqlite3.Connection) -> list[Entry]:
    if not database.execute("SELECT * FROM sqlite_master").fetchone():
        return []  # its writer has just made it
    rows = database.execute(
        "SELECT number, time_s, kind, step_index, attempt, text, details"
        " FROM entry ORDER BY number"
    )
    return [Entry(*row[:6], details=json.loads(row[6])) for row in rows]


def _name(step: Step) -> str:
    kind = "tomogram" if hasattr(step, "scan_number") else "half-cycle"
    return f"{kind} {step.label}"


def _details(outcome: object) -> dict[str, Any]:
    if outcome is None:
        return {}
    if is_dataclass(outcome) and not isinstance(outcome, type):
        return asdict(outcome)
    if isinstance(outcome, Mapping):
        return dict(outcome)
    return {"outcome": outcome}


def _plain(value: object) -> object:
    to_list = getattr(value, "tolist", None)  # of an array or a number of numpy
    return str(value) if to_list is None else to_list()
