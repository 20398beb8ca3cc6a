"""The process in which frames are drawn and written: ``python -m sim.darkroom_server``.

It reads requests, one line of JSON each, from its standard input and answers them on
its standard output; it ends when its standard input closes.
"""

import json
import logging
import os
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sim.cell import CellState
from sim.darkroom import Exposure, Written
from sim.hdf5_file import Hdf5FrameFile
from sim.projector import Prepared, Projector
from sim.settings import SimulationSettings
from sim.truth import TruthFile

log = logging.getLogger(__name__)

# Longest wait at the end for the truth file, shorter than that for the process.
_LAST_RECORD_S = 4.0


@dataclass(frozen=True)
class _Cell:
    prepared: "Future[Prepared]"
    time_s: float


def _log_failure(recorded: "Future[None]") -> None:
    error = recorded.exception()
    if error is not None:
        log.error("truth file: %s", error, exc_info=error)


class DarkroomServer:
    """Prepares cells in one thread, draws and writes frames in another.

    Parameters
    ----------
    settings : SimulationSettings
    directory : Path
        For the truth file and what a large cell needs.
    replies : BinaryIO
        Where answers are written.
    """

    def __init__(
        self, settings: SimulationSettings, directory: Path, replies: BinaryIO
    ) -> None:
        camera = settings.camera
        self._shape = (camera.num_rows, camera.num_columns)
        self._projector = Projector(settings.cell, camera, settings.seed, directory)
        self._truth = TruthFile(directory / "truth.h5", self._projector)
        self._replies = replies
        self._reply_lock = threading.Lock()
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="preparing")
        self._cells: dict[int, _Cell] = {}
        self._file: Hdf5FrameFile | None = None
        self._number_wanted = 0
        self._captured = 0
        self._recorded: set[str] = set()
        self._recording: Future[None] | None = None

    def take(self, request: dict[str, Any]) -> None:
        """Begin to do what is asked; the answer is written when it is done."""
        asked, order = request.pop("request"), request.pop("order")
        for number in request.pop("forgotten"):
            self._forget(number)
        match order:
            case "begin":
                done = self._drawing.submit(self._begin)
            case "prepare":
                done = self._prepare(**request)
            case "open":
                done = self._drawing.submit(self._open, **request)
            case "expose":
                # Looked up now: it may be forgotten before it is drawn.
                cell = self._cells.get(request.pop("cell"))
                done = self._drawing.submit(self._expose, cell=cell, **request)
            case "close":
                done = self._drawing.submit(self._close)
            case _:
                raise ValueError(f"order {order!r} is unknown")
        done.add_done_callback(lambda future: self._answer(asked, future))

    def finish(self) -> None:
        """Wait for the truth of a scan that is being written, not for frames."""
        if self._recording is not None:
            wait([self._recording], timeout=_LAST_RECORD_S)

    def _answer(self, asked: int, done: "Future[Any]") -> None:
        reply: dict[str, Any] = {"request": asked}
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            reply["failure"] = "nobody waits for this cell any more"
        elif error is not None:
            # A ValueError says all in a line: a setting that cannot be.
            log.error("%s", error, exc_info=not isinstance(error, ValueError) and error)
            reply["failure"] = f"{type(error).__name__}: {error}"
        elif isinstance(written := done.result(), Written):
            reply["captured"] = written.captured
            reply["is_open"] = written.is_open
            reply["error"] = written.error
        with self._reply_lock:
            self._replies.write(json.dumps(reply).encode() + b"\n")
            self._replies.flush()

    def _begin(self) -> None:
        self._projector.warm_up()
        # Now, not when the first crack comes. The network belongs to that thread.
        self._preparing.submit(self._projector.shaper.network.check_law).result()

    def _prepare(
        self, cell: int, state: dict[str, Any], time_s: float, like: int | None
    ) -> "Future[Prepared]":
        known = None if like is None else self._cells.get(like)
        if known is not None:
            prepared = known.prepared
        else:
            state["directions"] = tuple(state["directions"])
            work = self._projector.prepare
            prepared = self._preparing.submit(work, CellState(**state))
        self._cells[cell] = _Cell(prepared, time_s)
        return prepared

    def _forget(self, number: int) -> None:
        cell = self._cells.pop(number, None)
        others = [other.prepared for other in self._cells.values()]
        if cell is not None and cell.prepared not in others:
            cell.prepared.cancel()  # unless it has begun

    def _open(self, path: str, swmr: bool, flush_every: int, number: int) -> None:
        self._file = Hdf5FrameFile(
            Path(path), self._shape, swmr=swmr, flush_every=flush_every
        )
        self._number_wanted = number
        self._captured = 0

    def _expose(
        self, exposure: dict[str, Any], cell: _Cell | None, fault: str, disk_full: bool
    ) -> Written:
        file = self._file
        if file is None:
            return Written(self._captured, False, "")
        taken = Exposure(**exposure)
        # Darks and flats need no cell: they must not wait for one to be prepared.
        prepared = None
        seen = self._projector.sees_sample(taken.sample_x_mm)
        if taken.shutter_open and seen and cell is not None:
            prepared = cell.prepared.result()
            if file.path.stem.endswith("projections"):
                self._record_truth(file.path.stem, cell, prepared)
        frame = self._projector.frame(
            prepared,
            angle_deg=taken.angle_deg,
            sample_out_mm=taken.sample_x_mm,
            sample_y_mm=taken.sample_y_mm,
            shutter_open=taken.shutter_open,
            ring_current_ma=taken.ring_current_ma,
            exposure_time_s=taken.exposure_time_s,
            time_s=taken.beam_time_s,
            frame_index=taken.frame_index,
        )
        try:
            if fault:
                raise OSError(fault)
            file.capacity_bytes = 0 if disk_full else None
            file.append(frame, taken.unique_id, taken.start_s)
        except (OSError, RuntimeError, ValueError) as error:
            log.error("%s: frame %d: %s", file.path, taken.unique_id, error)
            return self._close(str(error))
        self._captured = file.number_flushed
        if 0 < self._number_wanted <= file.number:
            return self._close()
        return Written(self._captured, True, "")

    def _close(self, error: str = "") -> Written:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except (OSError, RuntimeError) as failure:
                error = error or str(failure)
            self._captured = file.number_flushed
        return Written(self._captured, False, error)

    def _record_truth(self, stem: str, cell: _Cell, prepared: Prepared) -> None:
        if stem in self._recorded:
            return
        self._recorded.add(stem)
        # In the other thread: frames need not wait until volumes are written.
        self._recording = self._preparing.submit(
            self._truth.record, prepared, name=stem, time_s=cell.time_s
        )
        self._recording.add_done_callback(_log_failure)


def main() -> None:
    """Do what is asked until the standard input closes."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library may print must not come between the answers.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    server: DarkroomServer | None = None
    code = 0
    try:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            if server is None:
                settings = SimulationSettings.model_validate(request.pop("settings"))
                directory = Path(request.pop("directory"))
                server = DarkroomServer(settings, directory, replies)
            server.take(request)
        if server is not None:
            server.finish()
    except Exception:
        log.exception("the process that draws frames failed")
        code = 1
    logging.shutdown()
    # Threads that still draw or prepare hold nothing worth waiting for.
    os._exit(code)


if __name__ == "__main__":
    main()
