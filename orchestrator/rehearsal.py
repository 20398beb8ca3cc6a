"""Prepare a recorded voltage for ``insitu-ct dry-run --voltage-from FILE``."""

from pathlib import Path

import numpy as np

from analysis.errors import DataError
from analysis.voltage_files.reader import read_voltage_file
from analysis.voltage_files.steps import find_steps


def write_rehearsal(file: Path, out: Path) -> float:
    """Write what the simulated cell is to show; return its time at current (s).

    Parameters
    ----------
    file : Path
        A potentiostat's file of any known kind, with a current.
    out : Path
        NumPy archive for `sim.recorded_voltage.RecordedVoltageCell`.

    Raises
    ------
    DataError
        No current was driven in the record.
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
    np.savez(
        out, driven_s=np.concatenate(times_s), voltage_v=np.concatenate(voltages_v)
    )
    return end_s
