"""Where exposures become frames: a process of its own, which this one speaks to.

Preparing a cell and drawing it takes seconds to minutes of pure computing. In the
process of the records that would keep them from answering, for a thread holds the
interpreter while it computes, or while the system lets another program run.
"""

import json
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sim.cell import CellState
from sim.child_process import close_input, wait_or_kill
from sim.settings import SimulationSettings

# Longer than the process takes to finish what it writes.
_STOP_TIMEOUT_S = 6.0


@dataclass(frozen=True)
class Exposure:
    """One frame as the world stood in the middle of its exposure.

    Attributes
    ----------
    unique_id : int
        The camera's own number of the frame.
    frame_index : int
        Frames exposed since the IOC began; seeds the noise.
    start_s, exposure_time_s : float
        Simulated time of its beginning and its length.
    beam_time_s : float
        Simulated time since the IOC began: the beam drifts with it.
    angle_deg, sample_x_mm, sample_y_mm : float
        Positions in the middle of the exposure.
    shutter_open : bool
    ring_current_ma : float
    """

    unique_id: int
    frame_index: int
    start_s: float
    exposure_time_s: float
    beam_time_s: float
    angle_deg: float
    sample_x_mm: float
    sample_y_mm: float
    shutter_open: bool
    ring_current_ma: float


@dataclass(frozen=True)
class Written:
    """The file after a frame was handed to it.

    Attributes
    ----------
    captured : int
        Frames that a reader can see.
    is_open : bool
        Whether it takes another frame.
    error : str
        Why it was closed early; empty if it was not.
    """

    captured: int
    is_open: bool
    error: str


class DarkroomError(RuntimeError):
    """A frame, a cell or a file could not be made, or the process ended."""


class Darkroom:
    """The process that prepares cells, draws frames and writes them.

    What is asked of it is done in the order in which it was asked, but for
    preparations, which have a thread of their own. The process ends when this one
    does.

    Parameters
    ----------
    settings : SimulationSettings
    directory : Path
        Where the truth file goes, and what a large cell needs.

    Attributes
    ----------
    compiled : concurrent.futures.Future
        Done when frames can be drawn without compiling first; fails when the
        settings of the cell cannot be.
    ended : concurrent.futures.Future
        Fails when the process ends unasked.
    """

    def __init__(self, settings: SimulationSettings, directory: Path) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._waiting: dict[int, Future[Any]] = {}
        self._forgotten: deque[int] = deque()
        self._stopping = False
        self.ended: Future[None] = _promise()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sim.darkroom_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        threading.Thread(
            target=self._read_replies, name="darkroom replies", daemon=True
        ).start()
        self.compiled: Future[None] = self._ask(
            "begin",
            settings=settings.model_dump(mode="json"),
            directory=str(directory.resolve()),
        )

    def prepare(
        self, cell: int, state: CellState, time_s: float, *, like: int | None = None
    ) -> "Future[None]":
        """Work out the shape of the cell at a state.

        Parameters
        ----------
        cell : int
            What `expose` will call it.
        state : CellState
        time_s : float
            Simulated time of that state, for the truth.
        like : int, optional
            A cell prepared or being prepared that looks the same.
        """
        return self._ask(
            "prepare", cell=cell, state=asdict(state), time_s=time_s, like=like
        )

    def forget(self, cell: int) -> None:
        """Let go of a cell that no frame will show, with the next request."""
        # Called when the cell's owner is collected, in whatever thread and within
        # whatever call, `_ask` among them: it must not lock or write.
        self._forgotten.append(cell)

    def open_file(
        self, path: Path, *, swmr: bool, flush_every: int, number: int
    ) -> "Future[None]":
        """Make the file that the next frames go to; it must not exist.

        Parameters
        ----------
        path : Path
        swmr : bool
            Whether readers may open it while it grows.
        flush_every : int
            Frames between flushes.
        number : int
            Frames after which it is closed; 0 for no end.
        """
        return self._ask(
            "open", path=str(path), swmr=swmr, flush_every=flush_every, number=number
        )

    def expose(
        self, exposure: Exposure, cell: int, *, fault: str = "", disk_full: bool = False
    ) -> "Future[Written]":
        """Draw a frame and write it to the open file; without one, do nothing.

        Parameters
        ----------
        exposure : Exposure
        cell : int
            A cell prepared before. A dark needs none and does not wait for it.
        fault : str
            Error that the writer meets, if any.
        disk_full : bool
            Whether the disk is full.
        """
        return self._ask(
            "expose",
            exposure=asdict(exposure),
            cell=cell,
            fault=fault,
            disk_full=disk_full,
        )

    def close_file(self) -> "Future[Written]":
        """Close the open file, if there is one."""
        return self._ask("close")

    def stop(self) -> None:
        """End the process, by force if need be; stopping twice does no harm."""
        self._stopping = True
        with self._lock:
            close_input(self._process)
        wait_or_kill(self._process, _STOP_TIMEOUT_S)

    def _ask(self, order: str, **arguments: Any) -> "Future[Any]":
        answer = _promise()
        with self._lock:
            self._number += 1
            number = self._number
            self._waiting[number] = answer
            forgotten = [self._forgotten.popleft() for _ in range(len(self._forgotten))]
            request = {
                "request": number,
                "forgotten": forgotten,
                "order": order,
                **arguments,
            }
            line = json.dumps(request).encode() + b"\n"
            stdin = self._process.stdin
            try:
                if stdin is None or stdin.closed:
                    raise BrokenPipeError
                stdin.write(line)
                stdin.flush()
            except BrokenPipeError:
                del self._waiting[number]
                answer.set_exception(DarkroomError(self._epitaph()))
        return answer

    def _read_replies(self) -> None:
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("the process that draws frames has no pipe")
        try:
            with stdout:
                for line in stdout:
                    self._take_reply(json.loads(line))
        except Exception:
            self._process.kill()
            raise
        finally:
            # Whatever went wrong, nobody waits for ever.
            self._process.wait()
            with self._lock:
                waiting, self._waiting = list(self._waiting.values()), {}
            for answer in waiting:
                answer.set_exception(DarkroomError(self._epitaph()))
            if self._stopping:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(DarkroomError(self._epitaph()))

    def _take_reply(self, reply: dict[str, Any]) -> None:
        with self._lock:
            answer = self._waiting.pop(reply["request"])
        if "failure" in reply:
            answer.set_exception(DarkroomError(reply["failure"]))
        elif "captured" in reply:
            answer.set_result(
                Written(reply["captured"], reply["is_open"], reply["error"])
            )
        else:
            answer.set_result(None)

    def _epitaph(self) -> str:
        return (
            "the process that draws the simulated frames ended with code "
            f"{self._process.poll()}; its last words are in the IOC's log"
        )


def _promise() -> "Future[Any]":
    """Return a future that whoever waits for it cannot cancel."""
    promise: Future[Any] = Future()
    promise.set_running_or_notify_cancel()
    return promise
