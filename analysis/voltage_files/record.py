"""What every voltage file is turned into."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Control = Literal["galvanostatic", "potentiostatic", "open circuit", "unknown"]


@dataclass(frozen=True)
class VoltageRecord:
    """Voltage and current over time.

    Attributes
    ----------
    time_s : ndarray of float
        Since the test began, or since the Unix epoch.
    voltage_v, current_ma : ndarray of float
        Positive current charges the cell; NaN where nothing was measured.
    step_id, cycle_count : ndarray of int, optional
        As the file numbers them.
    asked_ma : ndarray of float, optional
        The current that the instrument was told to hold, where the file says so.
    control : str
        What the instrument held constant.
    has_current : bool
        False where the file holds a voltage only; `current_ma` is then NaN.
    source : str
        Kind of file, for messages.
    notes : tuple[str, ...]
        What the reader found odd and how it read it.
    """

    time_s: NDArray[np.float64]
    voltage_v: NDArray[np.float64]
    current_ma: NDArray[np.float64]
    step_id: NDArray[np.int64] | None = None
    cycle_count: NDArray[np.int64] | None = None
    asked_ma: NDArray[np.float64] | None = None
    control: Control = "unknown"
    has_current: bool = True
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        lengths = {
            len(column)
            for column in (
                self.time_s,
                self.voltage_v,
                self.current_ma,
                self.step_id,
                self.cycle_count,
                self.asked_ma,
            )
            if column is not None
        }
        if len(lengths) != 1:
            raise ValueError(
                f"columns of a voltage record have lengths {sorted(lengths)}; they "
                "must be equal"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.time_s)
