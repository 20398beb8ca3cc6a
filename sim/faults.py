"""The faults that the simulation can inject, and when: plain data and parsing."""

import re
from dataclasses import dataclass

FAULTS: dict[str, str] = {
    "dropped_frame": "the driver loses one frame: a gap in the unique ids",
    "camera_hang": "the camera delivers no more frames until it is stopped",
    "hdf5_write_error": "the file writer refuses the next frame",
    "disk_full": "the file writer meets ENOSPC until cleared",
    "stage_stall": "the rotation stands still and reports that it moves, until stopped",
    "limit_hit": "the rotation runs onto a limit switch and only moves the other way",
    "shutter_stuck_closed": "the shutter does not open",
    "shutter_stuck_open": "the shutter does not close",
    "beam_dump": "the stored beam is lost; it is back after dump_recovery_s",
    "top_up": "current is injected into the ring at once",
    "compliance": "the potentiostat cannot drive the current asked for",
    "wrong_polarity": "the leads are swapped: current and voltage change sign",
    "stale_voltage": "the potentiostat stops delivering samples",
    "open_circuit": "a lead is off: no current flows, the source meets its compliance",
    "short_circuit": "a metallic path shorts the cell: the voltage collapses",
    "soft_short": "a leaky path takes most of the current",
    "ioc_death": "the IOC process dies without a word",
    "worker_death": "the analysis worker is killed",
    "tiled_death": "the Tiled server is stopped",
    "power_cut": "the program that started the simulation is killed",
}
PROGRAM_FAULTS = ("worker_death", "tiled_death", "power_cut")
"""Those that strike the program which started the simulation, not the IOC."""
STRIKE = "strike"
"""First word of the line by which the IOC asks for one of them."""

_WHEN = re.compile(
    r"^(?P<kind>half_cycle|scan):(?P<number>\d+)(?:\+(?P<fraction>0?\.\d+|0|1(?:\.0*)?))?$"
    r"|^t=(?P<seconds>\d+(?:\.\d*)?)$"
)


@dataclass(frozen=True)
class PlannedFault:
    """One fault and the moment at which it strikes.

    Attributes
    ----------
    text : str
        As it was asked for.
    name : str
        Key of `FAULTS`.
    kind : str
        ``"half_cycle"``, ``"scan"`` or ``"t"``.
    number : int
        Which half-cycle (from 1) or scan (from 0).
    fraction : float
        How far into it, 0 to 1.
    seconds : float
        For ``"t"``: simulated seconds after the start.
    """

    text: str
    name: str
    kind: str
    number: int = 0
    fraction: float = 0.0
    seconds: float = 0.0


def parse_fault(text: str) -> PlannedFault:
    """Return the fault asked for as ``NAME@WHEN``.

    WHEN is ``half_cycle:3``, ``scan:2``, either with ``+0.5`` (half through it), or
    ``t=120`` (simulated seconds after the start).
    """
    name, _, when = text.partition("@")
    if name not in FAULTS:
        raise ValueError(
            f"fault {name!r} is unknown; allowed: {', '.join(sorted(FAULTS))}"
        )
    match = _WHEN.match(when)
    if match is None:
        raise ValueError(
            f"fault {text!r} needs a moment: NAME@half_cycle:3, NAME@scan:2, "
            "NAME@scan:2+0.5 or NAME@t=120"
        )
    if match["seconds"] is not None:
        return PlannedFault(text, name, "t", seconds=float(match["seconds"]))
    return PlannedFault(
        text,
        name,
        match["kind"],
        int(match["number"]),
        float(match["fraction"] or 0.0),
    )
