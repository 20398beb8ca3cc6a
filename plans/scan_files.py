"""Where the camera writes, as the orchestrator lays it out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


def angles_file(projections_file: Path) -> Path:
    """Return where a PandA writes the angles of the projections, beside them."""
    stem = projections_file.stem.removesuffix("_projections")
    return projections_file.with_name(f"{stem}_angles.h5")


class RawFileNames(Protocol):
    """Names of the camera's files, fixed before a scan starts."""

    def raw_files(self, scan_number: int, attempt: int) -> Mapping[str, Path]:
        """Return absolute paths under ``darks``, ``flats`` and ``projections``."""
        ...
