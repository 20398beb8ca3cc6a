"""What went wrong, in one line an operator can act on."""

from typing import Any

from bluesky.utils import FailedStatus


def cause(error: BaseException) -> BaseException:
    """Return the error behind a failed status, else the error itself."""
    if isinstance(error, FailedStatus):
        status: Any = error.args[0] if error.args else None
        # Asking a status that is not done would block.
        inner = status.exception() if getattr(status, "done", False) else None
        return inner or error.__cause__ or error
    return error


def describe(error: BaseException) -> str:
    """Return the cause's message on one line, or its type where it has none."""
    inner = cause(error)
    text = " ".join(str(inner).split()) or type(inner).__name__
    notes = [*getattr(error, "__notes__", ())]
    if inner is not error:
        notes += getattr(inner, "__notes__", ())
    return "; then ".join([text, *notes])
