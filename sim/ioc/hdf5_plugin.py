"""The HDF5 plugin of the simulated camera: file names, capture and its end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from caproto import SkipWrite
from ophyd.areadetector.plugins import HDF5Plugin_V34

from sim.darkroom import Darkroom, Exposure, Written
from sim.ioc.area_detector import area_detector_group

log = logging.getLogger(__name__)

_FIRST_VALUES = {
    "PortName": "FileHDF1",
    "NDArrayPort": "PCO",
    "PluginType": "NDFileHDF5 ver1.10.1",
    "ADCoreVersion": "3.12.1",
    "SWMRSupported": "Supported",
    "AutoSave": "Yes",
    "BlockingCallbacks": "Yes",
    "QueueSize": 20,
    "QueueFree": 20,
    "NumFramesChunks": 1,
    "NumFramesFlush": 1,
    "FileTemplate": "%s%s_%6.6d.h5",
    "FileWriteMode": "Stream",
    "NumCapture": 1,
    "DataType": "UInt16",
}


class Hdf5Plugin:
    """PVs of ``HDF1:`` and the file behind them, which the darkroom writes.

    Parameters
    ----------
    prefix : str
        Prefix of the plugin, ``…HDF1:``.
    darkroom : Darkroom
    shape : tuple[int, int]
        Rows and columns of the camera's frames.
    """

    def __init__(self, prefix: str, darkroom: Darkroom, shape: tuple[int, int]) -> None:
        self.group = area_detector_group(HDF5Plugin_V34, _FIRST_VALUES)(prefix)
        self._shape = shape
        self._darkroom = darkroom
        self._path: Path | None = None
        self._number_captured = 0
        self._error = ""
        self._arrays = 0
        self.on_open: Callable[[str], Awaitable[None]] | None = None
        self.fail_next = ""
        self.disk_full = False
        self.group.channel("Capture").putter = self._put_capture
        self.group.channel("FilePath").putter = self._put_file_path

    @property
    def enabled(self) -> bool:
        """Whether frames reach the plugin."""
        return self.group.value("EnableCallbacks") == "Enable"

    @property
    def file_stem(self) -> str | None:
        """Name, without suffix, of the file being written."""
        return None if self._path is None else self._path.stem

    @property
    def number_captured(self) -> int:
        """Frames of this capture that a reader can see."""
        return self._number_captured

    async def take(self, exposure: Exposure, cell: int) -> None:
        """Have a frame drawn and written; nobody sees one that is not captured."""
        if not self.enabled:
            return
        path = self._path
        if path is not None:
            fault, self.fail_next = self.fail_next, ""
            asked = self._darkroom.expose(
                exposure, cell, fault=fault, disk_full=self.disk_full
            )
            self._see(path, await asyncio.wrap_future(asked))
        self._arrays += 1

    def _see(self, path: Path, written: Written) -> None:
        if self._path is not path:
            return  # closed since, and told so
        self._number_captured = written.captured
        self._error = self._error or written.error
        if not written.is_open:
            self._path = None

    async def show(self) -> None:
        """Post what has happened since the last call (event loop)."""
        group = self.group
        closed = self._path is None
        arrays, captured, error = self._arrays, self._number_captured, self._error
        if arrays:
            rows, columns = self._shape
            await group.post("NDimensions_RBV", 2)
            await group.post("ArraySize0_RBV", columns)
            await group.post("ArraySize1_RBV", rows)
            await group.post("ArrayCounter_RBV", arrays)
        if error:
            await group.post("WriteMessage", error)
            await group.post("WriteStatus", "Write error")
        await group.post("NumCaptured_RBV", captured)
        # A file opened meanwhile must not be reported closed.
        if closed and self._path is None and group.value("Capture_RBV") == "Capture":
            await group.post("SWMRActive_RBV", "Off")
            await group.post("Capture", "Done")
            await group.post("Capture_RBV", "Done")

    async def _put_file_path(self, instance: Any, value: Any) -> str:
        text = _text(value)
        path = text if text.endswith("/") else f"{text}/"
        if self.group.value("CreateDirectory") < 0:
            await asyncio.to_thread(Path(path).mkdir, parents=True, exist_ok=True)
        await self.group.post("FilePathExists_RBV", "Yes" if _is_dir(path) else "No")
        await self.group.post("FilePath_RBV", path)
        return path

    async def _put_capture(self, instance: Any, value: str) -> None:
        if value == "Capture":
            if self._path is None:
                await self._begin()
        else:
            await self._end()
        raise SkipWrite

    async def _end(self) -> None:
        path = self._path
        if path is not None:
            asked = self._darkroom.close_file()
            self._see(path, await asyncio.wrap_future(asked))
        await self.show()

    async def _begin(self) -> None:
        group = self.group
        try:
            path = self._next_path()
            if self.on_open is not None:
                await self.on_open(path.stem)
            await asyncio.wrap_future(
                self._darkroom.open_file(
                    path,
                    swmr=group.value("SWMRMode") == "On",
                    flush_every=int(group.value("NumFramesFlush")),
                    number=int(group.value("NumCapture")),
                )
            )
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            await group.post("WriteMessage", str(error))
            await group.post("WriteStatus", "Write error")
            await group.channel("Capture").write("Done", verify_value=False)
            return
        self._path = path
        self._number_captured = 0
        self._error = ""
        await group.post("NumCaptured_RBV", 0)
        await group.post("FullFileName_RBV", str(path))
        await group.post("WriteMessage", "")
        await group.post("WriteStatus", "Write OK")
        await group.post("SWMRActive_RBV", _active(group.value("SWMRMode") == "On"))
        if group.value("AutoIncrement") == "Yes":
            number = group.value("FileNumber") + 1
            await group.post("FileNumber", number)
            await group.post("FileNumber_RBV", number)
        await group.post("Capture", "Capture")
        await group.post("Capture_RBV", "Capture")

    def _next_path(self) -> Path:
        group = self.group
        if group.value("ArraySize0_RBV") == 0 and group.value("LazyOpen") == "No":
            raise ValueError("no frame has come yet: the plugin does not know its size")
        template = group.value("FileTemplate")
        parts = (group.value("FilePath_RBV"), group.value("FileName_RBV"))
        try:
            name = template % (*parts, group.value("FileNumber_RBV"))
        except TypeError:  # a template without a number
            name = template % parts
        path = Path(name)
        if path.exists():
            raise FileExistsError(f"{path} exists; it is not overwritten")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"{path.parent} does not exist")
        return path


def _active(on: bool) -> str:
    return "Active" if on else "Off"


def _is_dir(path: str) -> bool:
    return Path(path).is_dir()


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return bytes(value).split(b"\0", 1)[0].decode()
