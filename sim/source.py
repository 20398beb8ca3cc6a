"""The storage ring: how much current is stored at any simulated time."""

import math

from sim.history import History
from sim.settings import SourceSettings


class StorageRing:
    """Stored current with decay, top-up, beam dumps and recoveries.

    Parameters
    ----------
    settings : SourceSettings
        Nominal current, lifetime and time between injections.
    start_s : float
        Simulated time of the first injection.
    """

    def __init__(self, settings: SourceSettings, start_s: float) -> None:
        self._settings = settings
        # The last injection by hand and what it filled the ring to.
        self._refill_s = math.inf
        self._fill = History((start_s, settings.ring_current_ma))

    def current_ma_at(self, time_s: float) -> float:
        """Return the stored current at a simulated time."""
        self._refill_if_due(time_s)
        filled_s, current_ma = self._fill.at(time_s)
        since_s = max(time_s - filled_s, 0.0)
        if self._settings.top_up_period_s:
            since_s = math.fmod(since_s, self._settings.top_up_period_s)
        return current_ma * math.exp(-since_s / (3600 * self._settings.lifetime_h))

    def dump(self, at_s: float) -> None:
        """Lose the beam until the ring is filled again, `dump_recovery_s` later."""
        self._fill.set((at_s, 0.0), at_s)
        self._refill_s = at_s + self._settings.dump_recovery_s

    def is_dumped_at(self, time_s: float) -> bool:
        """Return whether there is no beam."""
        self._refill_if_due(time_s)
        return self._fill.at(time_s)[1] == 0

    def _refill_if_due(self, time_s: float) -> None:
        if time_s >= self._refill_s:
            self.fill(self._refill_s)

    def fill(self, at_s: float) -> None:
        """Inject up to the nominal current."""
        self._refill_s = math.inf
        self._fill.set((at_s, self._settings.ring_current_ma), at_s)
