"""What an operator is told when an experiment has ended, however it did."""

import logging
import sys
from pathlib import Path

from orchestrator.outcome import Outcome

_log = logging.getLogger(__name__)


def tell_end(outcome: Outcome, directory: Path, *extra: str) -> int:
    """Print how it ended and where the report lies; return the exit code."""
    from orchestrator.report import write_report

    print(f"{outcome.kind.replace('_', ' ')}: {outcome.reason}")
    if outcome.unmeasured:
        print(
            f"{outcome.unmeasured} tomogram(s) could not be measured; their frames are "
            "safe, the reasons are in the report"
        )
    for line in extra:
        print(line)
    try:
        print(f"report: {write_report(directory)}")
    except Exception as error:  # the report never decides about the experiment
        _log.exception("the report could not be written")
        print(
            f"insitu-ct: the report could not be written ({error}); the data are "
            f"safe: try 'insitu-ct report {directory}' later",
            file=sys.stderr,
        )
    return 0 if outcome.succeeded else 1
