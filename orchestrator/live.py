"""Live analysis: scans go to the analysis worker while they are taken.

The RunEngine's callback only notes what happened and returns. A supervising thread
tells the worker, which is a process of its own; when the worker dies it is started
again and everything it had not answered is told again. What waits is bounded by the
number of scans: of each scan only how many frames were written is kept.
"""

import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from analysis.messages import (
    AnalysisFailed,
    FramesWritten,
    FromWorker,
    ScanFinished,
    ScanStarted,
    Shutdown,
    TomogramMeasured,
    ToWorker,
    WorkerReady,
)
from analysis.settings import AnalysisSettings

_log = logging.getLogger(__name__)

DEATHS_MAX = 3  # of the worker over one scan, or before it was ever ready
INBOX_SIZE = 64


@dataclass
class _Job:
    """What is known of one scan, and how much of it the worker was told."""

    started: ScanStarted
    frames: dict[str, int] = field(default_factory=dict)
    finished: ScanFinished | None = None
    finished_at_s: float | None = None
    deaths: int = 0
    told_started: bool = False
    told_frames: dict[str, int] = field(default_factory=dict)
    told_finished: bool = False

    def next_message(self) -> ToWorker | None:
        """Return what the worker must be told next."""
        if not self.told_started:
            return self.started
        for stream, stop in self.frames.items():
            start = self.told_frames.get(stream, 0)
            if start < stop:
                return FramesWritten(self.started.scan_id, stream, start, stop)
        if self.finished is not None and not self.told_finished:
            return self.finished
        return None

    def told(self, message: ToWorker) -> None:
        """Note that the worker was told."""
        match message:
            case ScanStarted():
                self.told_started = True
            case FramesWritten():
                self.told_frames[message.stream] = message.stop
            case ScanFinished():
                self.told_finished = True

    def forget_told(self) -> None:
        """Start over, for a new worker."""
        self.told_started = self.told_finished = False
        self.told_frames = {}


class LiveAnalysis:
    """Keep an analysis worker at work on the scans of an experiment.

    Parameters
    ----------
    settings : AnalysisSettings
        How the worker reconstructs and measures.
    on_message : callable
        Called with each message of the worker, in a thread of this object. What it
        raises is logged and counted, and stops nothing.
    log_file : Path
        Where the worker's own output goes.
    work : callable
        What the worker's process does; must be importable by its name.
    """

    def __init__(
        self,
        settings: AnalysisSettings,
        *,
        on_message: Callable[[FromWorker], None],
        log_file: Path,
        work: Callable[[Any, Any, AnalysisSettings], None] | None = None,
    ):
        self.restarts = 0
        self.failed = 0
        self.measured = 0
        self.callback_errors = 0
        self.ready = threading.Event()
        self._settings = settings
        self._on_message = on_message
        self._log_file = log_file
        self._work = work or _analyse
        self._jobs: dict[str, _Job] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._given_up = ""
        self._deaths_before_ready = 0
        self._process: BaseProcess | None = None
        self._inbox: Any = None
        self._reader: threading.Thread | None = None
        self._supervisor = threading.Thread(
            target=self._supervise, name="analysis-supervisor", daemon=True
        )

    def start(self) -> None:
        """Start the worker; it compiles and warms up beside what follows."""
        self._start_worker()
        self._supervisor.start()

    # --- what the experiment says ----------------------------------------------------

    def scan_started(self, scan: ScanStarted) -> None:
        """Note that a scan begins to write its files."""
        with self._changed:
            self._jobs[scan.scan_id] = _Job(scan)
            self._changed.notify_all()

    def frames_written(self, scan_id: str, stream: str, stop: int) -> None:
        """Note that the frames before `stop` of a stream can be read."""
        with self._changed:
            job = self._jobs.get(scan_id)
            if job is not None:
                job.frames[stream] = max(stop, job.frames.get(stream, 0))
                self._changed.notify_all()

    def scan_finished(self, finished: ScanFinished) -> None:
        """Note that a scan ended."""
        with self._changed:
            job = self._jobs.get(finished.scan_id)
            if job is not None:
                job.finished = finished
                job.finished_at_s = time.monotonic()
                self._changed.notify_all()

    # --- what can be seen ------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Scans that ended and are not measured yet."""
        with self._changed:
            return sum(job.finished is not None for job in self._jobs.values())

    @property
    def lag_s(self) -> float:
        """How long the oldest of them has waited (wall time)."""
        with self._changed:
            ended = [job.finished_at_s for job in self._jobs.values()]
        times = [at for at in ended if at is not None]
        return time.monotonic() - min(times) if times else 0.0

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, None when there is none."""
        process = self._process
        return process.pid if process is not None and process.is_alive() else None

    def drain(self, timeout_s: float) -> bool:
        """Wait until every scan that ended is measured; False when time is up."""
        end = time.monotonic() + timeout_s
        with self._changed:
            while any(job.finished is not None for job in self._jobs.values()):
                remaining = end - time.monotonic()
                if remaining <= 0:
                    return False
                self._changed.wait(min(remaining, 0.5))
        return True

    def close(self, timeout_s: float = 10.0) -> None:
        """End the worker; scans that are not measured stay so."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._supervisor.ident is not None:
            self._supervisor.join(timeout_s)
        process = self._process
        if process is not None and process.is_alive():
            try:
                self._inbox.put_nowait(Shutdown())
            except (queue.Full, ValueError):
                process.terminate()
            process.join(timeout_s)
            if process.is_alive():
                process.kill()
                process.join(timeout_s)
        if self._reader is not None:
            self._reader.join(timeout_s)
        if self._inbox is not None:
            self._inbox.cancel_join_thread()
            self._inbox.close()

    # --- threads ---------------------------------------------------------------------

    def _start_worker(self) -> None:
        # A queue whose reader was killed may keep its lock held: new ones each time.
        context = multiprocessing.get_context("spawn")
        self._inbox = context.Queue(INBOX_SIZE)
        outbox = context.Queue()
        self._process = context.Process(
            target=_be_worker,
            args=(self._work, self._inbox, outbox, self._settings, self._log_file),
            name="analysis-worker",
            daemon=True,
        )
        self._process.start()
        self._reader = threading.Thread(
            target=self._read,
            args=(outbox, self._process),
            name="analysis-reader",
            daemon=True,
        )
        self._reader.start()

    def _supervise(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(0.2)
                if self._closing:
                    return
            process = self._process
            if process is not None and not process.is_alive():
                self._restart(process)
            if self._given_up:
                self._give_up_on_waiting()
            else:
                self._tell()

    def _give_up_on_waiting(self) -> None:
        with self._changed:
            ended = [job for job in self._jobs.values() if job.finished is not None]
            for job in ended:
                if job.finished is not None and not job.finished.success:
                    del self._jobs[job.started.scan_id]
            failures = [
                AnalysisFailed(job.started.scan_id, "worker", self._given_up)
                for job in ended
                if job.started.scan_id in self._jobs
            ]
        for failure in failures:
            self._handle(failure)

    def _tell(self) -> None:
        while True:
            with self._changed:
                job, message = next(
                    (
                        (job, message)
                        for job in self._jobs.values()
                        if (message := job.next_message()) is not None
                    ),
                    (None, None),
                )
                if job is None or message is None:
                    return
                try:
                    self._inbox.put_nowait(message)
                except queue.Full:
                    return  # the worker is busy; what waits grows into wider ranges
                job.told(message)
                if isinstance(message, ScanFinished) and not message.success:
                    del self._jobs[message.scan_id]

    def _restart(self, process: BaseProcess) -> None:
        if self._reader is not None:
            self._reader.join(2.0)  # what it said before it died counts
        self._inbox.cancel_join_thread()
        self._inbox.close()
        self.restarts += 1
        _log.error("the analysis worker ended with exit code %s", process.exitcode)
        hopeless: list[AnalysisFailed] = []
        with self._changed:
            at_work = [job for job in self._jobs.values() if job.told_finished]
            if at_work:
                at_work[0].deaths += 1
                if at_work[0].deaths >= DEATHS_MAX:
                    hopeless.append(_worker_died(at_work[0], process))
            elif not self.ready.is_set():
                self._deaths_before_ready += 1
            if self._deaths_before_ready >= DEATHS_MAX:
                self._given_up = (
                    f"the analysis worker does not start (exit code "
                    f"{process.exitcode}); see {self._log_file}"
                )
            for job in self._jobs.values():
                job.forget_told()
        self.ready.clear()
        for failure in hopeless:
            self._handle(failure)
        if self._given_up:
            _log.error("%s", self._given_up)
            self._process = None
        else:
            self._start_worker()

    def _read(self, outbox: Any, process: BaseProcess) -> None:
        while True:
            alive = process.is_alive()
            try:
                message = outbox.get(timeout=0.2)
            except queue.Empty:
                if not alive:
                    break
            except (EOFError, OSError):
                break
            else:
                self._handle(message)
        outbox.close()

    def _handle(self, message: FromWorker) -> None:
        if isinstance(message, WorkerReady):
            self._deaths_before_ready = 0
            self.ready.set()
        answered = isinstance(message, TomogramMeasured | AnalysisFailed)
        try:
            self._on_message(message)
        except Exception:  # the message is one scan's; the next scans must go on
            self.callback_errors += 1
            _log.exception("a message of the analysis worker could not be handled")
        if answered:
            with self._changed:
                self._jobs.pop(message.scan_id, None)
                self.measured += isinstance(message, TomogramMeasured)
                self.failed += isinstance(message, AnalysisFailed)
                self._changed.notify_all()


def _worker_died(job: _Job, process: BaseProcess) -> AnalysisFailed:
    return AnalysisFailed(
        job.started.scan_id,
        stage="worker",
        reason=f"the analysis worker died over it (exit code {process.exitcode})",
    )


def _be_worker(
    work: Callable[[Any, Any, AnalysisSettings], None],
    inbox: Any,
    outbox: Any,
    settings: AnalysisSettings,
    log_file: Path,
) -> None:
    """Be the worker: outlive Ctrl-C, never the orchestrator."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to the whole group
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    work(inbox, outbox, settings)


def _analyse(inbox: Any, outbox: Any, settings: AnalysisSettings) -> None:
    from analysis.worker import run_worker

    run_worker(inbox, outbox, settings)


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(3)
