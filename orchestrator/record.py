"""The record: every Bluesky document as a line of JSON, on disk before the next.

A document that cannot be written raises, which ends the run: nothing may happen
unrecorded. After a power cut the last line may be torn; readers leave it out.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.errors import RecordError


class DocumentRecord:
    """Append-only, fsynced file of documents; subscribe it to a RunEngine.

    Parameters
    ----------
    path : Path
        The JSONL file; a file that exists is continued.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        try:
            torn = _ends_torn(path)
            self._file = open(path, "ab", buffering=0)
            if torn:
                self._write(b"\n")
        except OSError as error:
            raise RecordError(f"record {path} cannot be opened: {error}") from error

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        """Write one document.

        Raises
        ------
        RecordError
            The document could not be written.
        """
        try:
            line = json.dumps([name, document], default=_plain) + "\n"
            with self._lock:
                self._write(line.encode())
        except (OSError, ValueError, TypeError) as error:
            raise RecordError(
                f"record {self.path}: a {name} document cannot be written ({error}); "
                "the experiment stops: look at the disk"
            ) from error

    def close(self) -> None:
        """Close the file; further documents fail."""
        with self._lock:
            self._file.close()

    def _write(self, data: bytes) -> None:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[self._file.write(remaining) :]
        os.fsync(self._file.fileno())


def read_documents(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and document of each whole line of a record."""
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                name, document = json.loads(line)
            except (json.JSONDecodeError, ValueError, TypeError):
                continue  # torn by a power cut; what came after it is whole
            if isinstance(name, str) and isinstance(document, dict):
                yield name, document


def _ends_torn(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no place in a document")
