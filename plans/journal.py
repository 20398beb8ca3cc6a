"""What the plans tell the journal of an experiment."""

from typing import Protocol

from .steps import Step


class StepJournal(Protocol):
    """Write-ahead notes: a step is begun before anything moves, then ends.

    Each call returns only when the note would survive a power cut.
    """

    def begin(self, step: Step, attempt: int) -> None:
        """Note that a step is about to start."""
        ...

    def done(self, step: Step, attempt: int, outcome: dict[str, object]) -> None:
        """Note that a step ended as it should, with what it gave.

        A part of a half-cycle gives ``left_s``, the time of it that is still to pass.
        """
        ...

    def failed(self, step: Step, attempt: int, reason: str) -> None:
        """Note that an attempt failed, in one line that says why."""
        ...

    def decide(self, text: str) -> None:
        """Note a decision: a retake, a wait for the beam, the end."""
        ...
