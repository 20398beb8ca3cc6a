"""The virtual cell: charge in, voltage and state out.

It knows nothing of clocks, images or process variables. A positive current charges
the cell, which plates lithium on the anode, the top electrode.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import copysign, floor, log
from typing import Any, Self

import numpy as np

from sim.cell_settings import CellSettings
from sim.voltage import Polarisation

LITHIUM_UM3_PER_C = 6.94 / (96485.33212 * 0.534) * 1e12
"""Volume of lithium plated by one coulomb, by Faraday's law."""

# Less charge than this of a half-cycle does not start its cracks: the rounding of a
# step's end must not nucleate on the wrong side.
STARTED_FRACTION = 0.02


@dataclass(frozen=True)
class CellState:
    """All that a picture of the cell, or its truth, needs.

    Attributes
    ----------
    seed : int
        Seed of the cell.
    half_cycles : float
        Half-cycles passed, gross charge over nominal charge of one.
    directions : tuple[int, ...]
        For each half-cycle begun +1 if it charged (plated on the anode), else -1.
    gross_charge_c, net_charge_c : float
        Charge passed, without and with its sign.
    shorted : bool
        Whether a filled path connects the electrodes at this moment.
    path_complete : bool
        Whether such a path was ever completed.
    time_s : float
        Time the cell has lived.
    crossed_at_s : float or None
        When in that time the first crack crossed the pellet.
    """

    seed: int
    half_cycles: float = 0.0
    directions: tuple[int, ...] = ()
    gross_charge_c: float = 0.0
    net_charge_c: float = 0.0
    shorted: bool = False
    path_complete: bool = False
    time_s: float = 0.0
    crossed_at_s: float | None = None

    @property
    def label(self) -> float:
        """Label N of the state: 1 after the first charge; 0.5 when pristine."""
        return (self.half_cycles + 1) / 2


class VirtualCell:
    """A symmetric lithium cell whose electrolyte cracks as charge passes.

    Parameters
    ----------
    settings : CellSettings
        Geometry, materials and laws.
    seed : int
        Everything random in the cell follows from it.
    """

    def __init__(self, settings: CellSettings, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self._charges_c: list[float] = []
        self._gross_charge_c = 0.0
        self._net_charge_c = 0.0
        self._time_s = 0.0
        self._polarisation = Polarisation(settings)
        self._flicker = np.random.default_rng([seed, 0x50F7])
        self._noise = np.random.default_rng([seed, 0x9015E])
        self._flicker_on = False
        self._flicker_until_s: float | None = None
        self._flicker_fraction = 1.0
        self._path_complete = False
        self._crossed_at_s: float | None = None

    @property
    def gross_charge_c(self) -> float:
        """Charge passed in both directions together."""
        return self._gross_charge_c

    @property
    def net_charge_c(self) -> float:
        """Charge passed, charging positive."""
        return self._net_charge_c

    @property
    def time_s(self) -> float:
        """Time the cell has lived."""
        return self._time_s

    @property
    def half_cycles(self) -> float:
        """Half-cycles passed, by gross charge."""
        return self._gross_charge_c / self.settings.half_cycle_charge_c

    @property
    def shorted(self) -> bool:
        """Whether a filled path connects the electrodes now."""
        short = self.settings.short
        if short.kind == "none":
            return False
        past = self.half_cycles - (short.half_cycle - 1 + short.fraction)
        if past < 0:
            return False
        if short.kind == "hard":
            return True
        return self._flicker_on

    def advance(
        self, duration_s: float, current_ma: float, relay_closed: bool = True
    ) -> None:
        """Let time pass at constant current; an open relay lets no current pass.

        Parameters
        ----------
        duration_s : float
            Time that passes, not negative.
        current_ma : float
            Positive charges the cell. Ignored while the relay is open.
        relay_closed : bool
            Whether the instrument is connected.
        """
        if duration_s < 0:
            raise ValueError(f"duration_s is {duration_s}; time does not run backwards")
        current = current_ma if relay_closed else 0.0
        left_s = duration_s
        while left_s > 0 and current != 0:
            step_s = self._time_to_next_half_cycle_s(left_s, current)
            self._pass_charge(step_s, current)
            left_s -= step_s
        if left_s > 0:
            self._polarisation.advance(left_s, 0.0, self.half_cycles)
            self._time_s += left_s
        self._flicker_to(self._time_s)
        self._path_complete = self._path_complete or self.shorted

    def voltage_v(self, current_ma: float, relay_closed: bool = True) -> float:
        """Return the terminal voltage, without the instrument's noise."""
        current = current_ma if relay_closed else 0.0
        voltage = self._polarisation.voltage_v(current, self.half_cycles)
        if self.shorted:
            if self.settings.short.kind == "soft":
                return voltage * self._flicker_fraction
            return voltage * self.settings.voltage.short_resistance_fraction
        return voltage + self.settings.voltage.rest_v

    def measure_voltage_v(self, current_ma: float, relay_closed: bool = True) -> float:
        """Return one reading of the voltage, with noise."""
        noise_v = self.settings.voltage.noise_v * self._noise.standard_normal()
        return self.voltage_v(current_ma, relay_closed) + noise_v

    def state(self) -> CellState:
        """Return a snapshot of the cell."""
        directions = [int(copysign(1, charge_c)) for charge_c in self._charges_c]
        half_cycles = self.half_cycles
        if directions and half_cycles - (len(directions) - 1) < STARTED_FRACTION:
            directions.pop()
            half_cycles = float(len(directions))
        return CellState(
            seed=self.seed,
            half_cycles=half_cycles,
            directions=tuple(directions),
            gross_charge_c=self._gross_charge_c,
            net_charge_c=self._net_charge_c,
            shorted=self.shorted,
            path_complete=self._path_complete,
            time_s=self._time_s,
            crossed_at_s=self._crossed_at_s,
        )

    def memory(self) -> dict[str, Any]:
        """Return, in plain values for a file, what the cell has lived through."""
        return {
            "charges_c": list(self._charges_c),
            "gross_charge_c": self._gross_charge_c,
            "net_charge_c": self._net_charge_c,
            "time_s": self._time_s,
            "overpotentials_v": list(self._polarisation.overpotentials_v),
            "path_complete": self._path_complete,
            "crossed_at_s": self._crossed_at_s,
            "flicker_on": self._flicker_on,
            "flicker_until_s": self._flicker_until_s,
            "flicker_fraction": self._flicker_fraction,
        }

    @classmethod
    def from_memory(
        cls, settings: CellSettings, seed: int, memory: Mapping[str, Any]
    ) -> Self:
        """Return the cell that `memory` was taken from; its noise starts anew."""
        cell = cls(settings, seed)
        cell._charges_c = [float(charge_c) for charge_c in memory["charges_c"]]
        cell._gross_charge_c = float(memory["gross_charge_c"])
        cell._net_charge_c = float(memory["net_charge_c"])
        cell._time_s = float(memory["time_s"])
        first_v, second_v = memory["overpotentials_v"]
        cell._polarisation.overpotentials_v = (float(first_v), float(second_v))
        cell._path_complete = bool(memory["path_complete"])
        cell._crossed_at_s = memory.get("crossed_at_s")
        cell._flicker_on = bool(memory["flicker_on"])
        cell._flicker_until_s = memory["flicker_until_s"]
        cell._flicker_fraction = float(memory["flicker_fraction"])
        return cell

    def _time_to_next_half_cycle_s(self, most_s: float, current_ma: float) -> float:
        nominal = self.settings.half_cycle_charge_c
        into = self._gross_charge_c - floor(self.half_cycles) * nominal
        left_s = (nominal - into) / (abs(current_ma) * 1e-3)
        # The next boundary may be a rounding error away: always make headway.
        return min(most_s, max(left_s, 1e-9 * nominal / (abs(current_ma) * 1e-3)))

    def _pass_charge(self, duration_s: float, current_ma: float) -> None:
        charge_c = current_ma * 1e-3 * duration_s
        index = floor(self.half_cycles + 1e-9)
        while len(self._charges_c) <= index:
            self._charges_c.append(0.0)
        self._charges_c[index] += charge_c
        self._note_crossing(abs(charge_c), duration_s)
        self._gross_charge_c += abs(charge_c)
        self._net_charge_c += charge_c
        self._time_s += duration_s
        self._polarisation.advance(duration_s, current_ma, self.half_cycles)

    def _note_crossing(self, charge_c: float, duration_s: float) -> None:
        cracks = self.settings.cracks
        if not cracks.enabled or self._crossed_at_s is not None:
            return
        left_c = cracks.first_crossing_fraction * self.settings.half_cycle_charge_c
        left_c -= self._gross_charge_c
        if left_c <= charge_c:
            self._crossed_at_s = self._time_s + duration_s * left_c / charge_c

    def _flicker_to(self, time_s: float) -> None:
        """Switch a soft short on and off until it has recovered."""
        short, rng = self.settings.short, self._flicker
        if short.kind != "soft":
            return
        past = self.half_cycles - (short.half_cycle - 1 + short.fraction)
        if past < 0:
            return
        if past >= short.soft_span_fraction:
            self._flicker_on = False
            return
        if self._flicker_until_s is None:
            self._flicker_until_s = time_s
        while self._flicker_until_s <= time_s:
            self._flicker_on = not self._flicker_on
            lasts_s = short.soft_on_s if self._flicker_on else short.soft_off_s
            self._flicker_until_s += rng.exponential(lasts_s)
            self._flicker_fraction = rng.uniform(*short.soft_voltage_fraction)


def crack_volume_um3(settings: CellSettings, half_cycles: float) -> float:
    """Return the law of the crack volume from the first charge on.

    Parameters
    ----------
    settings : CellSettings
        The cell.
    half_cycles : float
        Half-cycles passed, at least 1: within the first charge the volume follows
        from the first crack's depth instead.
    """
    if half_cycles < 1:
        raise ValueError(f"half_cycles is {half_cycles}; the law begins at 1")
    label = (half_cycles + 1) / 2
    cracks = settings.cracks
    fraction = cracks.first_volume_fraction + cracks.volume_growth_fraction * log(label)
    return fraction * settings.pellet_volume_um3


def crack_width_um(settings: CellSettings, half_cycles: float) -> float:
    """Return the law of the most frequent crack width."""
    cracks = settings.cracks
    label = max(1.0, (half_cycles + 1) / 2)
    grown = log(label) / log(cracks.last_label)
    return cracks.first_width_um + grown * (
        cracks.last_width_um - cracks.first_width_um
    )


def lithium_in_cracks_um3(settings: CellSettings, state: CellState) -> float:
    """Return the volume of lithium that stands in the cracks, by Faraday's law."""
    plated = LITHIUM_UM3_PER_C * state.gross_charge_c
    return settings.lithium_in_cracks_fraction * plated
