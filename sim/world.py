"""One world behind all simulated IOCs: the picture follows angle, beam and cell."""

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from sim.cell import CellState, VirtualCell
from sim.clock import Clock
from sim.darkroom import Darkroom, Exposure
from sim.history import History
from sim.instrument import VirtualInstrument
from sim.lattice import takes_minutes
from sim.memory import Memory
from sim.motion import Axis
from sim.position_compare import PositionCompare
from sim.recorded_voltage import RecordedVoltageCell
from sim.settings import SimulationSettings
from sim.source import StorageRing

# Wall time between writings: so much of the cell's life a kill can take.
_MEMORY_PERIOD_S = 0.2
# States that differ by less look alike: rounding of a charge, in half-cycles.
_ALIKE_HALF_CYCLES = 1e-6


@dataclass(frozen=True, eq=False)
class FrozenCell:
    """The cell as it stood when the relay opened.

    Attributes
    ----------
    number : int
        What the darkroom calls it.
    state : CellState
    prepared : concurrent.futures.Future
        Done when it can be imaged.
    """

    number: int
    state: CellState
    prepared: "Future[None]" = field(repr=False)


class World:
    """Clock, stages, beam and cell, joined, and the darkroom that images them.

    All of it belongs to the event loop's thread; computing is the darkroom's.

    Parameters
    ----------
    settings : SimulationSettings
    directory : Path
        Where the darkroom's files go.
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
        # Small cells are prepared within a second of wall time, once, when asked for.
        if takes_minutes(settings.cell, settings.camera.pixel_size_um):
            self.instrument.on_relay_close = self.foresee
        self.darkroom = Darkroom(settings, directory)
        self._schedule_listeners: list[Callable[[], None]] = []
        self._frozen_number = 0
        self._foreseen: FrozenCell | None = None
        self.frozen = self._freeze()

    async def begin(self) -> None:
        """Wait until frames can be drawn: compiled, and the cell prepared."""
        await asyncio.wrap_future(self.darkroom.compiled)
        await asyncio.wrap_future(self.frozen.prepared)

    async def watch(self) -> None:
        """Fail when the darkroom ends unasked: no frame will come any more."""
        await asyncio.wrap_future(self.darkroom.ended)

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
        state, foreseen = self.cell.state(), self._foreseen
        if not self.instrument.relay_closed:
            self._foreseen = None
        if foreseen is not None and _alike(foreseen.state, state):
            return self._prepare(state, self.clock.now(), like=foreseen.number)
        return self._prepare(state, self.clock.now())

    def foresee(self) -> None:
        """Prepare the cell as the running step will leave it, while it runs."""
        left_s, current_ma = self.instrument.step_ahead()
        settings = self.settings
        ahead = VirtualCell.from_memory(
            settings.cell, settings.seed, self.cell.memory()
        )
        ahead.advance(left_s, current_ma)
        self._foreseen = self._prepare(ahead.state(), self.clock.now() + left_s)

    def _prepare(
        self, state: CellState, time_s: float, like: int | None = None
    ) -> FrozenCell:
        self._frozen_number += 1
        number = self._frozen_number
        prepared = self.darkroom.prepare(number, state, time_s, like=like)
        frozen = FrozenCell(number, state, prepared)
        # Prepared, a large cell takes 10 GB of disk.
        weakref.finalize(frozen, self.darkroom.forget, number)
        return frozen

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
            beam_time_s=start_s - self.start_s,
            angle_deg=self.rotation.position_at(middle_s),
            sample_x_mm=self.sample_x.position_at(middle_s),
            sample_y_mm=self.sample_y.position_at(middle_s),
            shutter_open=self.shutter_open.at(middle_s),
            ring_current_ma=self.ring.current_ma_at(middle_s),
        )

    def close(self) -> None:
        """Open the relay, keep the cell and let the darkroom end."""
        self.instrument.close()
        self.memory.write(self._memory_text(), last=True)
        self.darkroom.stop()


def _alike(one: CellState, other: CellState) -> bool:
    """Return whether two states look the same."""
    return (
        abs(one.half_cycles - other.half_cycles) < _ALIKE_HALF_CYCLES
        and one.directions == other.directions
        and one.shorted == other.shorted
        and one.path_complete == other.path_complete
    )
