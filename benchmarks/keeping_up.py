"""Measures whether the worker keeps up with the camera while it has work to do.

    python benchmarks/reconstruction.py --keeping-up [--seconds 120]

A writer, a process of its own, writes full frames to a single-writer multiple-reader
HDF5 file at the camera's rate, as its plugin does. The analysis worker, the process of
an experiment, takes them in while it reconstructs and measures an earlier tomogram,
which has fewer rows. That tomogram is processed alone too, to tell the slowdown.
"""

import multiprocessing
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from analysis.messages import (
    AnalysisFailed,
    FramesWritten,
    FromWorker,
    PreviewReady,
    ScanFinished,
    ScanStarted,
    StageProgress,
    TomogramMeasured,
    WorkerReady,
)
from analysis.settings import AnalysisSettings, ReconstructionSettings
from analysis.worker import run_worker

DARK_COUNTS, FLAT_COUNTS = 100, 30100
NUM_DARKS, NUM_FLATS = 5, 10
DISTINCT_FRAMES = 45
"""A paced scan repeats so many, or drawing them would slow what is measured."""

SPARE_BYTES = 4e9
TIMEOUT_S = 3600.0
ATTRIBUTES = "entry/instrument/NDAttributes"


def create_file(path: Path, rows: int, width: int) -> h5py.File:
    """Return a growing file as the camera's plugin opens it."""
    file = h5py.File(path, "w", libver="latest")
    for name, shape, chunk, kind in (
        ("entry/data/data", (rows, width), (1, rows, width), np.uint16),
        (f"{ATTRIBUTES}/NDArrayTimeStamp", (), (1024,), np.float64),
        (f"{ATTRIBUTES}/NDArrayUniqueId", (), (1024,), np.int32),
    ):
        file.create_dataset(
            name, (0, *shape), kind, maxshape=(None, *shape), chunks=chunk
        )
    file.swmr_mode = True
    return file


def append(file: h5py.File, frame: np.ndarray) -> None:
    """Write one frame and let readers see it."""
    images = file["entry/data/data"]
    index = len(images)
    images.resize(index + 1, axis=0)
    images.id.write_direct_chunk((index, 0, 0), frame.tobytes())
    for name, value in (("NDArrayTimeStamp", time.time()), ("NDArrayUniqueId", index)):
        values = file[f"{ATTRIBUTES}/{name}"]
        values.resize(index + 1, axis=0)
        values[index] = value
    file.flush()


def write_scan(
    stem: str,
    sinogram: np.ndarray,
    rows: int,
    num_frames: int,
    frames_per_s: float,
    told: "multiprocessing.Queue[tuple[str, int, float, float]]",
) -> None:
    """Write darks, flats and projections; the target of a spawned process.

    Parameters
    ----------
    stem : str
        What the names of the three files begin with.
    sinogram : ndarray, shape (frame, x), float32
        Attenuation in the last row of each projection; shown over and over where
        more frames are asked for.
    frames_per_s : float
        Rate of the projections; 0 writes them as fast as can be.
    told : queue
        Gets stream, frames written, seconds late and when, for each frame.
    """
    width = sinogram.shape[1]
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.006, (rows, width)).astype(np.float32)
    taper = np.linspace(0.8, 1.0, rows, dtype=np.float32)[:, None]

    def counts(index: int) -> np.ndarray:
        line = sinogram[index % len(sinogram)]
        transmission = np.exp(np.roll(noise, 7 * index, 1) - line * taper)
        signal = (FLAT_COUNTS - DARK_COUNTS) * transmission
        return (DARK_COUNTS + signal).astype(np.uint16)

    for stream, number, level in (
        ("darks", NUM_DARKS, DARK_COUNTS),
        ("flats", NUM_FLATS, FLAT_COUNTS),
    ):
        with create_file(Path(f"{stem}_{stream}.h5"), rows, width) as file:
            for _ in range(number):
                append(file, np.full((rows, width), level, np.uint16))
        told.put((stream, number, 0.0, time.monotonic()))
    drawn = [counts(index) for index in range(len(sinogram))] if frames_per_s else []
    wait = threading.Event()
    with create_file(Path(f"{stem}_projections.h5"), rows, width) as file:
        begun = time.monotonic()
        for index in range(num_frames):
            due = begun
            if frames_per_s:
                due += (index + 1) / frames_per_s
                wait.wait(max(due - time.monotonic(), 0.0))
            append(file, drawn[index % len(drawn)] if drawn else counts(index))
            now = time.monotonic()
            late = now - due if frames_per_s else 0.0
            told.put(("projections", index + 1, late, now))


class Worker:
    """The analysis worker's process and what it has said."""

    def __init__(self, settings: AnalysisSettings) -> None:
        context = multiprocessing.get_context("spawn")
        self.inbox, self._outbox = context.Queue(), context.Queue()
        self.process = context.Process(
            target=run_worker, args=(self.inbox, self._outbox, settings), daemon=True
        )
        self.process.start()
        self.said: list[tuple[float, FromWorker]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            message = self._outbox.get()
            self.said.append((time.monotonic(), message))

    def wait(self, wanted: Callable[[FromWorker], bool]) -> tuple[float, FromWorker]:
        """Return when the first such message came, and the message."""
        deadline = time.monotonic() + TIMEOUT_S
        pause = threading.Event()
        while time.monotonic() < deadline and self.process.is_alive():
            for when, message in list(self.said):
                if wanted(message):
                    return when, message
            pause.wait(0.02)
        raise RuntimeError(f"the worker died or was silent for {TIMEOUT_S:g} s")

    def times(self, scan_id: str, stage: str) -> list[tuple[float, float]]:
        """Return when and how far a stage of a scan was told to be."""
        return [
            (when, message.fraction)
            for when, message in list(self.said)
            if isinstance(message, StageProgress)
            and (message.scan_id, message.stage) == (scan_id, stage)
        ]

    def peak_gib(self) -> float:
        """Return the most memory that the process has held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**20


def announce(worker: Worker, scan_id: str, stem: str, num_frames: int) -> None:
    """Tell the worker of a scan as the orchestrator does."""
    folder = Path(stem).parent
    worker.inbox.put(
        ScanStarted(
            scan_id=scan_id,
            scan_number=1,
            label=scan_id,
            attempt=0,
            darks_file=Path(f"{stem}_darks.h5"),
            flats_file=Path(f"{stem}_flats.h5"),
            projections_file=Path(f"{stem}_projections.h5"),
            nominal_angles_deg=(0.0, 180.0 / num_frames, num_frames),
            pixel_size_um=0.8,
            tomogram_file=folder / scan_id / "tomogram.h5",
            preview_dir=folder / scan_id,
        )
    )


def is_end(scan_id: str) -> Callable[[FromWorker], bool]:
    def wanted(message: FromWorker) -> bool:
        kinds = TomogramMeasured | AnalysisFailed
        return isinstance(message, kinds) and message.scan_id == scan_id

    return wanted


def is_final(scan_id: str) -> Callable[[FromWorker], bool]:
    def wanted(message: FromWorker) -> bool:
        if isinstance(message, AnalysisFailed) and message.scan_id == scan_id:
            raise RuntimeError(f"{scan_id}: {message.stage}: {message.reason}")
        return (
            isinstance(message, PreviewReady)
            and message.scan_id == scan_id
            and message.final
        )

    return wanted


def measure_keeping_up(
    oracle,
    directory: Path,
    *,
    width: int,
    rows: int,
    num_angles: int,
    earlier_rows: int,
    seconds: float,
    frames_per_s: float,
    memory_limit_gib: float,
) -> dict[str, object]:
    num_frames = round(seconds * frames_per_s)
    frame_bytes = 2 * rows * width
    # The earlier scan, its sinograms and its volume; the frames, and their sinograms.
    needed = 2 * num_frames * frame_bytes + SPARE_BYTES
    needed += earlier_rows * width * (4 * num_angles + 2.3 * width)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise SystemExit(
            f"{directory}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed; "
            "give fewer --seconds or --earlier-rows"
        )
    settings = AnalysisSettings(
        reconstruction=ReconstructionSettings(
            output="uint16",
            output_range=(-0.01, 0.03),
            memory_limit_gib=memory_limit_gib,
        )
    )
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    axis_px, scale = width / 2 + 3.3, 2.5 / width

    def sinogram(number: int) -> np.ndarray:
        angles = np.arange(number) * 180.0 / number
        return oracle.phantom_sinogram(width, angles, axis_px, scale=scale)

    def writer(stem: str, number: int, scan_rows: int, frames: int, rate: float):
        arguments = (stem, sinogram(number), scan_rows, frames, rate, told)
        process = context.Process(target=write_scan, args=arguments, daemon=True)
        process.start()
        return process

    earlier, live = str(directory / "earlier"), str(directory / "live")
    worker = Worker(settings)
    worker.wait(lambda message: isinstance(message, WorkerReady))
    process = writer(earlier, num_angles, earlier_rows, num_angles, 0.0)
    written = {stream: stop for stream, stop, _, _ in followed(process, told)}

    def tell_earlier(scan_id: str) -> float:
        announce(worker, scan_id, earlier, num_angles)
        for stream, stop in written.items():
            worker.inbox.put(FramesWritten(scan_id, stream, 0, stop))
        worker.inbox.put(ScanFinished(scan_id, True))
        return worker.wait(is_final(scan_id))[0]

    begun = tell_earlier("alone")
    alone_end, alone = worker.wait(is_end("alone"))
    alone_s = alone_end - begun
    shutil.rmtree(directory / "alone")
    peak_alone_gib = worker.peak_gib()

    busy_begun = tell_earlier("beside")
    for file in directory.glob("earlier_*.h5"):
        file.unlink()
    process = writer(live, DISTINCT_FRAMES, rows, num_frames, frames_per_s)
    announce(worker, "live", live, num_frames)
    frames: list[tuple[float, int]] = []
    latest = 0.0
    for stream, stop, late, when in followed(process, told):
        worker.inbox.put(FramesWritten("live", stream, 0, stop))
        if stream == "projections":
            frames.append((when, stop))
            latest = max(latest, late)
    # Angles as they were shown, which go round and round.
    shown = np.arange(num_frames) % DISTINCT_FRAMES * 180.0 / DISTINCT_FRAMES
    worker.inbox.put(ScanFinished("live", True, tuple(float(a) for a in shown)))
    final, _ = worker.wait(is_final("live"))
    busy_end, beside = worker.wait(is_end("beside"))
    peak_gib = worker.peak_gib()
    worker.process.kill()
    worker.process.join()

    taken = [
        (when, round(part * num_frames))
        for when, part in worker.times("live", "normalise")
    ]
    backlog = backlogs(frames, taken)
    quarter = max(len(backlog) // 4, 1)
    first, last = frames[0][0], frames[-1][0]
    found = {
        "frames_written": num_frames,
        "frames_taken_in": taken[-1][1],
        "rate_asked_per_s": frames_per_s,
        "rate_written_per_s": (num_frames - 1) / (last - first),
        "writer_latest_s": latest,
        "greatest_backlog_frames": max(backlog),
        "mean_backlog_frames_by_quarter": [
            round(float(np.mean(backlog[start : start + quarter])), 2)
            for start in range(0, 4 * quarter, quarter)
        ],
        "last_frame_to_final_preview_s": final - last,
        "earlier_rows": earlier_rows,
        "earlier_was_at_work_for_frac": (min(busy_end, last) - first) / (last - first),
        "earlier_alone_s": alone_s,
        "earlier_beside_s": busy_end - busy_begun,
        "slowdown": (busy_end - busy_begun) / alone_s,
        "worker_peak_alone_gib": peak_alone_gib,
        "worker_peak_gib": peak_gib,
        "memory_limit_gib": memory_limit_gib,
    }
    for name, message in (("alone", alone), ("beside", beside)):
        if isinstance(message, TomogramMeasured):
            found[f"earlier_{name}"] = message.seconds
        elif isinstance(message, AnalysisFailed):
            found[f"earlier_{name}"] = f"{message.stage}: {message.reason}"
    return found


def followed(process, told) -> Iterator[tuple[str, int, float, float]]:
    """Yield what a writer tells until it has ended and all is heard."""
    while True:
        ended = not process.is_alive()
        try:
            yield told.get(timeout=0.5)
        except queue.Empty:
            if ended:
                return


def backlogs(
    written: list[tuple[float, int]], taken: list[tuple[float, int]]
) -> list[int]:
    """Return how many frames were written and not taken in, at each frame written."""
    times = np.array([when for when, _ in taken])
    numbers = np.array([number for _, number in taken])
    found = []
    for when, number in written:
        index = np.searchsorted(times, when, side="right") - 1
        found.append(number - (int(numbers[index]) if index >= 0 else 0))
    return found
