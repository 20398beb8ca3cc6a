"""What the report shows, read from the folder of one experiment.

Every part is read for itself: a file that is missing, torn or damaged leaves its part
empty and adds one line to ``faults``.
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestrator.config import Experiment, load_experiment
from orchestrator.errors import ConfigurationError, InsituError
from orchestrator.journal import Entry, read_entries
from orchestrator.layout import Layout
from orchestrator.record import read_documents

Part = TypeVar("Part")

WIDTHS = "entry/crack_width"
FRAME_TIMES = "entry/instrument/NDAttributes/NDArrayTimeStamp"


@dataclass(frozen=True)
class HalfCycle:
    """Voltage of one half-cycle as it was recorded.

    Attributes
    ----------
    time_s, voltage_v, current_ma : ndarray, shape (samples,)
        Instrument clock, cell voltage and current.
    end_reason : str
        Why the step ended; empty while it runs.
    """

    label: str
    half_cycle: int
    attempt: int
    asked_current_ma: float
    time_s: NDArray[np.float64]
    voltage_v: NDArray[np.float64]
    current_ma: NDArray[np.float64]
    end_reason: str


@dataclass(frozen=True)
class Scan:
    """One attempt at a tomogram.

    Attributes
    ----------
    begin_s, end_s : float
        Start of the first and of the last projection by the camera's clock; NaN where
        its file tells none.
    """

    label: str
    scan_number: int
    attempt: int
    exit_status: str
    begin_s: float
    end_s: float


@dataclass(frozen=True)
class ExperimentData:
    """All that could be read of one experiment.

    Attributes
    ----------
    rows : sequence of mapping
        Rows of ``results/measurements.csv``, numbers as floats, empty cells as None.
    truth : sequence of mapping
        Rows of ``results/truth_comparison.csv``; dry runs only.
    widths : mapping
        Label to bin edges (µm) and crack volume per bin (µm³), states in order.
    experiment : Experiment, optional
        ``experiment.yaml``, where this version of the program can read it.
    faults : sequence of str
        One line for each part that could not be read.
    """

    directory: Path
    experiment_id: str
    simulated: bool
    entries: Sequence[Entry]
    half_cycles: Sequence[HalfCycle]
    scans: Sequence[Scan]
    rows: Sequence[Mapping[str, Any]]
    truth: Sequence[Mapping[str, Any]]
    widths: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    configuration: str
    experiment: Experiment | None = None
    faults: Sequence[str] = field(default_factory=tuple)

    @property
    def layout(self) -> Layout:
        """Where the files lie."""
        return Layout(self.directory)

    @property
    def session(self) -> Mapping[str, Any]:
        """Details of the last session: versions, planned steps."""
        return _last_details(self.entries, "session")

    @property
    def ended(self) -> Entry | None:
        """The entry that ended the experiment, unless a later session resumed it."""
        for entry in reversed(self.entries):
            if entry.kind == "ended":
                return entry
            if entry.kind == "session":
                return None
        return None


def read_experiment(directory: Path) -> ExperimentData:
    """Read the folder of an experiment, running, ended or damaged.

    Raises
    ------
    ConfigurationError
        The folder does not exist or holds no experiment.
    """
    directory = directory.resolve()
    layout = Layout(directory)
    if not directory.is_dir():
        raise ConfigurationError(
            f"{directory}: no such folder; give the data folder of an experiment"
        )
    known = (layout.experiment_file, layout.journal_file, layout.documents_file)
    if not any(path.exists() for path in known):
        raise ConfigurationError(
            f"{directory}: holds no experiment (none of "
            f"{', '.join(path.name for path in known)}); "
            "give the data folder of an experiment"
        )
    faults: list[str] = []
    entries = _part(lambda: read_entries(layout.journal_file), [], faults)
    documents = _part(lambda: _Documents.read(layout.documents_file), None, faults)
    if documents is None:
        documents = _Documents()
    rows = _table(layout.results_dir / "measurements.csv", faults)
    truth = _table(layout.results_dir / "truth_comparison.csv", faults)
    configuration = _part(
        lambda: layout.experiment_file.read_text(encoding="utf-8"), "", faults
    )
    experiment = None
    if configuration:
        experiment = _part(
            lambda: load_experiment(layout.experiment_file), None, faults
        )
    half_cycles = documents.half_cycles()
    scans = [_scan(start, documents.stops.get(uid)) for uid, start in documents.scans()]
    session = _last_details(entries, "session")
    starts = list(documents.starts.values())
    return ExperimentData(
        directory=directory,
        experiment_id=str(
            next((s["experiment_id"] for s in starts if "experiment_id" in s), None)
            or session.get("experiment_id")
            or directory.name
        ),
        simulated=bool(
            session.get("simulated")
            or any(start.get("simulated") for start in starts)
            or layout.simulation_dir.is_dir()
        ),
        entries=entries,
        half_cycles=half_cycles,
        scans=scans,
        rows=rows,
        truth=truth,
        widths=_widths(layout, rows),
        configuration=configuration,
        experiment=experiment,
        faults=tuple(faults),
    )


# --- documents ----------------------------------------------------------------------


@dataclass
class _Documents:
    """Documents of all runs, sorted by run."""

    starts: dict[str, dict[str, Any]] = field(default_factory=dict)
    stops: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, list[tuple[float | None, ...]]] = field(default_factory=dict)
    end_reasons: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "_Documents":
        documents = cls()
        streams: dict[str, tuple[str, str]] = {}
        for name, doc in read_documents(path):
            if name == "start":
                documents.starts[str(doc.get("uid"))] = doc
            elif name == "stop":
                documents.stops[str(doc.get("run_start"))] = doc
            elif name == "descriptor":
                streams[str(doc.get("uid"))] = (
                    str(doc.get("run_start")),
                    str(doc.get("name")),
                )
            elif name in ("event", "event_page"):
                run, stream = streams.get(str(doc.get("descriptor")), ("", ""))
                documents._event(run, stream, doc.get("data") or {})
        return documents

    def _event(self, run: str, stream: str, data: Mapping[str, Any]) -> None:
        if stream == "outcome":
            reason = data.get("potentiostat_end_reason")
            if isinstance(reason, list):
                reason = reason[-1] if reason else ""
            self.end_reasons[run] = str(reason or "")
        elif stream == "electrochemistry":
            columns = [
                _column(data.get(f"potentiostat_{name}"))
                for name in ("time_s", "voltage_v", "current_ma")
            ]
            length = min(len(column) for column in columns)
            samples = self.samples.setdefault(run, [])
            times, voltages, currents = (column[:length] for column in columns)
            samples.extend(zip(times, voltages, currents, strict=True))

    def scans(self) -> list[tuple[str, dict[str, Any]]]:
        return [
            (uid, start)
            for uid, start in self.starts.items()
            if start.get("plan_name") == "tomogram"
        ]

    def half_cycles(self) -> list[HalfCycle]:
        found = []
        for uid, start in self.starts.items():
            if start.get("plan_name") != "half_cycle":
                continue
            samples = np.array(self.samples.get(uid, []), dtype=np.float64)
            samples = samples.reshape(-1, 3)
            samples = samples[np.isfinite(samples).all(axis=1)]
            found.append(
                HalfCycle(
                    label=str(start.get("label", "")),
                    half_cycle=_integer(start.get("half_cycle")),
                    attempt=_integer(start.get("attempt")),
                    asked_current_ma=_number(start.get("current_ma")) or 0.0,
                    time_s=samples[:, 0],
                    voltage_v=samples[:, 1],
                    current_ma=samples[:, 2],
                    end_reason=self.end_reasons.get(uid, ""),
                )
            )
        return found


def _scan(start: Mapping[str, Any], stop: Mapping[str, Any] | None) -> Scan:
    begin_s, end_s = math.nan, math.nan
    raw = (start.get("raw_files") or {}).get("projections")
    if raw:
        begin_s, end_s = _first_and_last_frame_s(Path(str(raw)))
    return Scan(
        label=str(start.get("label", "")),
        scan_number=_integer(start.get("scan_number")),
        attempt=_integer(start.get("attempt")),
        exit_status="" if stop is None else str(stop.get("exit_status", "")),
        begin_s=begin_s,
        end_s=end_s,
    )


def _first_and_last_frame_s(path: Path) -> tuple[float, float]:
    """Return the camera's times of a file, NaN where it cannot be read now.

    The camera may be writing it, or it was moved to an archive: neither is a fault.
    """
    try:
        with h5py.File(path, "r", swmr=True) as file:
            times = file[FRAME_TIMES]
            if not isinstance(times, h5py.Dataset) or times.size == 0:
                return math.nan, math.nan
            return float(times[0]), float(times[-1])
    except (OSError, KeyError):
        return math.nan, math.nan


def _widths(
    layout: Layout, rows: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the crack width distribution of each state that has one."""
    found = {}
    for row in rows:
        tomogram = layout.tomogram_file(_integer(row.get("scan_number")))
        try:
            with h5py.File(tomogram.with_suffix(".measured.h5"), "r") as file:
                edges, volume = file[f"{WIDTHS}/edges_um"], file[f"{WIDTHS}/volume_um3"]
                if isinstance(edges, h5py.Dataset) and isinstance(volume, h5py.Dataset):
                    found[str(row.get("label"))] = (
                        np.asarray(edges, dtype=np.float64),
                        np.asarray(volume, dtype=np.float64),
                    )
        except (OSError, KeyError):
            continue  # not measured, or measured without a crack
    return {
        label: (edges, volume)
        for label, (edges, volume) in found.items()
        if edges.size == volume.size + 1 and volume.sum() > 0
    }


# --- tables and small things --------------------------------------------------------


def _table(path: Path, faults: list[str]) -> list[dict[str, Any]]:
    """Return the rows of a CSV file; a torn row is left out and named."""
    if not path.exists():
        return []  # nothing is measured yet
    rows: list[dict[str, Any]] = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(line for line in file if not line.startswith("#"))
            header = next(reader, [])
            for cells in reader:
                if len(cells) != len(header):
                    faults.append(
                        f"{path.name} line {reader.line_num} has {len(cells)} values"
                        f" for {len(header)} columns; it is left out"
                    )
                    continue
                rows.append(
                    {
                        name: cell if name == "label" else _cell(cell)
                        for name, cell in zip(header, cells, strict=True)
                    }
                )
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        faults.append(f"{path.name} cannot be read: {error}")
    return rows


def _cell(text: str) -> float | int | str | bool | None:
    if text == "" or text in ("None", "nan", "NaN"):
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _part(read: Callable[[], Part], missing: Part, faults: list[str]) -> Part:
    try:
        return read()
    except FileNotFoundError as error:
        faults.append(f"{Path(str(error.filename or error)).name} is missing")
    except (InsituError, OSError, ValueError) as error:
        faults.append(str(error).splitlines()[0])
    return missing


def _last_details(entries: Iterable[Entry], kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {}
    for entry in entries:
        if entry.kind == kind:
            found = entry.details
    return found


def _column(value: Any) -> list[float | None]:
    values = value if isinstance(value, list) else [value]
    return [_number(item) for item in values]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _integer(value: Any) -> int:
    number = _number(value)
    return 0 if number is None or not math.isfinite(number) else int(number)


def finite(row: Mapping[str, Any], name: str) -> float:
    """Return a number of a row, NaN where there is none."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def label_number(label: object) -> float:
    """Return the place of a label on an axis: "1.5" is 1.5, NaN if it is no number."""
    number = _number(label)
    return math.nan if number is None else number


def json_text(value: object) -> str:
    """Return a value as readable JSON for the page."""
    return json.dumps(value, indent=2, sort_keys=True, default=str, ensure_ascii=False)
