"""``insitu-ct watch``: the operator's screen from another terminal.

It only reads the files that the orchestrator writes, so it can be opened and closed at
any time, as often as wanted, and on an experiment that ended long ago.
"""

import json
import math
import os
import platform
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.config import load_experiment
from orchestrator.errors import ConfigurationError, InsituError
from orchestrator.journal import Entry, read_entries
from orchestrator.layout import Layout
from orchestrator.results import read_rows
from orchestrator.screen import Screen
from orchestrator.state import ExperimentState
from orchestrator.wording import summarise_row
from plans.steps import HalfCycleStep, Step, TomogramStep
from plans.timing import scan_duration_s

POLL_PERIOD_S = 0.5
_RAMP_S = 1.0  # for the estimate of the time only


def run(directory: Path, console: Console | None = None) -> int:
    """Show an experiment until it ends or the operator closes the screen.

    Parameters
    ----------
    directory : Path
        Data folder of an experiment, running or ended.

    Returns
    -------
    int
        0; closing the screen does nothing to the experiment.

    Raises
    ------
    ConfigurationError, RecordError
        The folder holds no experiment, or its journal cannot be read.
    """
    follower = Follower(directory)
    follower.update()
    console = console or Console(file=sys.stdout, highlight=False)
    try:
        with Screen(follower.state, console):
            waiting = threading.Event()
            while not follower.over:
                waiting.wait(POLL_PERIOD_S)
                follower.update()
    except KeyboardInterrupt:
        pass
    return 0


class Follower:
    """Bring an `ExperimentState` up to date with the files of its experiment.

    Parameters
    ----------
    directory : Path
        Data folder.
    is_running : callable, optional
        Tells whether the orchestrator of a session entry still runs.

    Raises
    ------
    ConfigurationError
        The folder holds no journal.
    """

    def __init__(
        self,
        directory: Path,
        is_running: Callable[[Mapping[str, Any]], bool | None] | None = None,
    ) -> None:
        self._layout = Layout(directory.resolve())
        if not self._layout.journal_file.exists():
            raise ConfigurationError(
                f"{directory}: holds no journal.sqlite, so no experiment was begun in "
                "it; give the data folder of an experiment"
            )
        self._is_running = is_running or _runs_here
        self.state = ExperimentState(directory.resolve().name, simulated=False)
        self._seen = 0
        self._offset = 0
        self._queued: dict[int, float] = {}
        self._measured: set[object] = set()
        self._session: Mapping[str, Any] = {}
        self._lost = False
        self.over = False
        self._plan()

    def update(self) -> None:
        """Read what is new in the journal, the documents and the results."""
        entries = deque(
            entry
            for entry in read_entries(self._layout.journal_file)
            if entry.number > self._seen
        )
        news = bool(entries)
        for name, document in self._new_documents():
            if name == "start":  # what the journal said before it comes before it
                started_s = document.get("time", math.inf)
                while entries and entries[0].time_s <= started_s:
                    self._entry(entries.popleft())
            self.state.document(name, document)
        while entries:
            self._entry(entries.popleft())
        if news:
            self._rows()
        oldest_s = min(self._queued.values(), default=None)
        now_s = self.state.snapshot().now_s
        lag_s = 0.0 if oldest_s is None else now_s - oldest_s
        self.state.analysis(len(self._queued), lag_s)
        self._check_alive()

    def _plan(self) -> None:
        try:
            experiment = load_experiment(self._layout.experiment_file)
        except (InsituError, OSError):
            return  # without the plan there is no estimate of the time, no more
        steps = experiment.steps
        rest_s = experiment.cycling.rest_s
        scan_s = scan_duration_s(experiment.scan, _RAMP_S)
        self.state.planned(
            steps,
            [
                step.duration_s + rest_s if isinstance(step, HalfCycleStep) else scan_s
                for step in steps
            ],
        )

    def _entry(self, entry: Entry) -> None:
        self._seen = entry.number
        state, at_s, details = self.state, entry.time_s, entry.details
        step = _step(entry, details) if entry.kind == "begin" else state.snapshot().step
        match entry.kind:
            case "session":
                self._session, self.over, self._lost = details, False, False
                state.identify(
                    str(details.get("experiment_id") or self._layout.directory.name),
                    simulated=bool(details.get("simulated")),
                    started_s=at_s,
                )
                state.notice(f"session began: {entry.text}", at_s=at_s)
            case "begin" if step is not None:
                state.begin(step, entry.attempt or 0, at_s=at_s)
            case "done" if step is not None:
                state.done(step, entry.attempt or 0, details, at_s=at_s)
                if isinstance(step, TomogramStep):
                    self._queued[step.scan_number] = at_s
            case "failed" if step is not None:
                reason = entry.text.partition(": ")[2] or entry.text
                state.failed(step, entry.attempt or 0, reason, at_s=at_s)
            case "decision":
                state.decide(entry.text, at_s=at_s)
            case "alarm":
                state.alarm(entry.text, at_s=at_s)
            case "measured":
                row = details.get("row") or {}
                self._queued.pop(_scan_number(entry.text), None)
                state.notice(f"{entry.text}: {summarise_row(row)}", at_s=at_s)
            case "analysis_failed":
                self._queued.pop(_scan_number(entry.text), None)
                state.analysis_failed(entry.text, at_s=at_s)
            case "ended":
                outcome = str(details.get("outcome") or "stopped")
                state.finished(outcome, entry.text, at_s=at_s)
                self.over = True
            case _:
                state.notice(entry.text, at_s=at_s)

    def _rows(self) -> None:
        try:
            rows = read_rows(self._layout.results_dir / "measurements.csv")
        except (OSError, ValueError):
            return  # torn or moved: the next look may find it whole
        for row in rows:
            key = (row.get("scan_number"), row.get("attempt"))
            if key not in self._measured:
                self._measured.add(key)
                self.state.measured(row)

    def _new_documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            with open(self._layout.documents_file, "rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # still being written
                    self._offset += len(line)
                    try:
                        name, document = json.loads(line)
                    except (ValueError, TypeError):
                        continue
                    if isinstance(name, str) and isinstance(document, dict):
                        yield name, document
        except FileNotFoundError:
            return

    def _check_alive(self) -> None:
        if self.over or self._lost or not self._session:
            return
        if self._is_running(self._session) is False:
            self._lost = True
            self.state.alarm(
                "the orchestrator does not run any more and noted no end: look at the "
                f"relay, then 'insitu-ct resume {self._layout.directory}'"
            )


def _runs_here(session: Mapping[str, Any]) -> bool | None:
    """Tell whether a session's process runs; None where that cannot be known."""
    pid = session.get("pid")
    if not isinstance(pid, int) or session.get("host") != platform.node():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _step(entry: Entry, details: Mapping[str, Any]) -> Step | None:
    try:
        if "half_cycle" in details:
            return HalfCycleStep(
                index=int(details["index"]),
                half_cycle=int(details["half_cycle"]),
                label=str(details["label"]),
                current_ma=float(details["current_ma"]),
                duration_s=float(details["duration_s"]),
                end_frac=float(details.get("end_frac", 1.0)),
            )
        return TomogramStep(
            index=int(details["index"]),
            scan_number=int(details["scan_number"]),
            label=str(details["label"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _scan_number(text: str) -> int:
    """Return the number in ``scan_0007_00: …``, -1 where there is none."""
    parts = text.split("_")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else -1
