"""What an experiment is made of: tomograms and half-cycles, in order."""

from dataclasses import dataclass

# Scans nobody planned have their steps' indices above this.
EXTRA_STEP_INDEX = 1_000_000


@dataclass(frozen=True)
class TomogramStep:
    """One scan of the cell at open circuit.

    Attributes
    ----------
    index : int
        Place in the experiment, 0 for the pristine scan.
    scan_number : int
        Number in file names, 0 for the pristine scan, one more for each tomogram.
    label : str
        ``"0"`` for the pristine cell, else the label of the half-cycle before it.
    """

    index: int
    scan_number: int
    label: str


@dataclass(frozen=True)
class HalfCycleStep:
    """One galvanostatic half-cycle, or what is left of it after an interruption.

    Attributes
    ----------
    index : int
        Place in the experiment.
    half_cycle : int
        1 for the first charge, 2 for the first discharge, and so on.
    label : str
        ``"1"``, ``"1.5"``, ``"2"`` …: label N is half-cycle 2N-1.
    current_ma : float
        Positive charges the cell, which plates lithium on the anode.
    duration_s : float
        Time still to pass.
    end_frac : float
        Part of the whole half-cycle's charge that has passed at the end of this step.
    """

    index: int
    half_cycle: int
    label: str
    current_ma: float
    duration_s: float
    end_frac: float = 1.0


Step = TomogramStep | HalfCycleStep


def half_cycle_label(half_cycle: int) -> str:
    """Return the paper's label of a half-cycle counted from 1."""
    if half_cycle < 1:
        raise ValueError(f"half_cycle is {half_cycle}; it counts from 1")
    return f"{(half_cycle + 1) / 2:g}"
