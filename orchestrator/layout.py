"""Where the files of one experiment lie: the only place that knows the names."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.errors import RefusedError

STREAM_FILES = ("darks", "flats", "projections")


@dataclass(frozen=True)
class Layout:
    """The data folder of one experiment.

    Attributes
    ----------
    directory : Path
        Absolute path of the folder.
    """

    directory: Path

    @property
    def experiment_file(self) -> Path:
        """The configuration as it was run."""
        return self.directory / "experiment.yaml"

    @property
    def journal_file(self) -> Path:
        """What was begun and what was done (SQLite)."""
        return self.directory / "journal.sqlite"

    @property
    def documents_file(self) -> Path:
        """Every Bluesky document, one JSON line each."""
        return self.directory / "documents.jsonl"

    @property
    def log_file(self) -> Path:
        """Messages of the program, tracebacks included."""
        return self.directory / "log.txt"

    @property
    def lock_file(self) -> Path:
        """Held by the orchestrator that runs this experiment."""
        return self.directory / "orchestrator.lock"

    @property
    def raw_dir(self) -> Path:
        """The camera's files."""
        return self.directory / "raw"

    @property
    def results_dir(self) -> Path:
        """Tables over all tomograms."""
        return self.directory / "results"

    @property
    def simulation_dir(self) -> Path:
        """The simulated beamline's own files; dry runs only."""
        return self.directory / "simulation"

    @property
    def simulation_file(self) -> Path:
        """The simulated beamline as a dry run began with it."""
        return self.simulation_dir / "settings.json"

    @property
    def voltage_record_file(self) -> Path:
        """The recorded voltage that the simulated cell shows, if it does."""
        return self.simulation_dir / "voltage_record.npz"

    @property
    def report_file(self) -> Path:
        """The page that shows the experiment."""
        return self.directory / "report" / "index.html"

    def raw_files(self, scan_number: int, attempt: int) -> dict[str, Path]:
        """Return the camera's file for each stream of one scan."""
        scan = scan_id(scan_number, attempt)
        return {name: self.raw_dir / f"{scan}_{name}.h5" for name in STREAM_FILES}

    def first_free_attempt(self, scan_number: int, attempt: int) -> int:
        """Return the first attempt from `attempt` on that has no raw file."""
        while any(
            path.exists() for path in self.raw_files(scan_number, attempt).values()
        ):
            attempt += 1
        return attempt

    def scan_file(self, scan_number: int) -> Path:
        """Return the NXtomo file of a scan."""
        return self.directory / "scans" / f"scan_{scan_number:04d}.nxs"

    def tomogram_file(self, scan_number: int) -> Path:
        """Return the file of the reconstructed volume."""
        return self.directory / "tomograms" / f"scan_{scan_number:04d}.h5"

    def preview_dir(self, scan_number: int) -> Path:
        """Return the folder of preview and result pictures."""
        return self.directory / "previews" / f"scan_{scan_number:04d}"

    def electrochemistry_file(
        self, half_cycle: int, attempt: int, part: int = 0
    ) -> Path:
        """Return the voltage file of a half-cycle, one for each part and attempt."""
        name = f"half_cycle_{half_cycle:02d}"
        if part:
            name += f"_part{part + 1}"
        if attempt:
            name += f"_{attempt:02d}"
        return self.directory / "electrochemistry" / f"{name}.bdf.csv"

    def create(self, *, simulated: bool = False) -> None:
        """Make the folders of a new experiment.

        Empty ones are no experiment, nor are a dry run's settings alone: the power may
        have gone while they were made.

        Raises
        ------
        RefusedError
            The folder holds something already; nothing in it was touched.
        """
        if self.directory.exists():
            if not self.directory.is_dir():
                raise RefusedError(
                    f"data folder {self.directory}: a file of that name exists; "
                    "give another folder with --data"
                )
            found = self.directory.rglob("*")
            if any(self._is_content(path, simulated) for path in found):
                raise RefusedError(
                    f"data folder {self.directory} already holds "
                    f"{self._what_is_there()}; nothing was touched: continue it with "
                    f"'insitu-ct resume {self.directory}' or give another folder "
                    "with --data or another experiment.id"
                )
        for folder in (
            self.raw_dir,
            self.directory / "scans",
            self.directory / "electrochemistry",
            self.directory / "tomograms",
            self.directory / "previews",
            self.results_dir,
            self.report_file.parent,
            *([self.simulation_dir] if simulated else []),
        ):
            folder.mkdir(parents=True, exist_ok=True)
        if self.simulation_dir.is_dir() and not simulated:
            self.simulation_dir.rmdir()  # it would make a dry run of this one

    def keep(self, experiment_file: Path) -> None:
        """Copy an experiment's file in one move: from now on it can be resumed."""
        name = self.experiment_file.name
        partial = self.experiment_file.with_name(f"{name}.partial")
        with open(partial, "wb") as file:
            file.write(experiment_file.read_bytes())
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave it empty
        partial.replace(self.experiment_file)

    def set_aside(self) -> Path:
        """Rename the folder of an experiment that was refused before it began."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = self.directory.with_name(f"{self.directory.name}-refused-{stamp}")
        return self.directory.rename(aside)

    def _is_content(self, path: Path, simulated: bool) -> bool:
        """Tell whether a file belongs to an experiment that has begun."""
        if path.is_dir():
            return False
        if path.parent == self.simulation_dir and not simulated:
            return True
        written_first = (self.simulation_file, self.voltage_record_file)
        return path.suffix != ".partial" and path not in written_first

    def _what_is_there(self) -> str:
        if self.journal_file.exists() or self.experiment_file.exists():
            return "an experiment"
        names = sorted(path.name for path in self.directory.iterdir())
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return ", ".join(names[:3]) + more


def scan_id(scan_number: int, attempt: int) -> str:
    """Return the name of one scan: number and attempt."""
    return f"scan_{scan_number:04d}_{attempt:02d}"
