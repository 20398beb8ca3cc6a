"""Prepare a recorded voltage for ``insitu-ct dry-run --voltage-from FILE``."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.voltage_files.reader import read_voltage_file
from analysis.voltage_files.steps import find_steps


@dataclass(frozen=True)
class Rehearsal:
    """A recorded voltage under current, its interruptions cut out.

    Attributes
    ----------
    driven_s : ndarray of float64, shape (n,)
        Time at current, ascending.
    voltage_v : ndarray of float64, shape (n,)
        As a charge shows it: the sign of a discharge is turned.
    duration_s : float
        Time at current in all.
    """

    driven_s: NDArray[np.float64]
    voltage_v: NDArray[np.float64]
    duration_s: float

    def write(self, out: Path) -> None:
        """Write the archive that `sim.recorded_voltage.RecordedVoltageCell` reads."""
        np.savez(out, driven_s=self.driven_s, voltage_v=self.voltage_v)


def read_rehearsal(file: Path) -> Rehearsal:
    """Read what the simulated cell is to show from a potentiostat's file.

    Raises
    ------
    DataError
        The file cannot be read, or no current was driven in it.
    """
    record = read_voltage_file(file)
    times_s: list[np.ndarray] = []
    voltages_v: list[np.ndarray] = []
    end_s = 0.0
    for step in find_steps(record) if record.has_current else ():
        if step.current_ma == 0 or step.stop - step.start < 2:
            continue
        time_s = record.time_s[step.start : step.stop]
        voltage_v = record.voltage_v[step.start : step.stop]
        known = np.isfinite(voltage_v)
        times_s.append(end_s + time_s[known] - time_s[0])
        voltages_v.append(np.sign(step.current_ma) * voltage_v[known])
        end_s += float(time_s[-1] - time_s[0])
    if end_s <= 0:
        raise DataError(
            f"{file}: no current was driven; a rehearsal needs a record under current"
        )
    return Rehearsal(np.concatenate(times_s), np.concatenate(voltages_v), end_s)
