"""What outlives the simulation's process."""

from pathlib import Path

from sim.cell import VirtualCell
from sim.cell_settings import CellSettings
from sim.clock import Clock
from sim.instrument import VirtualInstrument
from sim.memory import Memory


def text_at(memory: Memory, time_s: float) -> str:
    cell = VirtualCell(CellSettings(), seed=1)
    return memory.text(cell, VirtualInstrument(cell, Clock(1.0).now), time_s)


def test_a_thread_that_writes_late_does_not_undo_the_last_word(tmp_path: Path) -> None:
    path = tmp_path / "cell.json"
    memory = Memory(path)
    older = text_at(memory, 1000.0)
    memory.write(older)
    memory.write(text_at(memory, 1001.0), last=True)
    memory.write(older)
    assert Memory(path).time_s == 1001.0
    assert [file.name for file in tmp_path.iterdir()] == ["cell.json"]
