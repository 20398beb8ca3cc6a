"""Voltage of the cell: ohmic drop, charge transfer, slow polarisation."""

from math import exp, log

from sim.cell_settings import CellSettings


class Polarisation:
    """Two relaxing overpotentials in series with a resistance.

    The resistances grow with cracks and with the contact lost at the interfaces,
    both by the law of the crack volume, and are higher during the first charge.
    """

    def __init__(self, settings: CellSettings) -> None:
        self._settings = settings
        self._transfer_v = 0.0
        self._slow_v = 0.0

    @property
    def overpotentials_v(self) -> tuple[float, float]:
        """The fast and the slow overpotential."""
        return self._transfer_v, self._slow_v

    @overpotentials_v.setter
    def overpotentials_v(self, values_v: tuple[float, float]) -> None:
        self._transfer_v, self._slow_v = values_v

    def advance(self, duration_s: float, current_ma: float, half_cycles: float) -> None:
        """Let both overpotentials relax towards their values at this current."""
        voltage = self._settings.voltage
        volts = current_ma * 1e-3 / self._settings.area_cm2 * self.growth(half_cycles)
        transfer_v = volts * voltage.interface_resistance_ohm_cm2
        slow_v = volts * voltage.polarisation_resistance_ohm_cm2
        keep = exp(-duration_s / voltage.transfer_time_s)
        self._transfer_v = transfer_v + (self._transfer_v - transfer_v) * keep
        keep = exp(-duration_s / voltage.polarisation_time_s)
        self._slow_v = slow_v + (self._slow_v - slow_v) * keep

    def voltage_v(self, current_ma: float, half_cycles: float) -> float:
        """Return the overpotential at a current, positive for a charge."""
        thickness_cm = self._settings.pellet_thickness_mm / 10
        conductivity = self._settings.voltage.conductivity_s_per_m / 100
        ohmic = thickness_cm / conductivity * self.growth(half_cycles)
        ohmic_v = current_ma * 1e-3 / self._settings.area_cm2 * ohmic
        return ohmic_v + self._transfer_v + self._slow_v

    def growth(self, half_cycles: float) -> float:
        """Return the resistances relative to those of the pristine cell."""
        voltage, cracks = self._settings.voltage, self._settings.cracks
        factor = 1.0
        if half_cycles < 1:
            factor += voltage.first_charge_excess * (1 - half_cycles / 2)
        if cracks.enabled:
            fraction = cracks.first_volume_fraction * min(1.0, half_cycles)
            label = max(1.0, (half_cycles + 1) / 2)
            fraction += cracks.volume_growth_fraction * log(label)
            factor += voltage.crack_gain * fraction
        return factor
