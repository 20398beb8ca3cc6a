"""Show on the screen what earlier sessions of an experiment did."""

from collections.abc import Iterable, Sequence

from orchestrator.journal import Entry
from orchestrator.state import ExperimentState
from plans.steps import Step


def show_past(
    entries: Iterable[Entry], steps: Sequence[Step], state: ExperimentState
) -> None:
    """Send the entries of a journal to the screen, at their own times."""
    by_index = {step.index: step for step in steps}
    begun = False
    for entry in entries:
        if entry.kind == "session" and not begun:
            state.identify(
                str(entry.details.get("experiment_id", "")),
                simulated=bool(entry.details.get("simulated")),
                started_s=entry.time_s,
            )
            begun = True
        step = by_index.get(-1 if entry.step_index is None else entry.step_index)
        attempt = entry.attempt or 0
        if entry.kind == "decision":
            state.decide(entry.text, at_s=entry.time_s)
        elif step is None:
            continue
        elif entry.kind == "begin":
            state.begin(step, attempt, at_s=entry.time_s)
        elif entry.kind == "done":
            state.done(step, attempt, entry.details, at_s=entry.time_s)
        elif entry.kind == "failed":
            state.failed(step, attempt, entry.text, at_s=entry.time_s)
