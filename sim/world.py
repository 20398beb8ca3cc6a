"""One world behind all simulated IOCs: the picture follows angle, beam and cell."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sim.cell import CellState
from sim.clock import Clock
from sim.history import History
from sim.instrument import VirtualInstrument
from sim.memory import Memory
from sim.motion import Axis
from sim.position_compare import PositionCompare
from sim.projector import Prepared, Projector
from sim.recorded_voltage import RecordedVoltageCell
from sim.settings import SimulationSettings
from sim.source import StorageRing
from sim.truth import TruthFile

log = logging.getLogger(__name__)

# Wall time between writings: so much of the cell's life a kill can take.
_MEMORY_PERIOD_S = 0.2
# Longest wait at the end for the truth file, shorter than that for the process.
_LAST_RECORD_S = 4.0


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
    angle_deg, sample_x_mm, sample_y_mm : float
        Positions in the middle of the exposure.
    shutter_open : bool
    ring_current_ma : float
    """

    unique_id: int
    frame_index: int
    start_s: float
    exposure_time_s: float
    angle_deg: float
    sample_x_mm: float
    sample_y_mm: float
    shutter_open: bool
    ring_current_ma: float


@dataclass(frozen=True)
class FrozenCell:
    """The cell as it stood when the relay opened, ready to be imaged."""

    state: CellState
    time_s: float
    prepared: "Future[Prepared]" = field(repr=False)


def _log_failure(recorded: "Future[None]") -> None:
    error = recorded.exception()
    if error is not None:
        log.error("truth file: %s", error, exc_info=error)


class World:
    """Clock, stages, beam, cell and projector, joined.

    Everything but `draw` belongs to the event loop's thread. Frames are drawn and
    written by the one thread of `drawing`; the cell is prepared in another.

    Parameters
    ----------
    settings : SimulationSettings
    directory : Path
        Where the truth file goes.
    clock : Clock
    memory : Memory
        Gives the cell as it was left, and keeps it.
    """

    def __init__(
        self,
        settings: SimulationSettings,
        directory: Path,
        clock: Clock,
        memory: Memory,
    ) -> None:
        self.settings = settings
        self.memory = memory
        self.clock = clock
        self.start_s = clock.now()
        self.rotation = Axis()
        self.sample_x = Axis()
        self.sample_y = Axis()
        self.id_gap = Axis(settings.source.id_gap_mm)
        self.ring = StorageRing(settings.source, self.start_s)
        self.shutter_open: History[bool] = History(False)
        self.position_compare = PositionCompare(self.rotation)
        self.cell = memory.cell(settings)
        record = settings.voltage_record
        terminals = RecordedVoltageCell(self.cell, record) if record else self.cell
        self.instrument = VirtualInstrument(terminals, clock.now)
        memory.restore(self.instrument)
        self.instrument.on_relay_open = self.freeze_cell
        self.projector = Projector(
            settings.cell, settings.camera, settings.seed, directory
        )
        self.truth = TruthFile(directory / "truth.h5", self.projector)
        self.drawing = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="preparing")
        self._warmed = self.drawing.submit(self.projector.warm_up)
        self._schedule_listeners: list[Callable[[], None]] = []
        self._recorded: set[str] = set()
        self._recording: Future[None] | None = None
        self.frozen = self._freeze()

    async def begin(self) -> None:
        """Wait until frames can be drawn: compiled, and the cell prepared."""
        await asyncio.wrap_future(self._warmed)
        await asyncio.wrap_future(self.frozen.prepared)

    def on_schedule_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a motion or a trigger is planned anew."""
        self._schedule_listeners.append(listener)

    def schedule_changed(self) -> None:
        """Tell those who planned ahead that the plan is another one now."""
        for listener in self._schedule_listeners:
            listener()

    def freeze_cell(self) -> None:
        """Take the cell as it is now for the frames to come."""
        self.frozen = self._freeze()

    def _freeze(self) -> FrozenCell:
        state = self.cell.state()
        prepared = self._preparing.submit(self.projector.prepare, state)
        return FrozenCell(state, self.clock.now(), prepared)

    def begin_imaging(self) -> None:
        """Freeze the cell anew if current flows: it is not what it was."""
        if self.instrument.relay_closed:
            self.instrument.catch_up()
            self.freeze_cell()

    def remember(self) -> None:
        """Keep the cell as it is now for the next process."""
        self.memory.write(self._memory_text())

    def _memory_text(self) -> str:
        return self.memory.text(self.cell, self.instrument, self.clock.now())

    async def remember_always(self) -> None:
        """Keep the cell several times a second, for ever."""
        while True:
            await asyncio.to_thread(self.memory.write, self._memory_text())
            await asyncio.sleep(_MEMORY_PERIOD_S)

    def exposure(
        self, unique_id: int, frame_index: int, start_s: float, exposure_time_s: float
    ) -> Exposure:
        """Return the world in the middle of an exposure that has ended."""
        middle_s = start_s + 0.5 * exposure_time_s
        return Exposure(
            unique_id=unique_id,
            frame_index=frame_index,
            start_s=start_s,
            exposure_time_s=exposure_time_s,
            angle_deg=self.rotation.position_at(middle_s),
            sample_x_mm=self.sample_x.position_at(middle_s),
            sample_y_mm=self.sample_y.position_at(middle_s),
            shutter_open=self.shutter_open.at(middle_s),
            ring_current_ma=self.ring.current_ma_at(middle_s),
        )

    def draw(
        self, exposure: Exposure, frozen: FrozenCell, file_stem: str
    ) -> np.ndarray:
        """Return the frame of an exposure, uint16 (y, x) (drawing thread only)."""
        # A dark needs no cell: it must not wait for one to be prepared.
        prepared = frozen.prepared.result() if exposure.shutter_open else None
        if prepared is not None and file_stem.endswith("projections"):
            self._record_truth(file_stem, frozen, prepared)
        return self.projector.frame(
            prepared,
            angle_deg=exposure.angle_deg,
            sample_out_mm=exposure.sample_x_mm,
            sample_y_mm=exposure.sample_y_mm,
            shutter_open=exposure.shutter_open,
            ring_current_ma=exposure.ring_current_ma,
            exposure_time_s=exposure.exposure_time_s,
            time_s=exposure.start_s - self.start_s,
            frame_index=exposure.frame_index,
        )

    def _record_truth(
        self, file_stem: str, frozen: FrozenCell, prepared: Prepared
    ) -> None:
        name = file_stem.removesuffix("_projections")
        if name in self._recorded:
            return
        self._recorded.add(name)
        # In the other thread: frames need not wait until volumes are written.
        self._recording = self._preparing.submit(
            self.truth.record, prepared, name=file_stem, time_s=frozen.time_s
        )
        self._recording.add_done_callback(_log_failure)

    def close(self) -> None:
        """Open the relay, finish what is being drawn and let the thread end."""
        self.instrument.close()
        self.remember()
        if self._recording is not None:
            wait([self._recording], timeout=_LAST_RECORD_S)
        self._preparing.shutdown(wait=False, cancel_futures=True)
        self.drawing.shutdown(wait=False, cancel_futures=True)
