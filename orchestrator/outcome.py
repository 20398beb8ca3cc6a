"""How an experiment ended, in a word and a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["done", "done_by_rule", "short_circuit", "stopped", "failed"]

_KINDS: Mapping[str, Kind] = {"completed": "done", "short_circuit": "short_circuit"}


@dataclass(frozen=True)
class Outcome:
    """How an experiment ended.

    Attributes
    ----------
    reason : str
        Why, in one line.
    unmeasured : int
        Tomograms whose analysis failed; their frames are safe.
    """

    kind: Kind
    reason: str
    unmeasured: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether it ended as it was meant to."""
        return self.kind in ("done", "done_by_rule", "short_circuit")


def outcome_of(result: Any) -> Outcome:
    """Return the outcome of a `bluesky.run_engine.RunEngineResult`."""
    ended = result.plan_result
    if result.exit_status != "success" or ended is None:
        error = result.exception
        reason = result.reason or (one_line(error) if error else "the plan ended early")
        kind: Kind = "stopped" if result.exit_status == "abort" else "failed"
        return Outcome(kind, reason)
    return Outcome(_KINDS.get(ended.kind, "stopped"), ended.reason)


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
