"""Workers for the tests of the supervisor; imported by name in a spawned process."""

import os
import signal
import threading
from pathlib import Path

from analysis.messages import (
    AnalysisFailed,
    FramesWritten,
    ScanFinished,
    ScanStarted,
    Shutdown,
    TomogramMeasured,
    WorkerReady,
)


def measures(inbox, outbox, settings):
    """Answer each scan with what it was told; die or fail where its label asks."""
    outbox.put(WorkerReady(0.0))
    started, frames = {}, {}
    while not isinstance(message := inbox.get(), Shutdown):
        match message:
            case ScanStarted():
                started[message.scan_id] = message
            case FramesWritten():
                frames.setdefault((message.scan_id, message.stream), []).append(
                    (message.start, message.stop)
                )
            case ScanFinished(success=True):
                scan = started[message.scan_id]
                act(scan, outbox)
                row = {"scan_number": scan.scan_number, "label": scan.label}
                for (name, stream), ranges in frames.items():
                    if name == scan.scan_id:
                        row[stream] = ranges[-1][1]
                        assert ranges[0][0] == 0
                        for before, after in zip(ranges, ranges[1:], strict=False):
                            assert before[1] == after[0]
                row["angles"] = len(message.angles_deg)
                outbox.put(TomogramMeasured(scan.scan_id, row, scan.tomogram_file))


def act(scan, outbox):
    flag = Path(scan.preview_dir) / f"{scan.scan_id}.died"
    if scan.label == "dies once" and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if scan.label == "dies always":
        os._exit(42)
    if scan.label == "fails":
        outbox.put(AnalysisFailed(scan.scan_id, "reconstruct", "no flats"))
    if scan.label == "is slow":
        threading.Event().wait(1.0)


def dies_at_start(inbox, outbox, settings):
    """Never be ready."""
    os._exit(7)
