"""One orchestrator for one experiment: a lock that dies with its holder."""

import fcntl
import os
import platform
from pathlib import Path
from typing import Self

from orchestrator.errors import RefusedError


class ExperimentLock:
    """Held while an orchestrator works on a data folder; a context manager.

    The operating system drops it when the process ends, however it ends.
    """

    def __init__(self, path: Path):
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises
        ------
        RefusedError
            Another orchestrator holds it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise RefusedError(
                f"{self._path.parent}: an orchestrator works on this experiment "
                f"({holder or 'unknown process'}); wait for its end, watch it with "
                f"'insitu-ct watch {self._path.parent}' or stop it with "
                f"'insitu-ct stop {self._path.parent}'"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"pid {os.getpid()} on {platform.node()}\n".encode())
        self._descriptor = descriptor
        return self

    def __exit__(self, *exception: object) -> None:
        """Drop the lock; the file stays, its content names the last holder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock_holder(path: Path) -> int | None:
    """Return the process id of the orchestrator that holds a lock, if one does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.read(descriptor, 200).decode(errors="replace").split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else None
    finally:
        os.close(descriptor)
    return None
