"""Print every change of some PVs with its wall time: ``watch_pvs.py PV...``.

A process of its own, because the EPICS environment is read once in a process. It ends
when its standard input closes.
"""

import sys
import time

import epics


def tell(pvname: str = "", char_value: str = "", **_rest: object) -> None:
    # In one piece: `print` writes the end of a line apart, and PVs have threads.
    sys.stdout.write(f"{time.time():.4f}\t{pvname}\t{char_value}\n")
    sys.stdout.flush()


pvs = [epics.PV(name, callback=tell, auto_monitor=True) for name in sys.argv[1:]]
for pv in pvs:
    pv.wait_for_connection(10)
tell("ready")
sys.stdin.read()
