"""Battery Data Format: CSV with one column per quantity, named with its unit.

Columns go by their notation (``voltage_volt``) or label (``Voltage / V``); labels in
other units of the same quantity are converted.

References
----------
Battery Data Alliance, Battery Data Format, https://github.com/battery-data-alliance
"""

import csv
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.voltage_files.record import VoltageRecord

REQUIRED = ("test_time_second", "voltage_volt", "current_ampere")
UNIX_TIME_S = 1e8  # times beyond are no test times: three years

# label (without unit) and its units: name of the column, factor to its unit
_LABELS = {
    "test time": ("test_time_second", {"s": 1.0, "min": 60.0, "h": 3600.0}),
    "voltage": ("voltage_volt", {"v": 1.0, "mv": 1e-3}),
    "current": ("current_ampere", {"a": 1.0, "ma": 1e-3, "ua": 1e-6, "µa": 1e-6}),
    "unix time": ("unix_time_second", {"s": 1.0}),
    "step count": ("step_count", {"1": 1.0, "": 1.0}),
    "step index": ("step_index", {"1": 1.0, "": 1.0}),
    "cycle count": ("cycle_count", {"1": 1.0, "": 1.0}),
}
_NOTATIONS = {notation for notation, _ in _LABELS.values()} | {"step_id"}


def read_bdf(path: Path, text: str) -> VoltageRecord:
    """Read a BDF table.

    Parameters
    ----------
    path : Path
        For messages.
    text : str
        The file's contents.

    Raises
    ------
    DataError
        A required column is missing, or no row holds numbers.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"{path}: the file is empty; a BDF table starts with names")
    rows = list(csv.reader(lines, delimiter=_delimiter(lines[0])))
    columns: dict[str, tuple[int, float]] = {}
    for place, name in enumerate(rows[0]):
        found = _column(name)
        if found is not None:
            columns.setdefault(found[0], (place, found[1]))
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}; the header has "
            f"{', '.join(rows[0])[:200]}; rename or add the columns"
        )
    table = rows[1:]
    notes = []
    complete = [row for row in table if len(row) == len(rows[0])]
    if len(complete) < len(table):
        notes.append(f"{len(table) - len(complete)} rows cut short were left out")
    if not complete:
        raise DataError(f"{path}: no row below the header; nothing to read")

    def column(name: str) -> NDArray[np.float64]:
        place, factor = columns[name]
        return factor * _numbers(path, name, [row[place] for row in complete])

    step_id = None
    for name in ("step_index", "step_count", "step_id"):
        if name in columns:
            step_id = np.nan_to_num(column(name)).astype(np.int64)
            break
    cycles = None
    if "cycle_count" in columns:
        cycles = np.nan_to_num(column("cycle_count")).astype(np.int64)
    return VoltageRecord(
        time_s=column("test_time_second"),
        voltage_v=column("voltage_volt"),
        current_ma=1e3 * column("current_ampere"),
        step_id=step_id,
        cycle_count=cycles,
        source="BDF",
        notes=tuple(notes),
    )


def is_bdf(header: str) -> bool:
    """Return whether a first line names BDF's required columns."""
    names = next(csv.reader([header], delimiter=_delimiter(header)), [])
    found = {column[0] for name in names if (column := _column(name)) is not None}
    return "voltage_volt" in found or len(found & set(REQUIRED)) >= 2


def write_bdf(path: Path, record: VoltageRecord) -> None:
    """Write a record as BDF CSV, whole or not at all.

    Times since the Unix epoch become test times beside ``unix_time_second``.

    Raises
    ------
    DataError
        The record is empty or has no current.
    """
    if len(record) == 0:
        raise DataError(f"{path}: the record is empty; a BDF table needs rows")
    if not record.has_current:
        raise DataError(
            f"{path}: the record has no current, which BDF requires; give it with "
            "--current-ma"
        )
    columns: dict[str, list[str]] = {}
    start_s = float(record.time_s[0]) if record.time_s[0] > UNIX_TIME_S else 0.0
    columns["test_time_second"] = [f"{t - start_s:.6f}" for t in record.time_s]
    columns["voltage_volt"] = [_text(v) for v in record.voltage_v]
    columns["current_ampere"] = [_text(i) for i in record.current_ma * 1e-3]
    if start_s:
        columns["unix_time_second"] = [f"{t:.6f}" for t in record.time_s]
    if record.cycle_count is not None:
        columns["cycle_count"] = [str(int(n)) for n in record.cycle_count]
    if record.step_id is not None:
        columns["step_index"] = [str(int(n)) for n in record.step_id]
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.9g}"


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _column(name: str) -> tuple[str, float] | None:
    name = name.strip().strip("\ufeff")
    if name.lower() in _NOTATIONS:
        return name.lower(), 1.0
    label, _, unit = name.partition(" / ")
    known = _LABELS.get(label.strip().lower())
    if known is None or unit.strip().lower() not in known[1]:
        return None
    return known[0], known[1][unit.strip().lower()]


def _numbers(path: Path, name: str, texts: list[str]) -> NDArray[np.float64]:
    try:
        return np.array([text or "nan" for text in texts], dtype=np.float64)
    except ValueError as error:
        raise DataError(
            f"{path}: column {name} holds something that is no number ({error}); "
            "BDF numbers have a decimal point"
        ) from error
