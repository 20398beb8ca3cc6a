"""One clock for the whole simulated beamline.

Simulated time starts at the wall time and runs `factor` times faster. The camera may
set a limit that the clock does not pass until frames are drawn and written, so that
motors, camera and cell agree however slowly frames are drawn.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable

# Longest uninterrupted wait on the wall clock: a new factor takes effect within it.
_SLICE_S = 0.2
# Shortest wait worth giving to the event loop.
_SHORTEST_S = 2e-4


class Clock:
    """Simulated seconds since the Unix epoch.

    Parameters
    ----------
    factor : float
        Simulated seconds per second of wall time.
    start_s : float, optional
        Simulated time at which the clock starts; the wall time if not given.
    wall_s : callable
        Monotonic wall time, replaced in tests.
    """

    def __init__(
        self,
        factor: float = 1.0,
        *,
        start_s: float | None = None,
        wall_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._wall_s = wall_s
        self._factor = _checked_factor(factor)
        self._limit_s = math.inf
        self._anchor_s = time.time() if start_s is None else start_s
        self._anchor_wall_s = wall_s()
        self._changed: asyncio.Event | None = None

    def now(self) -> float:
        """Return the simulated time; it never goes back and never passes the limit."""
        with self._lock:
            return self._now()

    def _now(self) -> float:
        wall_s = self._wall_s()
        now_s = self._anchor_s + self._factor * (wall_s - self._anchor_wall_s)
        if now_s >= self._limit_s:
            # Held: go on from the limit, not from where an unheld clock would be.
            now_s = max(self._limit_s, self._anchor_s)
            self._anchor_s, self._anchor_wall_s = now_s, wall_s
        return now_s

    @property
    def factor(self) -> float:
        """Simulated seconds per second of wall time."""
        return self._factor

    @factor.setter
    def factor(self, factor: float) -> None:
        with self._lock:
            self._anchor_s, self._anchor_wall_s = self._now(), self._wall_s()
            self._factor = _checked_factor(factor)
        self._wake()

    @property
    def limit_s(self) -> float:
        """Simulated time at which the clock stands still; infinite when free."""
        return self._limit_s

    def set_limit(self, limit_s: float) -> None:
        """Hold the clock at `limit_s`; a limit in the past holds it where it is."""
        with self._lock:
            if limit_s == self._limit_s:
                return
            self._anchor_s, self._anchor_wall_s = self._now(), self._wall_s()
            raised = limit_s > self._limit_s
            self._limit_s = limit_s
        if raised:
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    async def sleep_until(self, time_s: float) -> None:
        """Wait until the simulated time `time_s` has come (event loop only)."""
        while (left_s := time_s - self.now()) > 0:
            if time_s > self._limit_s:
                if self._changed is None:
                    self._changed = asyncio.Event()
                await self._changed.wait()
            else:
                wall_s = max(left_s / self._factor, _SHORTEST_S)
                await asyncio.sleep(min(wall_s, _SLICE_S))

    async def sleep(self, duration_s: float) -> None:
        """Wait for a simulated duration (event loop only)."""
        await self.sleep_until(self.now() + duration_s)


def _checked_factor(factor: float) -> float:
    if not 0.01 <= factor <= 10_000:
        raise ValueError(f"clock factor is {factor}; allowed 0.01 to 10000")
    return float(factor)
