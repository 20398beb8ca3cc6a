"""A quantity that changes in steps, known at any past simulated time."""

from bisect import bisect_right
from typing import Generic, TypeVar

Value = TypeVar("Value")

_KEPT = 256


class History(Generic[Value]):
    """Values and the simulated times from which they hold.

    Parameters
    ----------
    value : object
        What held before the first change.
    """

    def __init__(self, value: Value) -> None:
        self._times_s: list[float] = []
        self._values: list[Value] = [value]

    @property
    def latest(self) -> Value:
        """The value of the last change."""
        return self._values[-1]

    def set(self, value: Value, at_s: float) -> None:
        """Let `value` hold from `at_s` on; changes come in order of time."""
        if self._times_s and at_s < self._times_s[-1]:
            raise ValueError(
                f"change at {at_s} s comes before the last one, {self._times_s[-1]} s"
            )
        self._times_s.append(at_s)
        self._values.append(value)
        del self._times_s[:-_KEPT], self._values[: -_KEPT - 1]

    def at(self, time_s: float) -> Value:
        """Return the value that held at `time_s`."""
        return self._values[bisect_right(self._times_s, time_s)]
