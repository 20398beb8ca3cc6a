"""What is wanted of a running experiment, asked for between steps and at an abort."""

from typing import Protocol


class OperatorWishes(Protocol):
    """Filled by whoever listens to the operator; "" means no wish."""

    def stop_after_tomogram(self) -> str:
        """Return why to stop once the next tomogram is done."""
        ...

    def abort_reason(self) -> str:
        """Return why the running plan was aborted."""
        ...


class Wishes(OperatorWishes, Protocol):
    """The operator's, and what the rules of the experiment ask for."""

    def parts(self) -> int:
        """Return into how many parts a half-cycle is cut, a scan after each."""
        ...


class NoWishes:
    """Nobody listens."""

    def stop_after_tomogram(self) -> str:
        """Return "": go on."""
        return ""

    def abort_reason(self) -> str:
        """Return "": nobody said why."""
        return ""

    def parts(self) -> int:
        """Return 1: a half-cycle is left whole."""
        return 1
