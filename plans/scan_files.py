"""Where the camera writes, as the orchestrator lays it out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class RawFileNames(Protocol):
    """Names of the camera's files, fixed before a scan starts."""

    def raw_files(self, scan_number: int, attempt: int) -> Mapping[str, Path]:
        """Return absolute paths under ``darks``, ``flats`` and ``projections``."""
        ...
