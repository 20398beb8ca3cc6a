"""Print every change of some PVs with its wall time: ``watch_pvs.py PV...``.

A process of its own, because the EPICS environment is read once in a process. It ends
when its standard input closes.
"""

import sys
import time

import epics


def tell(pvname: str = "", char_value: str = "", **_rest: object) -> None:
    print(f"{time.time():.4f}\t{pvname}\t{char_value}", flush=True)


pvs = [epics.PV(name, callback=tell, auto_monitor=True) for name in sys.argv[1:]]
for pv in pvs:
    pv.wait_for_connection(10)
print(f"{time.time():.4f}\tready\t", flush=True)
sys.stdin.read()
