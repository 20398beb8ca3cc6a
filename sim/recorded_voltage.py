"""A cell that shows a recorded voltage: rehearse an experiment on what once happened.

Geometry, cracks and charge stay those of the virtual cell; only the terminals show the
record, from its first driven sample on, whatever the clock of the recording was.
"""

from pathlib import Path

import numpy as np

from sim.cell import VirtualCell


class RecordedVoltageCell:
    """The virtual cell with the terminal voltage of a record.

    Parameters
    ----------
    cell : VirtualCell
        Ages as ever.
    path : Path
        NumPy archive with ``driven_s``, time at current since the first sample with a
        current, rising, and ``voltage_v``, the voltage times the sign of the current.
    """

    def __init__(self, cell: VirtualCell, path: Path) -> None:
        with np.load(path) as record:
            self._recorded_s = np.asarray(record["driven_s"], dtype=np.float64)
            self._recorded_v = np.asarray(record["voltage_v"], dtype=np.float64)
        if len(self._recorded_s) < 2 or (np.diff(self._recorded_s) < 0).any():
            raise ValueError(
                f"{path}: {len(self._recorded_s)} samples with a current; a rehearsal "
                "needs at least 2, their times rising"
            )
        self._cell = cell
        self._driven_s = 0.0

    @property
    def exhausted(self) -> bool:
        """Whether the record has been played to its end."""
        return self._driven_s > self._recorded_s[-1]

    def advance(self, duration_s: float, current_ma: float, relay_closed: bool) -> None:
        """Let the cell live on; the record plays only while current is driven."""
        self._cell.advance(duration_s, current_ma, relay_closed)
        if relay_closed and current_ma:
            self._driven_s += duration_s

    def measure_voltage_v(self, current_ma: float, relay_closed: bool) -> float:
        """Return the recorded voltage, or the virtual one at open circuit.

        Past its end the record starts again: a rehearsal may be longer.
        """
        if not relay_closed or not current_ma:
            return self._cell.measure_voltage_v(current_ma, relay_closed)
        time_s = self._driven_s % self._recorded_s[-1]
        voltage_v = float(np.interp(time_s, self._recorded_s, self._recorded_v))
        return voltage_v if current_ma > 0 else -voltage_v
