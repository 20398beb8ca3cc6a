"""The status of a series of frames: done, lost, late or refused."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from ophyd import Device
from ophyd.status import DeviceStatus

from .errors import DeviceError, FramesLostError, WriterError

SERIES_MARGIN_S = 30.0
# A camera that was giving frames and stays silent this long has stopped.
SILENT_PERIODS = 20
SILENT_MIN_S = 5.0
WATCH_PERIOD_S = 0.5
# A busy IOC may answer late; one that has not answered this long is lost.
LOST_S = 10.0
# The last frame's count may arrive after the news that the file is closed.
CLOSED_GRACE_S = 1.0

logger = logging.getLogger(__name__)


class FramesStatus(DeviceStatus):
    """Done when all frames are written and the file is closed.

    It fails when the writer reports an error or drops a frame, when the file is closed
    too early or frames stop coming, and when the whole takes longer than it should.

    Parameters
    ----------
    camera : Device
        A `devices.camera.Camera`.
    number : int
        Frames asked for.
    timeout_s : float
        Longest time to the last frame; a margin is added.
    frame_period_s : float
        Time from frame to frame.
    write_error : callable
        Returns the writer's message, "" while all is well.
    """

    def __init__(
        self,
        camera: Device,
        *,
        number: int,
        timeout_s: float,
        frame_period_s: float,
        write_error: Callable[[], str],
    ) -> None:
        super().__init__(camera, call_stop_on_failure=False)
        self._hdf: Any = getattr(camera, "hdf")  # noqa: B009 - typed as Device
        self._number = number
        self._deadline_s = time.monotonic() + timeout_s + SERIES_MARGIN_S
        self._silent_s = max(SILENT_MIN_S, SILENT_PERIODS * frame_period_s)
        self._write_error = write_error
        self._began_s = self._last_s = time.monotonic()
        self._captured = 0
        self._reporters: list[Callable[..., None]] = []
        self._changed = threading.Event()
        self._ending = threading.Lock()
        self._over = False
        self._hdf.num_captured.subscribe(self._captured_changed, run=False)
        self._hdf.capture.subscribe(self._capture_changed, run=False)
        self._hdf.dropped_arrays.subscribe(self._dropped_changed, run=False)
        self._hdf.write_status.subscribe(self._write_changed, run=False)
        threading.Thread(
            target=self._watch_silence, daemon=True, name=f"{camera.name} frames"
        ).start()

    def watch(self, func: Callable[..., None]) -> None:
        """Report the number of written frames to `func`."""
        self._reporters.append(func)

    def stopped(self) -> None:
        """End as lost because the camera was told to stop."""
        self._end(
            FramesLostError(
                f"{self.device.name} was stopped after {self._captured} of"
                f" {self._number} frames"
            ),
            stop=False,
        )

    def _captured_changed(self, value: Any = None, **_kwargs: Any) -> None:
        if value is None or self.done:
            return
        captured = int(value)
        if captured > self._captured:
            self._captured = captured
            self._last_s = time.monotonic()
        elif captured < self._captured:
            return
        for report in self._reporters:
            report(
                name=self.device.name,
                current=captured,
                initial=0,
                target=self._number,
                unit="frames",
                precision=0,
                fraction=1 - min(captured / self._number, 1.0),
                time_elapsed=self._last_s - self._began_s,
                time_remaining=None,
            )
        if captured >= self._number:
            self._changed.set()

    def _capture_changed(self, **_kwargs: Any) -> None:
        self._changed.set()

    def _dropped_changed(self, value: Any = None, **_kwargs: Any) -> None:
        if value:
            self._end(
                FramesLostError(
                    f"{self.device.name}'s writer dropped {int(value)} frame(s) after"
                    f" {self._captured} of {self._number}: the disk is too slow or the"
                    " queue too short"
                )
            )

    def _write_changed(self, **_kwargs: Any) -> None:
        # Read the message outside the monitor's thread.
        self._changed.set()

    def _watch_silence(self) -> None:
        closed_s = heard_s = time.monotonic()
        while not self.done:
            self._changed.wait(WATCH_PERIOD_S)
            self._changed.clear()
            if self.done:
                return
            now_s = time.monotonic()
            try:
                error = self._write_error()
                # An update may be lost on its way: ask the IOC itself.
                writing = bool(self._hdf.capture.get(use_monitor=False))
                self._captured_changed(self._hdf.num_captured.get(use_monitor=False))
            except Exception as lost:  # noqa: BLE001 - handed on by the status
                if time.monotonic() - heard_s < LOST_S:
                    logger.info("%s answers late: %s", self.device.name, lost)
                    continue
                self._end(
                    DeviceError(
                        f"{self.device.name}'s IOC was lost after {self._captured} of"
                        f" {self._number} frames ({lost}): restart it, then retake"
                    )
                )
                return
            heard_s = time.monotonic()
            if writing:
                closed_s = now_s
            if self._captured >= self._number and not writing:
                self._end(None)
            elif now_s - closed_s > CLOSED_GRACE_S:
                self._end(
                    FramesLostError(
                        f"{self.device.name}'s file was closed after {self._captured}"
                        f" of {self._number} frames: the camera was stopped"
                    )
                )
            elif error:
                self._end(
                    WriterError(
                        f"{self.device.name}'s writer failed after {self._captured} of"
                        f" {self._number} frames: {error}"
                    )
                )
            elif self._captured and now_s - self._last_s > self._silent_s:
                self._end(
                    FramesLostError(
                        f"{self.device.name} gave {self._captured} of {self._number}"
                        f" frames, then none for {self._silent_s:.0f} s: triggers were"
                        " lost or the camera hangs"
                    )
                )
            elif now_s > self._deadline_s:
                self._end(
                    FramesLostError(
                        f"{self.device.name} gave {self._captured} of {self._number}"
                        f" frames within {now_s - self._began_s:.0f} s: no triggers"
                        " came or the camera hangs"
                    )
                )

    def _end(self, error: Exception | None, *, stop: bool = True) -> None:
        with self._ending:
            if self._over:
                return
            self._over = True
        # Outside the lock: what follows may call stop, which comes back here.
        if error is None:
            self.set_finished()
            return
        if stop:
            logger.warning("%s", error)
            try:
                self.device.stop()  # type: ignore[union-attr] - never without a device
            except Exception as failed:  # noqa: BLE001 - the wait must end all the same
                logger.warning("%s: %s", self.device.name, failed)
        self.set_exception(error)

    def _settled(self) -> None:
        self._hdf.num_captured.clear_sub(self._captured_changed)
        self._hdf.capture.clear_sub(self._capture_changed)
        self._hdf.dropped_arrays.clear_sub(self._dropped_changed)
        self._hdf.write_status.clear_sub(self._write_changed)
        self._changed.set()
        super()._settled()
