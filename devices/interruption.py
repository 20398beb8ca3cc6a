"""The resistance of a cell, from the step of its voltage as the current is cut."""

import math

LATEST_S = 1.0  # a later voltage at rest says nothing about the ohmic part
REST_SAMPLES = 3


class Interruption:
    """Follow the samples of one step into the rest after it.

    The voltage at rest is extrapolated to the last sample under current by the parabola
    through its first three samples: of what relaxes with a time constant `tau` only
    some ``(period / tau) ** 3`` is taken for ohmic.
    """

    def __init__(self) -> None:
        self._driven: tuple[float, float, float] | None = None
        self._rest: list[tuple[float, float]] = []

    @property
    def resistance_ohm(self) -> float:
        """Voltage step over the last current; 0 where there is none."""
        return self.measured()[0]

    def measured(self) -> tuple[float, str]:
        """Return the voltage step over the last current, or 0 and why there is none."""
        if self._driven is None or len(self._rest) < REST_SAMPLES:
            return 0.0, f"fewer than {REST_SAMPLES} samples after the current was cut"
        cut_s, cut_v, current_ma = self._driven
        times_s = [time_s - cut_s for time_s, _ in self._rest]
        if times_s[-1] > LATEST_S:
            return 0.0, (
                f"{REST_SAMPLES} samples at rest took {times_s[-1]:.3g} s, longer than"
                f" {LATEST_S:g} s"
            )
        if len(set(times_s)) < len(times_s) or not current_ma:
            return 0.0, "two samples at rest bear one time, or no current was measured"
        rest_v = 0.0
        for at_s, voltage_v in zip(times_s, (v for _, v in self._rest), strict=True):
            others = [other for other in times_s if other != at_s]
            rest_v += voltage_v * math.prod(o / (o - at_s) for o in others)
        step_v = cut_v - rest_v
        ohm = step_v / (current_ma * 1e-3)
        if not math.isfinite(ohm) or ohm <= 0:
            return 0.0, (
                f"no step back: the voltage moved by {-step_v * 1e3:.3g} mV as"
                f" {current_ma:.3g} mA were cut"
            )
        return ohm, ""

    def take(
        self, time_s: float, voltage_v: float, current_ma: float, relay_closed: bool
    ) -> bool:
        """Take the next sample; return whether it completes the measurement."""
        if relay_closed:
            self._driven = (time_s, voltage_v, current_ma)
        elif self._driven is not None and len(self._rest) < REST_SAMPLES:
            self._rest.append((time_s, voltage_v))
            return len(self._rest) == REST_SAMPLES
        return False
