"""What the operator wants, asked for between steps and when a run is aborted."""

from typing import Protocol


class Wishes(Protocol):
    """Filled by whoever listens to the operator; "" means no wish."""

    def stop_after_tomogram(self) -> str:
        """Return why to stop once the next tomogram is done."""
        ...

    def abort_reason(self) -> str:
        """Return why the running plan was aborted."""
        ...


class NoWishes:
    """Nobody listens."""

    def stop_after_tomogram(self) -> str:
        """Return "": go on."""
        return ""

    def abort_reason(self) -> str:
        """Return "": nobody said why."""
        return ""
