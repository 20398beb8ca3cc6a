"""A PCO camera and its HDF5 writer as one fly-scan device.

Drives areaDetector's PCO driver (`cam1:`) and NDFileHDF5 plugin (`HDF1:`). The
writer makes a SWMR file; frames never travel through Channel Access, the documents
say which frames of which file exist.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from event_model import StreamRange, compose_stream_resource
from ophyd import Component as Cpt
from ophyd import Device
from ophyd.areadetector.cam import PcoDetectorCam
from ophyd.areadetector.plugins import HDF5Plugin_V34
from ophyd.status import DeviceStatus
from ophyd.status import StatusBase as Status

from .errors import DeviceError, WriterError
from .frames import FramesStatus
from .waiting import AWAY_S, SignalStatus, gone, in_thread, write_settings

SET_TIMEOUT_S = 10.0
OPEN_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 60.0
REREAD_S = 0.5
PRIME_EXPOSURE_S = 0.005
PRIME_TIMEOUT_S = 20.0
# What a reader sees: a frame counts once it is flushed, so flush about this often.
FLUSH_PERIOD_S = 0.5

DATASETS = {
    "image": ("entry/data/data", "<u2"),
    "timestamp": ("entry/instrument/NDAttributes/NDArrayTimeStamp", "<f8"),
    "unique_id": ("entry/instrument/NDAttributes/NDArrayUniqueId", "<i4"),
}
UNITS = {"image": "counts", "timestamp": "s", "unique_id": ""}

Trigger = Literal["Auto", "Ext Only"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameSeries:
    """A number of frames into a file of their own.

    Attributes
    ----------
    file : Path
        Absolute path ending in ``.h5``; must not exist.
    number : int
        Frames to write.
    exposure_time_s, frame_period_s : float
        Of each frame.
    trigger : str
        ``"Auto"`` runs by the camera's clock, ``"Ext Only"`` waits for a trigger
        before each frame.
    duration_s : float
        Longest time from kickoff to the last frame.
    """

    file: Path
    number: int
    exposure_time_s: float
    frame_period_s: float
    trigger: Trigger
    duration_s: float


class Camera(Device):
    """Camera and writer: prepare opens the file, kickoff and complete fill it.

    Nothing is remembered that the IOC can tell; a file that exists is never
    overwritten, and only flushed frames are reported.
    """

    lazy_wait_for_connection = False

    cam = Cpt(
        PcoDetectorCam,
        "cam1:",
        kind="config",
        read_attrs=[],
        configuration_attrs=[
            "acquire_time",
            "acquire_period",
            "trigger_mode",
            "manufacturer",
            "model",
        ],
    )
    hdf = Cpt(HDF5Plugin_V34, "HDF1:", kind="omitted")

    def __init__(self, prefix: str = "", *, name: str, **kwargs: Any) -> None:
        super().__init__(prefix, name=name, **kwargs)
        for part in (self.cam, self.hdf):
            part.lazy_wait_for_connection = False
        self._series: FrameSeries | None = None
        self._shape: tuple[int, int] = (0, 0)
        self._bundles: list[Any] = []
        self._reported = 0
        self._flush = 1
        self._frames: FramesStatus | None = None

    def used_signals(self) -> list[Any]:
        """Return every signal this class touches, the lazy ones made."""
        cam, hdf = self.cam, self.hdf
        return [
            cam.acquire,
            cam.acquire_period,
            cam.acquire_time,
            cam.array_callbacks,
            cam.array_counter,
            cam.detector_state,
            cam.image_mode,
            cam.manufacturer,
            cam.model,
            cam.num_images,
            cam.num_images_counter,
            cam.trigger_mode,
            hdf.auto_increment,
            hdf.auto_save,
            hdf.blocking_callbacks,
            hdf.capture,
            hdf.create_directory,
            hdf.dropped_arrays,
            hdf.enable,
            hdf.file_name,
            hdf.file_path,
            hdf.file_path_exists,
            hdf.file_template,
            hdf.file_write_mode,
            hdf.full_file_name,
            hdf.height,
            hdf.lazy_open,
            hdf.num_capture,
            hdf.num_captured,
            hdf.num_frames_flush,
            hdf.plugin_type,
            hdf.swmr_mode,
            hdf.width,
            hdf.write_message,
            hdf.write_status,
        ]

    # --- staging ------------------------------------------------------------------

    def stage(self) -> Any:
        """Refuse a camera that is busy; see one frame if the writer never has."""
        if self.cam.acquire.get() or self.hdf.capture.get():
            raise DeviceError(
                f"{self.name} is acquiring or writing for somebody else: stop it"
                f" ({self.cam.acquire.setpoint_pvname} and"
                f" {self.hdf.capture.setpoint_pvname} to 0), then go on"
            )
        if self.hdf.width.get() and self.hdf.height.get():
            return _done(self)
        return in_thread(self, self.prime, 2 * PRIME_TIMEOUT_S)

    def unstage(self) -> Any:
        """Stop the camera and close the file; done when it is closed."""
        self.stop()
        self._series = None
        self._bundles = []
        return self.closed()

    def closed(self) -> Status:
        """Return a status that is done when the camera is idle and the file closed."""

        def wait() -> None:
            _wait_for(self.cam.acquire, 0, CLOSE_TIMEOUT_S, f"{self.name} to stop")
            _wait_for(self.hdf.capture, 0, CLOSE_TIMEOUT_S, f"{self.name} to close")

        return in_thread(self, wait, 3 * CLOSE_TIMEOUT_S)

    def prime(self) -> None:
        """Take one frame without writing it, so that the writer knows its size."""
        write_settings(
            self.name,
            [
                (self.hdf.enable, "Enable"),
                (self.cam.array_callbacks, 1),
                (self.cam.image_mode, "Single"),
                (self.cam.trigger_mode, "Auto"),
                (self.cam.acquire_time, PRIME_EXPOSURE_S),
                (self.cam.acquire_period, 2 * PRIME_EXPOSURE_S),
            ],
        )
        seen = threading.Event()

        def sized(value: Any = None, **_kwargs: Any) -> None:
            if value:
                seen.set()

        self.hdf.height.subscribe(sized, run=True)
        try:
            self.cam.acquire.put(1, wait=False)
            if not seen.wait(PRIME_TIMEOUT_S):
                raise DeviceError(
                    f"{self.name} gave no frame to its writer within"
                    f" {PRIME_TIMEOUT_S:g} s: check the camera's power, trigger mode"
                    " and that the writer's NDArrayPort is the camera"
                )
        finally:
            self.hdf.height.clear_sub(sized)
        _wait_for(self.cam.acquire, 0, SET_TIMEOUT_S, f"{self.name} to end its frame")

    # --- a series of frames -------------------------------------------------------

    def prepare(self, value: FrameSeries) -> Status:
        """Set the camera, open the file and start capturing.

        The checks are made before anything is written; the writing itself goes on
        in a thread and the status tells how it went.
        """
        self._check(value)
        return in_thread(self, lambda: self._arm(value), 3 * OPEN_TIMEOUT_S)

    def _check(self, series: FrameSeries) -> None:
        file = series.file
        if not file.is_absolute() or file.suffix != ".h5":
            raise ValueError(
                f"{self.name} was asked to write '{file}'; it needs an absolute path"
                " ending in .h5"
            )
        if file.exists():
            raise FileExistsError(
                f"{self.name} was asked to write {file}, which exists; raw data are"
                " never overwritten: use the next attempt"
            )
        if series.number < 1:
            raise ValueError(f"{self.name} was asked for {series.number} frames")
        if not 0 < series.exposure_time_s <= series.frame_period_s:
            raise ValueError(
                f"{self.name} was asked for an exposure of"
                f" {series.exposure_time_s:g} s every {series.frame_period_s:g} s; the"
                " exposure must be positive and fit into the period"
            )
        if self.cam.acquire.get() or self.hdf.capture.get():
            raise DeviceError(
                f"{self.name} is still acquiring or writing; stop it before a new"
                " series"
            )

    def _arm(self, series: FrameSeries) -> None:
        cam, hdf = self.cam, self.hdf
        flush = max(1, round(FLUSH_PERIOD_S / series.frame_period_s))
        directory = str(series.file.parent) + "/"
        write_settings(
            self.name,
            [
                (cam.array_callbacks, 1),
                (cam.image_mode, "Multiple"),
                (cam.num_images, series.number),
                (cam.trigger_mode, series.trigger),
                (cam.acquire_time, series.exposure_time_s),
                (cam.acquire_period, series.frame_period_s),
                (cam.array_counter, 0),
                (hdf.enable, "Enable"),
                (hdf.blocking_callbacks, "No"),
                (hdf.dropped_arrays, 0),
                (hdf.create_directory, -5),
                (hdf.auto_increment, "No"),
                (hdf.auto_save, "Yes"),
                (hdf.file_write_mode, "Stream"),
                (hdf.lazy_open, "No"),
                (hdf.num_capture, series.number),
                (hdf.num_frames_flush, flush),
                (hdf.swmr_mode, "On"),
                (hdf.file_template, "%s%s"),
                (hdf.file_name, series.file.name),
            ],
        )
        # The IOC looks for the directory when the path is written, so this is last.
        hdf.file_path.set(directory).wait(SET_TIMEOUT_S)
        if not hdf.file_path_exists.get(use_monitor=False):
            raise WriterError(
                f"{self.name}'s IOC cannot see or make {directory}: mount it there or"
                " give it the right to write"
            )
        self._shape = (int(hdf.height.get()), int(hdf.width.get()))
        self._flush = int(hdf.num_frames_flush.get())
        self._bundles = []
        self._reported = 0
        self._series = series
        hdf.capture.put(1, wait=False)
        opened = _wait_for(
            hdf.capture,
            1,
            OPEN_TIMEOUT_S,
            f"{self.name} to open {series.file}",
            give_up=self._write_error,
        )
        written = hdf.full_file_name.get(use_monitor=False)
        if not opened or written != str(series.file):
            raise WriterError(
                f"{self.name} opened '{written}' instead of {series.file}: check the"
                " writer's FileTemplate and FilePath"
            )

    def _write_error(self) -> str:
        status = self.hdf.write_status.get(as_string=True, use_monitor=False)
        if status == "Write OK":
            return ""
        return str(self.hdf.write_message.get(as_string=True)) or status

    def kickoff(self) -> Status:
        """Start the camera; done when it acquires or waits for triggers."""
        if self._series is None:
            raise RuntimeError(f"{self.name} has no series; call prepare first")
        self._frames = FramesStatus(
            self,
            number=self._series.number,
            timeout_s=self._series.duration_s,
            frame_period_s=self._series.frame_period_s,
            write_error=self._write_error,
        )
        started = SignalStatus(
            self,
            self.cam.acquire,
            lambda acquiring: acquiring == 1,
            timeout_s=SET_TIMEOUT_S,
            what="the camera to acquire",
            run=False,
        )
        # A short series may be over before its start is seen.
        self._frames.add_callback(lambda _frames: started.finish())
        self.cam.acquire.put(1, wait=False)
        return started

    def complete(self) -> FramesStatus:
        """Return the status of the series, done when all frames are written."""
        if self._frames is None:
            raise RuntimeError(f"{self.name} is not acquiring; call kickoff first")
        return self._frames

    def stop(self, *, success: bool = False) -> None:
        """Stop the camera and close the file; returns at once, reads nothing."""
        # Each is tried though the one before is gone, and no wait outlasts a stop.
        try:
            self.cam.acquire.put(0, wait=False)
        finally:
            try:
                self.hdf.capture.put(0, wait=False)
            finally:
                if self._frames is not None:
                    self._frames.stopped()

    # --- what was written ---------------------------------------------------------

    def get_index(self) -> int:
        """Return the number of frames a reader of the file can see."""
        try:
            captured = int(self.hdf.num_captured.get(use_monitor=False))
            writing = bool(self.hdf.capture.get(use_monitor=False))
        except TimeoutError as error:
            # A busy IOC answers late: what it has posted is true, if not the newest.
            logger.warning("%s: %s", self.name, error)
            captured, writing = int(self.hdf.num_captured.get()), True
        if writing:
            captured -= captured % self._flush
        return max(captured, self._reported)

    @property
    def num_reported(self) -> int:
        """Frames of the series that the documents announce."""
        return self._reported

    def describe_collect(self) -> dict[str, Any]:
        """Return the data keys of image, timestamp and unique id."""
        if self._series is None:
            raise RuntimeError(f"{self.name} has no series; call prepare first")
        keys: dict[str, Any] = OrderedDict()
        for part, (dataset, dtype_numpy) in DATASETS.items():
            image = part == "image"
            keys[f"{self.name}_{part}"] = {
                "source": f"PV:{self.hdf.full_file_name.pvname} {dataset}",
                "dtype": "array" if image else "number",
                "dtype_numpy": dtype_numpy,
                "shape": list(self._shape) if image else [],
                "units": UNITS[part],
                "external": "STREAM:",
            }
        return keys

    def collect_asset_docs(self, index: int | None = None) -> Iterator[Any]:
        """Yield StreamResource once and StreamDatum for each new flushed range."""
        if self._series is None:
            return
        stop = self.get_index() if index is None else min(index, self.get_index())
        if stop <= self._reported:
            return
        if not self._bundles:
            yield from self._compose_resources(self._series)
        for bundle in self._bundles:
            yield (
                "stream_datum",
                bundle.compose_stream_datum(
                    indices=StreamRange(start=self._reported, stop=stop)
                ),
            )
        self._reported = stop

    def _compose_resources(self, series: FrameSeries) -> Iterator[Any]:
        ny, nx = self._shape
        for part, (dataset, _dtype) in DATASETS.items():
            chunk = (1, ny, nx) if part == "image" else (1024,)
            bundle = compose_stream_resource(
                mimetype="application/x-hdf5",
                uri=f"file://localhost{series.file}",
                data_key=f"{self.name}_{part}",
                parameters={
                    "dataset": dataset,
                    "chunk_shape": chunk,
                    "join_method": "stack",
                    "swmr": True,
                },
            )
            self._bundles.append(bundle)
            yield "stream_resource", bundle.stream_resource_doc


def _done(device: Device) -> Status:
    status = DeviceStatus(device)
    status.set_finished()
    return status


def _wait_for(
    signal: Any,
    wanted: int,
    timeout_s: float,
    what: str,
    give_up: Callable[[], str] | None = None,
) -> bool:
    """Wait until a monitored signal is `wanted`; raise when it will not be."""
    reached = threading.Event()

    def changed(value: Any = None, **_kwargs: Any) -> None:
        if value == wanted:
            reached.set()

    signal.subscribe(changed, run=True)
    try:
        connected_s = time.monotonic()
        deadline_s = connected_s + timeout_s
        while not reached.wait(REREAD_S):
            # An update may be lost on its way: ask the IOC itself.
            try:
                present = signal.get(use_monitor=False)
            except TimeoutError as failed:
                present = f"nothing ({failed})"
            if present == wanted:
                return True
            now_s = time.monotonic()
            if signal.connected:
                connected_s = now_s
            elif now_s - connected_s >= AWAY_S:
                raise gone(signal.root.name, signal, what)
            error = give_up() if give_up is not None else ""
            if error:
                raise WriterError(f"waited for {what}: the writer says '{error}'")
            if now_s >= deadline_s:
                raise DeviceError(
                    f"waited {timeout_s:g} s for {what}; {signal.pvname} reads"
                    f" {present}: check the IOC"
                )
    finally:
        signal.clear_sub(changed)
    return True
