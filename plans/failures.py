"""What went wrong, in one line an operator can act on."""

from typing import Any

from bluesky.utils import FailedStatus


def cause(error: BaseException) -> BaseException:
    """Return the error behind a failed status, else the error itself."""
    if isinstance(error, FailedStatus):
        status: Any = error.args[0] if error.args else None
        inner = status.exception() if hasattr(status, "exception") else None
        return inner or error.__cause__ or error
    return error


def describe(error: BaseException) -> str:
    """Return the cause's message on one line, or its type where it has none."""
    inner = cause(error)
    text = " ".join(str(inner).split())
    return text or type(inner).__name__
