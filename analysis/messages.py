"""What the orchestrator and the analysis worker say to each other.

The messages cross a process boundary: frozen, small, made of plain values. Frames
never travel here; the worker reads them from the camera's file as it grows.
"""

from dataclasses import dataclass, field
from pathlib import Path

# --- to the worker -----------------------------------------------------------------


@dataclass(frozen=True)
class ScanStarted:
    """A scan is about to write its files.

    Attributes
    ----------
    scan_id : str
        ``"scan_0007_00"``: number and attempt.
    darks_file, flats_file, projections_file : Path
        The camera's HDF5 files, each with ``entry/data/data`` (frame, y, x) uint16
        and ``entry/instrument/NDAttributes/NDArrayTimeStamp``; SWMR while it grows.
    nominal_angles_deg : tuple[float, float, int]
        Start, step and number of the projections as asked.
    tomogram_file : Path
        Where the reconstructed volume goes.
    preview_dir : Path
        Where preview and result pictures go, as PNG.
    lithium_volume_um3 : float
        Plated volume, cumulative gross over half-cycles, from the measured charge.
    lithium_volume_net_um3 : float
        The same, signed: what stands on the anode in excess of the pristine state.
    flats_after_file : Path, optional
        Flats taken once more after the projections, the stream ``flats_after``.
    """

    scan_id: str
    scan_number: int
    label: str
    attempt: int
    darks_file: Path
    flats_file: Path
    projections_file: Path
    nominal_angles_deg: tuple[float, float, int]
    pixel_size_um: float
    tomogram_file: Path
    preview_dir: Path
    lithium_volume_um3: float = 0.0
    lithium_volume_net_um3: float = 0.0
    flats_after_file: Path | None = None


@dataclass(frozen=True)
class FramesWritten:
    """Frames ``start`` to ``stop`` (exclusive) of a stream can be read."""

    scan_id: str
    stream: str
    start: int
    stop: int


@dataclass(frozen=True)
class ScanFinished:
    """The scan ended; a scan that failed is dropped.

    ``angles_deg`` holds the angle of each projection as recorded.
    """

    scan_id: str
    success: bool
    angles_deg: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Shutdown:
    """Finish what is queued and end."""


ToWorker = ScanStarted | FramesWritten | ScanFinished | Shutdown

# --- from the worker ---------------------------------------------------------------


@dataclass(frozen=True)
class WorkerReady:
    """Compiled and warm."""

    seconds: float


@dataclass(frozen=True)
class StageProgress:
    """How far a stage (normalise, reconstruct, measure …) of a scan has come."""

    scan_id: str
    stage: str
    fraction: float


@dataclass(frozen=True)
class PreviewReady:
    """Orthogonal slices were drawn; ``final`` once all frames are in."""

    scan_id: str
    pictures: tuple[Path, ...]
    final: bool


@dataclass(frozen=True)
class TomogramMeasured:
    """A tomogram stands on disk and is measured.

    Attributes
    ----------
    row : dict
        One row of ``results/measurements.csv``: column name with unit to value;
        None where a quantity could not be measured, the reason under ``"reason"``.
    pictures : tuple[Path, ...]
        Slices and figures for the report.
    seconds : dict
        Wall time per stage.
    """

    scan_id: str
    row: dict[str, float | int | str | None]
    tomogram_file: Path
    pictures: tuple[Path, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AnalysisFailed:
    """A scan could not be reconstructed or measured; the experiment goes on."""

    scan_id: str
    stage: str
    reason: str


FromWorker = (
    WorkerReady | StageProgress | PreviewReady | TomogramMeasured | AnalysisFailed
)
