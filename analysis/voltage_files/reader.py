"""Open a voltage file of any known kind."""

import gzip
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.voltage_files.bdf import is_bdf, read_bdf
from analysis.voltage_files.dta import read_dta
from analysis.voltage_files.eclab import is_eclab, read_eclab
from analysis.voltage_files.record import VoltageRecord

LARGEST_BYTES = 2_000_000_000
STRAY_ROWS = 3
ABSURD = 1e12  # no time, voltage or current of anyone's cell


def read_voltage_file(path: Path) -> VoltageRecord:
    """Read a Gamry DTA file, an EC-Lab text export or a BDF table, gzipped or not.

    The kind is told by the contents, not by the name.

    Raises
    ------
    DataError
        The file cannot be read, or is of no known kind.
    """
    text = _text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.strip() == "EXPLAIN":
        record = read_dta(path, text)
    elif is_eclab(first):
        record = read_eclab(path, text)
    elif is_bdf(first):
        record = read_bdf(path, text)
    else:
        raise DataError(
            f"{path}: of no known kind, the first line is {first[:60]!r}; known are "
            "Gamry DTA, EC-Lab text (.mpt, .txt) and Battery Data Format CSV"
        )
    if len(record) == 0:
        raise DataError(f"{path}: the table has no rows; nothing to read")
    record = _finite(record)
    if not np.isfinite(record.voltage_v).any():
        raise DataError(f"{path}: no row has a time and a voltage; nothing to read")
    return with_forward_time(record)


def _finite(record: VoltageRecord) -> VoltageRecord:
    """Leave out rows without a time; an absurd reading is none."""
    timed = np.abs(record.time_s) < ABSURD
    notes = record.notes
    if not timed.all():
        notes = (*notes, f"{int((~timed).sum())} rows without a time were left out")

    def kept(column: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if column is None else column[timed]

    def readings(column: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.abs(column[timed]) < ABSURD, column[timed], np.nan)

    return replace(
        record,
        time_s=record.time_s[timed],
        voltage_v=readings(record.voltage_v),
        current_ma=readings(record.current_ma),
        step_id=kept(record.step_id),
        cycle_count=kept(record.cycle_count),
        asked_ma=kept(record.asked_ma),
        notes=notes,
    )


def with_forward_time(record: VoltageRecord) -> VoltageRecord:
    """Return the record with times that never step back, and a note if they did.

    A few rows out of order take the time of the row before; a clock that starts anew
    goes on from there.
    """
    time_s = record.time_s.copy()
    strays = restarts = 0
    row = 1
    while row < len(time_s):
        if not time_s[row] < time_s[row - 1]:
            row += 1
            continue
        ahead = np.flatnonzero(time_s[row : row + STRAY_ROWS + 1] >= time_s[row - 1])
        if len(ahead):
            time_s[row : row + ahead[0]] = time_s[row - 1]
            strays += int(ahead[0])
        else:
            time_s[row:] += time_s[row - 1] - time_s[row]
            restarts += 1
        row += 1
    notes = list(record.notes)
    if strays:
        notes.append(f"{strays} rows with a time out of order took that before them")
    if restarts:
        notes.append(f"the clock starts anew {restarts} times; its times follow on")
    return replace(record, time_s=time_s, notes=tuple(notes))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise DataError(
                f"{path}: {path.stat().st_size / 1e9:.1f} GB is more than the "
                f"{LARGEST_BYTES / 1e9:g} GB that are read at once; split it"
            )
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path") from error
    if b"\x00" in data[:4096]:
        raise DataError(
            f"{path}: a binary file; export it as text (EC-Lab: .mpt) and give that"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
