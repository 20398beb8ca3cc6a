"""What outlives the simulation's process: cell, instrument and simulated time.

A real cell does not heal when a computer dies, an instrument knows which step it ran
last, and a clock does not go back.
"""

import json
import os
import threading
from pathlib import Path

from sim.cell import VirtualCell
from sim.instrument import VirtualInstrument
from sim.settings import SimulationSettings


class Memory:
    """Cell, instrument and time as last written to a small file.

    Parameters
    ----------
    path : Path
        The file; it need not exist.

    Attributes
    ----------
    struck_faults : list[str]
        Planned faults that have struck: none strikes again after a restart.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # A thread may still write when the last word has been said.
        self._lock = threading.Lock()
        self._closed = False
        self._read = json.loads(path.read_text()) if path.exists() else None
        self.struck_faults: list[str] = (
            [] if self._read is None else list(self._read["struck_faults"])
        )

    @property
    def time_s(self) -> float:
        """Simulated time of the last writing; 0 if there was none."""
        return 0.0 if self._read is None else float(self._read["time_s"])

    def cell(self, settings: SimulationSettings) -> VirtualCell:
        """Return the cell as it was left, or a pristine one."""
        if self._read is None:
            return VirtualCell(settings.cell, settings.seed)
        return VirtualCell.from_memory(settings.cell, settings.seed, self._read["cell"])

    def restore(self, instrument: VirtualInstrument) -> None:
        """Let the instrument know what it did last."""
        if self._read is not None:
            instrument.restore(self._read["instrument"])

    def text(
        self, cell: VirtualCell, instrument: VirtualInstrument, time_s: float
    ) -> str:
        """Return what is to be kept as one line of JSON."""
        return json.dumps(
            {
                "time_s": time_s,
                "cell": cell.memory(),
                "instrument": instrument.memory(),
                "struck_faults": self.struck_faults,
            }
        )

    def write(self, text: str, *, last: bool = False) -> None:
        """Keep what `text` gave; the file is never half written.

        Parameters
        ----------
        text : str
        last : bool
            Whether this is the end: what comes later is older and is not kept.
        """
        part = self._path.with_suffix(".part")
        with self._lock:
            if self._closed:
                return
            self._closed = last
            part.write_text(text)
            os.replace(part, self._path)
