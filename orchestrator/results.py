"""The tables over all tomograms: ``measurements.csv`` and ``measurements.h5``.

Every change writes a new file beside the old one and takes its place in one move, so a
reader, or a power cut, finds either the old table or the new one, whole.
"""

import csv
import os
import sys
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path

import h5py
import numpy as np

Value = float | int | str | None
Row = Mapping[str, Value]

_FIRST: tuple[str, ...] = ("scan_number", "label", "attempt", "simulated")
_UNITS = {
    "s": "s",
    "c": "C",
    "ma": "mA",
    "v": "V",
    "um": "um",
    "um2": "um2",
    "um3": "um3",
    "px": "px",
    "deg": "deg",
    "ohm": "ohm",
    "frac": "",
}
_UNITS_OF = {"grey_solid": "1/px", "grey_low": "1/px"}


class ResultsTable:
    """One row per scan; a scan that is measured again takes its row's place.

    Parameters
    ----------
    directory : Path
        The ``results`` folder; a table that is there is continued.
    """

    def __init__(self, directory: Path):
        self.csv_file = directory / "measurements.csv"
        self.hdf5_file = directory / "measurements.h5"
        self.rows: list[Row] = read_rows(self.csv_file)

    def add(self, row: Row) -> None:
        """Write the table with this row in it."""
        # Each message of the worker brings the columns' names anew; one copy will do.
        row = {sys.intern(name): value for name, value in row.items()}
        number = str(row["scan_number"])
        kept = [other for other in self.rows if str(other["scan_number"]) != number]
        rows = sorted([*kept, row], key=lambda other: int(other["scan_number"] or 0))
        write_rows(self.csv_file, rows)
        _write_hdf5(self.hdf5_file, rows)
        self.rows = rows


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table: numbers as numbers, empty cells as None.

    A table that does not exist has no rows.
    """
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {
                name: text if name == "label" else _value(text or "")
                for name, text in row.items()
                if name
            }
            for row in csv.DictReader(file)
        ]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV table in one move; columns in the order they first appear."""
    rows = list(rows)
    columns: dict[str, None] = {}
    if rows and "attempt" in rows[0]:
        columns = dict.fromkeys(_FIRST)
    for row in rows:
        columns.update(dict.fromkeys(row))
    text = StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: "" if value is None else value for key, value in row.items()}
        for row in rows
    )
    write_text(path, text.getvalue())


def write_text(path: Path, text: str) -> None:
    """Write a text file in one move, on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _write_hdf5(path: Path, rows: list[Row]) -> None:
    columns = dict.fromkeys(key for row in rows for key in row)
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w") as file:
        file.attrs["NX_class"] = "NXroot"
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        table = entry.create_group("measurements")
        table.attrs["NX_class"] = "NXcollection"
        table.attrs["columns"] = list(columns)
        for name in columns:
            values = [row.get(name) for row in rows]
            if any(isinstance(value, str) for value in values):
                texts = ["" if value is None else str(value) for value in values]
                table.create_dataset(name, data=texts, dtype=h5py.string_dtype())
                continue
            numbers = [np.nan if value is None else float(value) for value in values]
            column = table.create_dataset(name, data=np.array(numbers))
            unit = _UNITS.get(name.rpartition("_")[2], "")
            column.attrs["units"] = _UNITS_OF.get(name, unit)  # "": dimensionless
    partial.replace(path)


def _value(text: str) -> Value:
    if text == "":
        return None
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
