"""EC-Lab text exports (.mpt and .txt): a header of known length, then one table."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.errors import DataError
from analysis.voltage_files.record import Control, VoltageRecord

_HEADER_LINES = re.compile(r"Nb header lines\s*:\s*(\d+)")
_TIMES = ("time/s",)
_VOLTAGES = ("Ewe/V", "<Ewe>/V", "Ewe-Ece/V", "Ecell/V")
_CURRENTS = ("I/mA", "<I>/mA", "control/mA")
_FIELD_WIDTH = 20  # of the table of settings in the header
_MA_PER_UNIT = {"A": 1e3, "mA": 1.0, "nA": 1e-6, "pA": 1e-9}
_MICROAMPERE = re.compile(r"[^\sA-Zmnp]A")  # the micro sign in any encoding, or u
_CONTROL: dict[str, Control] = {
    "Chronopotentiometry": "galvanostatic",
    "Galvanostatic Cycling with Potential Limitation": "galvanostatic",
    "Open Circuit Voltage": "open circuit",
    "Chronoamperometry": "potentiostatic",
    "Cyclic Voltammetry": "potentiostatic",
}


def is_eclab(first_line: str) -> bool:
    """Return whether a first line is that of an EC-Lab export."""
    return first_line.strip().upper().startswith("EC-LAB ASCII FILE")


def read_eclab(path: Path, text: str) -> VoltageRecord:
    """Read an EC-Lab text export.

    Raises
    ------
    DataError
        The header does not say how long it is, or a column is missing.
    """
    lines = text.splitlines()
    match = _HEADER_LINES.search("\n".join(lines[:10]))
    if match is None:
        raise DataError(
            f"{path}: no 'Nb header lines' in the first lines; export the file from "
            "EC-Lab as text again"
        )
    count = int(match[1])
    if not 3 <= count < len(lines):
        raise DataError(
            f"{path}: the header is said to have {count} lines of {len(lines)}; the "
            "export is cut short, make it again"
        )
    names = [name.strip() for name in lines[count - 1].split("\t")]
    rows = [line.split("\t") for line in lines[count:] if line.strip()]
    complete = [row for row in rows if len(row) >= len(names) - 1]
    notes = []
    if len(complete) < len(rows):
        notes.append(f"{len(rows) - len(complete)} rows cut short were left out")

    def column(wanted: tuple[str, ...]) -> NDArray[np.float64] | None:
        for name in wanted:
            if name in names:
                place = names.index(name)
                return _numbers(path, name, [row[place] for row in complete])
        return None

    time_s, voltage_v = column(_TIMES), column(_VOLTAGES)
    if time_s is None or voltage_v is None:
        raise DataError(
            f"{path}: no column {_TIMES[0]} and {_VOLTAGES[0]}; the table has "
            f"{', '.join(name for name in names if name)}; export them too"
        )
    current_ma = column(_CURRENTS)
    step = column(("Ns",))
    cycle = column(("cycle number",))
    asked_ma = _asked_ma(lines[:count], step)
    if current_ma is None and asked_ma is not None and np.isfinite(asked_ma).all():
        current_ma = asked_ma
        notes.append("no current was exported; it is taken as the header sets it (Is)")
    technique = next((line.strip() for line in lines[2:6] if line.strip()), "")
    return VoltageRecord(
        time_s=time_s,
        voltage_v=voltage_v,
        current_ma=np.full(len(time_s), np.nan) if current_ma is None else current_ma,
        step_id=None if step is None else step.astype(np.int64),
        cycle_count=None if cycle is None else cycle.astype(np.int64),
        asked_ma=asked_ma,
        control=_CONTROL.get(technique, "unknown"),
        has_current=current_ma is not None,
        source=f"EC-Lab {technique}".strip(),
        notes=tuple(notes),
    )


def _asked_ma(
    header: Sequence[str], step: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Return the current that the header sets for the sequence of each row, if any."""
    settings = {
        line[:_FIELD_WIDTH].strip(): [
            line[at : at + _FIELD_WIDTH].strip()
            for at in range(_FIELD_WIDTH, len(line), _FIELD_WIDTH)
        ]
        for line in header
    }
    if step is None or not np.isfinite(step).all():
        return None
    set_ma: dict[int, float] = {}
    for number, value, unit in zip(
        settings.get("Ns", ()),
        settings.get("Is", ()),
        settings.get("unit Is", ()),
        strict=False,
    ):
        scale = 1e-3 if _MICROAMPERE.fullmatch(unit) else _MA_PER_UNIT.get(unit)
        try:
            current = float(value.replace(",", "."))
        except ValueError:
            continue
        if number.isdecimal() and scale is not None:
            set_ma[int(number)] = current * scale
    if not set(step.astype(int)) <= set(set_ma):
        return None
    return np.array([set_ma[number] for number in step.astype(int)])


def _numbers(path: Path, name: str, texts: list[str]) -> NDArray[np.float64]:
    try:
        return np.array(
            [text.strip().replace(",", ".") or "nan" for text in texts],
            dtype=np.float64,
        )
    except ValueError as error:
        raise DataError(
            f"{path}: column {name} holds something that is no number ({error}); "
            "export the file from EC-Lab as text again"
        ) from error
