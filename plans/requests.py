"""What an operator asks of the RunEngine, as plans see it: not a failure."""

from bluesky.utils import FailedPause, RunEngineControlException

# A pause where nothing may be replayed arrives as FailedPause.
REQUESTS = (RunEngineControlException, FailedPause)
