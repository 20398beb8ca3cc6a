"""Time-stamped positions of a moving axis, kept while it is watched.

Where no unit compares positions in hardware, a frame's angle is worked out from the
positions that the motor's IOC posts, each with the time the IOC gave it.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


class EncoderSamples:
    """Positions and times of a monitored signal; `start` begins, `stop` ends.

    Parameters
    ----------
    signal : ophyd signal
        Monitored readback of the axis.
    """

    def __init__(self, signal: Any) -> None:
        self._signal = signal
        self._lock = threading.Lock()
        self._samples: list[tuple[float, float]] = []

    def start(self) -> None:
        """Forget what was kept and keep what comes, the present position first."""
        with self._lock:
            self._samples = []
        self._signal.subscribe(self._changed, run=True)

    def stop(self) -> None:
        """Keep no more; stopping twice does no harm."""
        self._signal.clear_sub(self._changed)

    def _changed(
        self, value: Any = None, timestamp: float | None = None, **_kwargs: Any
    ) -> None:
        if value is None or timestamp is None:
            return
        with self._lock:
            self._samples.append((float(timestamp), float(value)))

    def last_time_s(self) -> float:
        """Return the time stamp of the newest position (s, IOC clock)."""
        with self._lock:
            return self._samples[-1][0] if self._samples else -np.inf

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return times (s, Unix epoch, IOC clock) and positions, as they came."""
        with self._lock:
            kept = np.array(self._samples, dtype=np.float64).reshape(-1, 2)
        return kept[:, 0], kept[:, 1]
