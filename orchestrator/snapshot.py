"""What the screen draws, taken at one moment: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.tiled_copy import CopyStatus
from plans.steps import Step

Level = Literal["info", "good", "decision", "warning", "alarm"]

NOT_CONNECTED = "not connected"


@dataclass(frozen=True)
class Entry:
    """One line of the running log; ``number`` counts from 1 and never repeats."""

    number: int
    time_s: float
    level: Level
    text: str


@dataclass(frozen=True)
class Progress:
    """How far the running scan or half-cycle has come, in its own unit."""

    what: str
    done: float
    total: float
    unit: str

    @property
    def fraction(self) -> float:
        """Share done, 0 to 1; 0 where the total is unknown."""
        if not self.total > 0:
            return 0.0
        return min(max(self.done / self.total, 0.0), 1.0)


@dataclass(frozen=True)
class AnalysisStatus:
    """What the analysis worker has done and still has to do."""

    ready: bool = False
    waiting: int = 0
    lag_s: float = 0.0
    restarts: int = 0
    measured: int = 0
    failed: int = 0
    scan_id: str = ""
    stage: str = ""
    fraction: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """All that the screen draws, taken at one moment."""

    experiment_id: str
    simulated: bool
    now_s: float
    started_s: float
    ended_s: float | None
    step: Step | None
    attempt: int
    step_begun_s: float | None
    position: int
    planned: int
    completed: int
    failures: int
    phase: str
    progress: Progress | None
    step_remaining_s: float | None
    experiment_remaining_s: float | None
    readings: Mapping[str, float | str]
    voltages_v: tuple[float, ...]
    row: Mapping[str, float | int | str | None]
    analysis: AnalysisStatus
    entries: tuple[Entry, ...]
    alarms: tuple[Entry, ...]
    question: str
    copy: CopyStatus | None
    outcome: str | None
    reason: str
