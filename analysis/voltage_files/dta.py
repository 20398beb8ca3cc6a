"""Gamry DTA files: a header of labelled settings, then one table or several.

Real files come with decimal commas, latin-1, tables cut short, settings between and
after the tables, and voltages under several names; all are read as they stand.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.voltage_files.record import Control, VoltageRecord

VOLTAGES = ("Vf", "Vm", "Vdc", "V", "Vfwd")
CURRENTS = ("Im", "I", "Idc", "Ifwd")
TIMES = ("T", "Time")

_CONTROL: dict[str, Control] = {
    "CHRONOP": "galvanostatic",
    "GALVEIS": "galvanostatic",
    "CHRONOA": "potentiostatic",
    "EISPOT": "potentiostatic",
    "CV": "potentiostatic",
    "SQUARE_WAVE": "potentiostatic",
    "CORPOT": "open circuit",
}
_NUMBER = re.compile(r"^[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?$")


@dataclass
class Table:
    """One table of a file: columns by name, as text."""

    name: str
    declared_rows: int | None
    columns: list[str]
    units: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def numbers(self, *names: str) -> NDArray[np.float64] | None:
        """Return the first of `names` that the table has, as numbers."""
        for name in names:
            if name in self.columns:
                place = self.columns.index(name)
                return np.array([_number(row[place]) for row in self.rows])
        return None


@dataclass
class DtaFile:
    """A file taken apart."""

    settings: dict[str, str]
    tables: list[Table]
    aborted: bool


def parse_dta(path: Path, text: str) -> DtaFile:
    """Take a DTA file apart.

    Raises
    ------
    DataError
        The file does not start as a DTA file.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() != "EXPLAIN":
        raise DataError(
            f"{path}: starts with {lines[0][:40] if lines else ''!r}; a Gamry DTA file "
            "starts with EXPLAIN"
        )
    settings: dict[str, str] = {}
    tables: list[Table] = []
    aborted = False
    place = 1
    while place < len(lines):
        fields = lines[place].split("\t")
        place += 1
        name = fields[0].strip()
        if not name or len(fields) < 2:
            continue
        if fields[1] == "TABLE":
            table, place = _table(name, fields, lines, place)
            if table is not None:
                tables.append(table)
        elif name == "EXPERIMENTABORTED":
            aborted = len(fields) > 2 and fields[2].strip().upper().startswith("T")
        elif len(fields) > 2:
            settings.setdefault(name, fields[2].strip())
        elif fields[1]:
            settings.setdefault(name, fields[1].strip())
    return DtaFile(settings, tables, aborted)


def read_dta(path: Path, text: str) -> VoltageRecord:
    """Read the voltage over time of a DTA file.

    Tables follow each other in time: the open circuit before a scan, the cycles of a
    voltammogram. An impedance table gives its bias voltage and current.

    Raises
    ------
    DataError
        No table holds a voltage over time.
    """
    parsed = parse_dta(path, text)
    tag = parsed.settings.get("TAG", "")
    parts: list[tuple[NDArray[np.float64], ...]] = []
    notes: list[str] = []
    end_s = 0.0
    has_current = False
    for table in parsed.tables:
        time_s = table.numbers(*TIMES)
        voltage_v = table.numbers(*VOLTAGES)
        if time_s is None or voltage_v is None or not len(time_s):
            notes.append(f"table {table.name} holds no voltage over time; left out")
            continue
        current_a = table.numbers(*CURRENTS)
        open_circuit = table.name == "OCVCURVE" or tag == "CORPOT"
        if current_a is None:
            fill = 0.0 if open_circuit else np.nan
            current_a = np.full(len(time_s), fill)
        has_current = has_current or not np.isnan(current_a).all()
        if parts and time_s[0] <= end_s:
            notes.append(f"table {table.name} starts anew; its times follow on")
            time_s = time_s + end_s
        end_s = float(time_s[-1])
        number = np.full(len(time_s), len(parts))
        parts.append((time_s, voltage_v, 1e3 * current_a, number))
        declared = table.declared_rows
        if declared is not None and declared != len(time_s):
            notes.append(
                f"table {table.name} declares {declared} rows and has {len(time_s)}"
            )
    if not parts:
        raise DataError(
            f"{path}: a {tag or 'DTA'} file without a voltage over time; tables are "
            f"{', '.join(table.name for table in parsed.tables) or 'absent'}; export "
            "one with T and Vf"
        )
    if parsed.aborted:
        notes.append("the experiment was aborted at the instrument")
    time_s, voltage_v, current_ma, number = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return VoltageRecord(
        time_s=time_s,
        voltage_v=voltage_v,
        current_ma=current_ma,
        asked_ma=_asked_ma(parsed.settings, time_s) if tag == "CHRONOP" else None,
        step_id=number.astype(np.int64),
        control=_CONTROL.get(tag, "unknown"),
        has_current=has_current,
        source=f"Gamry {tag}".strip(),
        notes=tuple(notes),
    )


def _table(
    name: str, fields: list[str], lines: list[str], place: int
) -> tuple[Table | None, int]:
    """Read the table whose heading was just passed."""
    if place + 1 >= len(lines) or not lines[place].startswith("\t"):
        return None, place
    columns = lines[place].rstrip().split("\t")[1:]
    units = lines[place + 1].rstrip().split("\t")[1:]
    declared = None
    if len(fields) > 2 and fields[2].strip().isdigit():
        declared = int(fields[2])
    table = Table(name, declared, [column.strip() for column in columns], units)
    place += 2
    while place < len(lines) and lines[place].startswith("\t"):
        row = lines[place].rstrip("\r\n").split("\t")[1:]
        if len(row) < len(columns) or not _NUMBER.match(row[0].strip()):
            break
        table.rows.append(row)
        place += 1
    return table, place


def _asked_ma(
    settings: dict[str, str], time_s: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the currents of a two-step chronopotentiometry, if the header has them."""
    first_a, second_a, first_s = (
        _number(settings.get(name, "")) for name in ("ISTEP1", "ISTEP2", "TSTEP1")
    )
    if not np.isfinite([first_a, second_a, first_s]).all():
        return None
    return 1e3 * np.where(time_s <= first_s, first_a, second_a)


def _number(text: str) -> float:
    text = text.strip()
    if not _NUMBER.match(text):
        return float("nan")
    return float(text.replace(",", "."))
