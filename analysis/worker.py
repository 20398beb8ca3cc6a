"""The analysis worker: a process that turns a running scan into a measured tomogram.

One thread listens and takes in frames as the camera writes them (single-writer
multiple-reader HDF5); the main thread reconstructs and measures the scan before. A
scan that cannot be read, reconstructed or measured becomes an `AnalysisFailed` with
one line of reason, and the worker goes on.
"""

import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import h5py
import hdf5plugin as hdf5plugin  # registers the filters that the camera writes with
import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.gridrec import LANES, Gridrec
from analysis.ingest import ScanIngest
from analysis.messages import (
    AnalysisFailed,
    FramesWritten,
    FromWorker,
    PreviewReady,
    ScanFinished,
    ScanStarted,
    Shutdown,
    StageProgress,
    TomogramMeasured,
    ToWorker,
    WorkerReady,
)
from analysis.normalise import FrameAverage
from analysis.pipeline import find_axis, reconstruct, refined_axis
from analysis.preview import write_slices
from analysis.rings import correct_response
from analysis.rotation_axis import refine_axis
from analysis.settings import AnalysisSettings
from analysis.volume import Hdf5Volume
from analysis.zingers import remove_zingers

NICENESS, ARITHMETIC_NICENESS = 10, 15
"""Of the thread that takes frames in, and of the threads that reconstruct."""

DATASET = "entry/data/data"
TIMES = "entry/instrument/NDAttributes/NDArrayTimeStamp"
PROCESS = "entry/reconstruction"
READ_BYTES = 2**25
"""Of frames read at once; eight at most, so that previews come in time."""

VISIBLE_TIMEOUT_S = 20.0
"""How long a frame that was told may stay unseen in the file."""

RESULT_SUFFIX = ".measured.h5"

LOG = logging.getLogger(__name__)


class Inbox(Protocol):
    """Where messages come from: a ``multiprocessing`` queue."""

    def get(self, block: bool = True, timeout: float | None = None) -> ToWorker:
        """Return the next message."""
        ...


class Outbox(Protocol):
    """Where messages go: a ``multiprocessing`` queue."""

    def put(self, obj: FromWorker) -> None:
        """Send a message."""
        ...


@dataclass
class _Scan:
    """A scan that is being taken in."""

    about: ScanStarted
    ingest: ScanIngest
    files: dict[str, "_GrowingFile"]
    waiting: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    last_preview: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def nominal_angles_deg(self) -> NDArray[np.float64]:
        start, step, number = self.about.nominal_angles_deg
        return np.asarray(start + step * np.arange(number), np.float64)

    def close(self) -> None:
        for file in self.files.values():
            file.close()
        self.ingest.close()


class _GrowingFile:
    """One of the camera's files, read while it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: h5py.File | None = None
        self._wait = threading.Event()
        self.frames_at_once = 1

    def frames(self, start: int, stop: int) -> NDArray[Any]:
        """Return frames ``start`` to ``stop`` once the file shows them."""
        deadline = time.monotonic() + VISIBLE_TIMEOUT_S
        while True:
            seen = 0
            try:
                if self._file is None:
                    self._file = h5py.File(self._path, "r", swmr=True, libver="latest")
                data = self._file[DATASET]
                if not isinstance(data, h5py.Dataset):
                    raise DataError(f"{self._path}: {DATASET} is no dataset")
                data.refresh()
                seen = data.shape[0]
                frame_bytes = int(np.prod(data.shape[1:])) * data.dtype.itemsize
                self.frames_at_once = int(
                    np.clip(READ_BYTES // max(frame_bytes, 1), 1, 8)
                )
                if seen >= stop:
                    return data[start:stop]
                problem = f"{DATASET} shows {seen} frames, {stop} were written"
            except (OSError, KeyError, RuntimeError) as error:
                # A file that the writer has just created may not be open to readers
                # yet.
                problem = str(error)
                self.close()
            if time.monotonic() > deadline:
                raise DataError(
                    f"{self._path}: frames {start} to {stop} are not readable after "
                    f"{VISIBLE_TIMEOUT_S:g} s ({problem})"
                )
            self._wait.wait(0.05)

    def times(self, number: int) -> NDArray[np.float64] | None:
        """Return when the first frames were taken, None where the file is silent."""
        times = None if self._file is None else self._file.get(TIMES)
        if not isinstance(times, h5py.Dataset):
            return None
        times.refresh()
        values = np.asarray(times[:number], np.float64)
        return values if len(values) == number and np.isfinite(values).all() else None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(frozen=True)
class _Job:
    """A scan whose frames are in, to be reconstructed and measured."""

    scan: _Scan
    angles_deg: NDArray[np.float64]
    axis_px: float


def run_worker(inbox: Inbox, outbox: Outbox, settings: AnalysisSettings) -> None:
    """Work until `Shutdown`; the target of a spawned process.

    Parameters
    ----------
    inbox, outbox : queues
        Carry `analysis.messages`.
    settings : AnalysisSettings
        How to reconstruct and measure.
    """
    # Ctrl-C reaches the whole process group; only the orchestrator decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    begun = time.perf_counter()
    warm_up()
    outbox.put(WorkerReady(seconds=time.perf_counter() - begun))
    jobs: queue.Queue[_Job | None] = queue.Queue()
    listener = threading.Thread(
        target=_Listener(inbox, outbox, settings, jobs).run,
        name="frames",
        daemon=True,
    )
    listener.start()
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        # What is started from here on inherits it; the listener does not.
        here = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, here, ARITHMETIC_NICENESS)
    analyst = _Analyst(outbox, settings)
    while (job := jobs.get()) is not None:
        analyst.work(job)
    listener.join()


def warm_up() -> None:
    """Compile, or load from the cache, what a scan needs."""
    from analysis.measure import warm_up as warm_up_measurement
    from analysis.settings import ReconstructionSettings

    angles = np.linspace(0, 180, 16, endpoint=False)
    settings = ReconstructionSettings(air_columns_px=1)
    with ScanIngest("warm-up", 16, 1.0, settings, Path.cwd()) as ingest:
        ingest.darks.add(np.zeros((1, LANES, 32), np.uint16))
        ingest.flats.add(np.full((1, LANES, 32), 1000, np.uint16))
        for index in range(16):
            ingest.put(index, np.full((LANES, 32), 900, np.uint16))
        ingest.preview.slices(angles, 15.5)
        sinograms = ingest.store.band(0)
    remove_zingers(sinograms[0], 1.0)
    correct_response(sinograms[0])
    refine_axis(sinograms[:2], angles, 15.5)
    Gridrec(angles, 32, 15.5, threads=1).reconstruct(sinograms)
    warm_up_measurement()


class _Listener:
    """Takes in frames and queues finished scans."""

    def __init__(
        self,
        inbox: Inbox,
        outbox: Outbox,
        settings: AnalysisSettings,
        jobs: "queue.Queue[_Job | None]",
    ) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._settings = settings
        self._jobs = jobs
        self._scans: dict[str, _Scan] = {}
        self._axis_px: float | None = settings.reconstruction.rotation_axis_px

    def run(self) -> None:
        """Listen until `Shutdown`."""
        while True:
            message = self._inbox.get()
            if isinstance(message, Shutdown):
                break
            try:
                self._take(message)
            except Exception as error:  # noqa: BLE001 the experiment goes on
                self._fail(message.scan_id, "normalise", error)
        for scan in self._scans.values():
            scan.close()
        self._jobs.put(None)

    def _take(self, message: ScanStarted | FramesWritten | ScanFinished) -> None:
        if isinstance(message, ScanStarted):
            self._start(message)
            return
        scan = self._scans.get(message.scan_id)
        if scan is None:
            return  # of a scan that has failed, or that nobody announced
        if isinstance(message, FramesWritten):
            known = scan.waiting.get(message.stream, 0)
            scan.waiting[message.stream] = max(known, message.stop)
            self._read(scan, at_end=False)
        else:
            self._finish(scan, message)

    def _start(self, about: ScanStarted) -> None:
        earlier = self._scans.pop(about.scan_id, None)
        if earlier is not None:
            earlier.close()
        about.tomogram_file.parent.mkdir(parents=True, exist_ok=True)
        ingest = ScanIngest(
            about.scan_id,
            about.nominal_angles_deg[2],
            about.pixel_size_um,
            self._settings.reconstruction,
            about.tomogram_file.parent,
            # One scan is at work; the memory of another is not there for a third.
            in_memory=self._jobs.empty(),
        )
        files = {
            "darks": _GrowingFile(about.darks_file),
            "flats": _GrowingFile(about.flats_file),
            "projections": _GrowingFile(about.projections_file),
        }
        if about.flats_after_file is not None:
            files["flats_after"] = _GrowingFile(about.flats_after_file)
        self._scans[about.scan_id] = _Scan(about, ingest, files)

    def _read(self, scan: _Scan, *, at_end: bool) -> None:
        """Take in what is there; projections wait for darks and flats."""
        begun = time.perf_counter()
        ingest = scan.ingest
        if not ingest.begun:
            for stream, average in (("darks", ingest.darks), ("flats", ingest.flats)):
                for part in self._new_frames(scan, stream):
                    average.add(part)
        ready = ingest.begun or (ingest.darks.number and ingest.flats.number)
        if not ingest.begun and not at_end:
            # Flats taken after the projections: more may follow until the scan ends.
            all_in = scan.waiting.get("projections", 0) >= ingest.num_angles
            ready = ready and not all_in
        if not ready and at_end:
            missing = "flats" if ingest.darks.number else "darks"
            file = getattr(scan.about, f"{missing}_file")
            raise DataError(
                f"{scan.about.scan_id}: no {missing} were taken: 0 frames of {DATASET} "
                f"in {file} were told; a scan needs darks and flats"
            )
        if ready and scan.waiting.get("projections", 0):
            start = scan.taken.get("projections", 0)
            for part in self._new_frames(scan, "projections"):
                for frame in part:
                    ingest.put(start, frame)
                    start += 1
                self._show(scan)
        passed = time.perf_counter() - begun
        scan.seconds["normalise"] = scan.seconds.get("normalise", 0.0) + passed

    def _new_frames(self, scan: _Scan, stream: str) -> Iterator[NDArray[Any]]:
        stop = scan.waiting.get(stream, 0)
        while (start := scan.taken.get(stream, 0)) < stop:
            until = min(start + scan.files[stream].frames_at_once, stop)
            yield scan.files[stream].frames(start, until)
            scan.taken[stream] = until

    def _show(self, scan: _Scan) -> None:
        """Draw a preview from time to time."""
        now = time.monotonic()
        number, expected = scan.ingest.preview.number, scan.ingest.num_angles
        self._outbox.put(
            StageProgress(scan.about.scan_id, "normalise", number / expected)
        )
        interval = self._settings.reconstruction.preview_interval_s
        if now - scan.last_preview < interval or number == expected:
            return
        width = scan.ingest.store.width_px
        axis = (width - 1) / 2 if self._axis_px is None else self._axis_px
        self._draw(scan, scan.nominal_angles_deg, axis, final=False)
        scan.last_preview = time.monotonic()

    def _draw(
        self, scan: _Scan, angles_deg: NDArray[np.float64], axis: float, *, final: bool
    ) -> None:
        slices = scan.ingest.preview.slices(angles_deg, axis)
        files = write_slices(slices, scan.about.preview_dir, "preview")
        self._outbox.put(PreviewReady(scan.about.scan_id, tuple(files), final))

    def _finish(self, scan: _Scan, message: ScanFinished) -> None:
        if not message.success:
            del self._scans[message.scan_id]
            scan.close()
            return
        self._read(scan, at_end=True)
        angles = np.asarray(message.angles_deg, np.float64)
        expected = scan.ingest.num_angles
        if len(angles) == 0:
            angles = scan.nominal_angles_deg
        if len(angles) != expected:
            raise DataError(
                f"{message.scan_id}: {len(angles)} angles recorded for {expected} "
                "projections; they must match"
            )
        if scan.waiting.get("flats_after", 0) and "flats_after" in scan.files:
            self._interpolate_flats(scan)
        begun = time.perf_counter()
        self._axis_px = find_axis(scan.ingest, angles, self._settings.reconstruction)
        scan.seconds["axis"] = time.perf_counter() - begun
        self._draw(scan, angles, self._axis_px, final=True)
        scan.seconds["preview"] = time.perf_counter() - begun - scan.seconds["axis"]
        scan.ingest.end()
        for file in scan.files.values():
            file.close()
        del self._scans[message.scan_id]
        self._jobs.put(_Job(scan, angles, self._axis_px))

    def _interpolate_flats(self, scan: _Scan) -> None:
        """Take in the flats that came after the projections, and when all was taken."""
        begun = time.perf_counter()
        after = FrameAverage("flats after the scan")
        for part in self._new_frames(scan, "flats_after"):
            after.add(part)
        number = scan.ingest.num_angles
        at = {
            stream: scan.files[stream].times(scan.taken[stream])
            for stream in ("flats", "projections", "flats_after")
        }
        first, between, last = at.values()
        if first is None or between is None or last is None or len(between) < number:
            # Without a clock: evenly, as the frames came.
            middles, times = (-0.5, number - 0.5), np.arange(number, dtype=np.float64)
        else:
            middles, times = (float(first.mean()), float(last.mean())), between
        scan.ingest.correct_drift(middles[0], [(middles[1], after)], times)
        scan.seconds["normalise"] += time.perf_counter() - begun

    def _fail(self, scan_id: str, stage: str, error: Exception) -> None:
        scan = self._scans.pop(scan_id, None)
        if scan is not None:
            scan.close()
        LOG.debug("scan %s failed", scan_id, exc_info=error)
        self._outbox.put(AnalysisFailed(scan_id, stage, one_line(error)))


class _Analyst:
    """Reconstructs and measures one scan after the other."""

    def __init__(self, outbox: Outbox, settings: AnalysisSettings) -> None:
        self._outbox = outbox
        self._settings = settings
        self._axis_px: float | None = None

    def _jumped(self, axis_px: float, tomogram_file: Path) -> bool:
        """Whether the axis is elsewhere than in the scan before: a sample that moved.

        The axis is fixed in the laboratory; what is found of it moves with the sample
        only if the sample moves while it turns, or the camera is knocked.
        """
        before = self._axis_px
        if before is None:  # a worker that was started anew, or the first scan
            before = earlier_axis_px(tomogram_file)
        limit = self._settings.reconstruction.axis_jump_px
        return before is not None and abs(axis_px - before) > limit

    def work(self, job: _Job) -> None:
        """Reconstruct and measure; report what came of it."""
        stage = ["reconstruct"]
        try:
            self._outbox.put(self._work(job, stage))
        except Exception as error:  # noqa: BLE001 the experiment goes on
            LOG.debug("scan %s failed", job.scan.about.scan_id, exc_info=error)
            reason = one_line(error)
            self._outbox.put(AnalysisFailed(job.scan.about.scan_id, stage[0], reason))
        finally:
            job.scan.close()

    def _work(self, job: _Job, stage: list[str]) -> TomogramMeasured:
        scan, about = job.scan, job.scan.about
        begun = time.perf_counter()
        axis = refined_axis(
            scan.ingest, job.angles_deg, job.axis_px, self._settings.reconstruction
        )
        refined = time.perf_counter()
        scan.seconds["axis"] += refined - begun
        result = reconstruct(
            scan.ingest,
            job.angles_deg,
            axis.column_px,
            about.tomogram_file,
            self._settings.reconstruction,
            pixel_size_um=about.pixel_size_um,
            progress=lambda name, part: self._outbox.put(
                StageProgress(about.scan_id, name, part)
            ),
        )
        if self._settings.reconstruction.interface_phase is None:
            scan.ingest.close()
        reconstructed = time.perf_counter()
        jumped = self._jumped(result.rotation_axis_px, about.tomogram_file)
        self._axis_px = result.rotation_axis_px
        stage[0] = "measure"
        self._outbox.put(StageProgress(about.scan_id, "measure", 0.0))
        from analysis.companion import companion_of
        from analysis.measure import Lithium, measure_tomogram
        from analysis.measurement.reference import Reference

        pristine, previous = earlier_results(about.tomogram_file)
        with Hdf5Volume(result.tomogram_file) as volume:
            measured = measure_tomogram(
                volume,
                self._settings.measurement,
                reference=Reference(pristine_file=pristine, previous_file=previous),
                lithium=Lithium(
                    gross_um3=about.lithium_volume_um3,
                    net_um3=about.lithium_volume_net_um3,
                ),
                pictures_dir=about.preview_dir,
                open_faces=companion_of(
                    scan.ingest,
                    job.angles_deg,
                    axis.column_px,
                    about.tomogram_file,
                    self._settings,
                    about.pixel_size_um,
                ),
            )
        if measured.body is not None:
            measured.write(result_file(about.tomogram_file))
        self._outbox.put(StageProgress(about.scan_id, "measure", 1.0))
        end = time.perf_counter()
        seconds = scan.seconds | result.seconds | {"measure": end - reconstructed}
        row: dict[str, float | int | str | None] = {
            "rotation_axis_px": round(result.rotation_axis_px, 3),
            "rotation_axis_sd_px": _rounded(axis.spread_px),
            "sample_moved": jumped,
            "engine": result.engine,
            "num_projections": result.num_projections,
            "missing_projections": result.num_missing,
            "dead_pixels": result.pixels.dead + result.pixels.hot,
            "clamped_values": result.pixels.clamped,
            "zingers": result.pixels.zingers,
            "seconds": round(end - begun, 3),
        }
        return TomogramMeasured(
            about.scan_id,
            row | measured.row(),
            result.tomogram_file,
            tuple(measured.pictures),
            seconds,
        )


def result_file(tomogram_file: Path) -> Path:
    """Return where the measurement of a tomogram is kept for those that follow."""
    return tomogram_file.with_suffix(RESULT_SUFFIX)


def earlier_results(tomogram_file: Path) -> tuple[Path | None, Path | None]:
    """Return the results of the first tomogram of an experiment and of the last one.

    They are told by their names, which count the scans, so that a worker that was
    started anew finds them too.
    """
    here = result_file(tomogram_file).name
    earlier = sorted(
        file
        for file in tomogram_file.parent.glob(f"*{RESULT_SUFFIX}")
        if file.name < here
    )
    return (earlier[0], earlier[-1]) if earlier else (None, None)


def earlier_axis_px(tomogram_file: Path) -> float | None:
    """Return the axis of the last tomogram before this one, None for the first."""
    earlier = sorted(
        file
        for file in tomogram_file.parent.glob("*.h5")
        # Results and tomograms that were not finished have a second suffix.
        if len(file.suffixes) == 1 and file.name < tomogram_file.name
    )
    if not earlier:
        return None
    try:
        with h5py.File(earlier[-1]) as file:
            found = file[f"{PROCESS}/rotation_axis_px"]
            return float(found[()]) if isinstance(found, h5py.Dataset) else None
    except (OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        LOG.warning("%s: the axis before is not known (%s)", earlier[-1], error)
        return None


def _rounded(value: float) -> float | None:
    return round(value, 3) if np.isfinite(value) else None


def one_line(error: BaseException) -> str:
    """Return what went wrong in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    expected = isinstance(error, DataError | ValueError | MemoryError)
    return text if expected else f"{type(error).__name__}: {text}"
