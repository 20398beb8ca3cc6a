"""What a cell's voltage says about its health: pure rules over samples.

No clock, no process variable: samples go in one by one, alarms come out. The guard
feeds it live; `insitu-ct voltage` feeds it a file.

Voltages are judged only while current is driven, so an open circuit, a reversal or
the interruptions of an impedance measurement cannot look like a short. The reasons
for each threshold are in ``docs/short_circuit.md``.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

AlarmKind = Literal[
    "hard_short",
    "soft_short",
    "compliance",
    "open_circuit",
    "wrong_polarity",
    "stale",
]
Action = Literal["stop", "tomogram", "warn"]


class GuardSettings(BaseModel):
    """Thresholds of the voltage guard, and what follows each alarm.

    ``stop`` opens the relay and ends the experiment: after a last tomogram where the
    cell shorted, at once where the wiring or the instrument is at fault. ``tomogram``
    opens the relay, takes a tomogram and goes on with the charge left; ``warn`` only
    records.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hard_short: Action = "stop"
    soft_short: Action = "warn"
    compliance: Action = "stop"
    open_circuit: Action = "stop"
    wrong_polarity: Action = "stop"
    stale: Literal["stop"] = "stop"

    collapse_v: float = Field(
        default=2e-3, gt=0, le=1, description="a voltage below this is about 0 (V)"
    )
    collapse_frac: float = Field(
        default=0.1,
        gt=0,
        le=0.5,
        description="so is one below this part of the healthy polarisation",
    )
    persistence_s: float = Field(
        default=0.01,
        ge=0,
        le=60,
        description="a hard short stays at least this long (s)",
    )
    drop_frac: float = Field(
        default=0.12,
        gt=0,
        lt=1,
        description="sudden loss of this part of the polarisation is a soft short",
    )
    settle_s: float = Field(
        default=5.0,
        ge=0,
        le=600,
        description="start of a step, during which the cell polarises (s)",
    )
    build_s: float = Field(
        default=0.5,
        gt=0,
        le=60,
        description="a cell never seen before shows collapse_v within this time of its"
        " first current, else it is shorted (s)",
    )
    stale_after_s: float = Field(
        default=5.0,
        gt=0,
        le=600,
        description="no sample for this long is a lost voltage (s)",
    )
    current_tolerance_frac: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="a current further from the asked one is no longer driven",
    )


@dataclass(frozen=True)
class Alarm:
    """One thing found wrong, with the evidence for it.

    Attributes
    ----------
    kind : AlarmKind
        What it is.
    action : Action
        What the settings say must follow.
    start_s, end_s : float
        First and last sample that show it, by the samples' clock; `end_s` is None
        while it lasts.
    rule : str
        The rule in words with its figures.
    samples : tuple[tuple[float, float, float], ...]
        Time (s), voltage (V), current (mA) around the moment of decision.
    """

    kind: AlarmKind
    action: Action
    start_s: float
    end_s: float | None
    rule: str
    samples: tuple[tuple[float, float, float], ...]

    def __str__(self) -> str:
        """Return the alarm in one line."""
        return f"{self.kind}: {self.rule}"


@dataclass(frozen=True)
class CellHealth:
    """What is known of a cell before a step, from the steps before and at rest.

    Attributes
    ----------
    polarisation_v : float
        Magnitude of the voltage under current when it was last healthy.
    onset : tuple[tuple[float, float], ...]
        How its voltage came with the current, over `GuardSettings.settle_s`: time
        since the current began (s) and change of the voltage over the current (ohm).
        Empty if it was never seen.
    rest_v : float
        Voltage just before the current begins.
    """

    polarisation_v: float = 0.0
    onset: tuple[tuple[float, float], ...] = ()
    rest_v: float = 0.0


EVIDENCE_SAMPLES = 20
SETTLE_SAMPLES = 5
NOISE_SIGMAS = 6.0
SUDDEN_S = 2.0
BASELINE_TIME_S = 10.0
FLICKER_WINDOW_S = 120.0
FLICKERS = 2
LASTING_DROP_S = 10.0
NEW_BASELINE_S = 60.0
POLARITY_S = 5.0
MISSING_ONSET_FRAC = 1 / 3
ONSET_SPACING_S = 0.09
ONSET_PERSISTENCE_S = 0.05  # filters of source and input have settled
WINDOW_SPACING_S = 0.2
GAP_PERIODS = 5.0


class ShortCircuitRules:
    """Judge samples one by one, in constant time each.

    Parameters
    ----------
    settings : GuardSettings
        Thresholds.
    symmetric : bool
        Both electrodes are alike, so the voltage at rest is about 0 and its sign
        under current must be that of the current.
    period_s : float
        Usual time between samples, where it is longer than a fraction of a second.
    health : CellHealth, optional
        What is known of the cell already.
    """

    def __init__(
        self,
        settings: GuardSettings,
        *,
        symmetric: bool = True,
        period_s: float = 0.0,
        health: CellHealth | None = None,
    ) -> None:
        self._settings = settings
        self._longest_gap_s = max(settings.stale_after_s, GAP_PERIODS * period_s)
        self._symmetric = symmetric
        known = health or CellHealth()
        self._polarisation_v = known.polarisation_v
        self._onset = known.onset
        self._rest_v = known.rest_v
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=EVIDENCE_SAMPLES)
        self._open: dict[AlarmKind, Alarm] = {}
        self._ended: list[Alarm] = []
        self._asked_ma = 0.0
        self._compliance_v = math.inf
        self._reset()

    def begin(self, current_ma: float, *, compliance_v: float = math.inf) -> None:
        """Say that a step at `current_ma` begins; earlier alarms are closed."""
        self.end()
        known = self.health
        self._polarisation_v = known.polarisation_v
        self._onset = known.onset
        if self._recent:
            self._rest_v = self._recent[-1][1]
        self._asked_ma = current_ma
        self._compliance_v = compliance_v
        self._reset()

    def end(self) -> None:
        """Say that the step ended: no current is asked any more."""
        for kind in list(self._open):
            self._clear(kind)
        self._asked_ma = 0.0

    def feed(
        self, time_s: float, voltage_v: float, current_ma: float, relay_closed: bool
    ) -> list[Alarm]:
        """Judge one sample; return the alarms that it raises."""
        previous_s = self._recent[-1][0] if self._recent else None
        self._recent.append((time_s, voltage_v, current_ma))
        if not relay_closed or self._asked_ma == 0:
            if self._started_s is None:
                self._rest_v = voltage_v
            return []
        if self._started_s is None:
            self._started_s = time_s
            previous_s = None
        raised: list[Alarm] = []
        self._judge_gap(raised, previous_s, time_s)
        if not math.isfinite(voltage_v) or not math.isfinite(current_ma):
            self._raise(raised, "stale", time_s, "the voltage or current is no number")
            return raised
        if self._judge_source(raised, time_s, voltage_v, current_ma):
            return raised
        self._driven += 1
        self._note_onset(time_s - self._started_s, voltage_v)
        self._judge_polarity(raised, time_s, voltage_v)
        self._judge_collapse(raised, time_s, voltage_v)
        if "hard_short" not in self._open:
            self._judge_drop(raised, time_s, voltage_v)
        return raised

    def lost(self, time_s: float, reason: str) -> list[Alarm]:
        """Say that no sample came: the guard's watchdog noticed."""
        raised: list[Alarm] = []
        self._raise(raised, "stale", time_s, reason)
        return raised

    @property
    def asked_ma(self) -> float:
        """Current of the step that is being judged; 0 between steps."""
        return self._asked_ma

    @property
    def health(self) -> CellHealth:
        """What is known of the cell, for the next step."""
        seen = self._voltages_seen >= SETTLE_SAMPLES
        return CellHealth(
            self._baseline_v if seen else self._polarisation_v,
            tuple(self._seen_onset) if self._onset_whole else self._onset,
            self._rest_v,
        )

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm raised so far, in order of onset."""
        alarms = [*self._ended, *self._open.values()]
        return tuple(sorted(alarms, key=lambda alarm: alarm.start_s))

    # --- the rules ----------------------------------------------------------------

    def _judge_gap(
        self, raised: list[Alarm], previous_s: float | None, time_s: float
    ) -> None:
        if previous_s is None:
            return
        gap_s = time_s - previous_s
        if gap_s > self._longest_gap_s:
            self._raise(
                raised,
                "stale",
                previous_s,
                f"no sample for {gap_s:.3g} s while current was driven; allowed are "
                f"{self._longest_gap_s:.3g} s",
            )
            self._clear("stale")

    def _judge_source(
        self, raised: list[Alarm], time_s: float, voltage_v: float, current_ma: float
    ) -> bool:
        """Return whether the current is not the one asked for."""
        settings = self._settings
        if abs(voltage_v) >= 0.999 * self._compliance_v:
            fault: AlarmKind = "compliance"
            rule = (
                f"the voltage {voltage_v:.4g} V reached the compliance "
                f"{self._compliance_v:.4g} V"
            )
            if abs(current_ma) < settings.current_tolerance_frac * abs(self._asked_ma):
                fault = "open_circuit"
                rule += f" and no current flows ({current_ma:.3g} mA)"
        elif abs(current_ma) < settings.current_tolerance_frac * abs(self._asked_ma):
            fault = "open_circuit"
            rule = (
                f"{current_ma:.3g} mA flow where {self._asked_ma:.4g} mA are asked, "
                "the relay closed"
            )
        elif abs(current_ma - self._asked_ma) > settings.current_tolerance_frac * abs(
            self._asked_ma
        ):
            fault = "compliance"
            rule = (
                f"{current_ma:.4g} mA flow where {self._asked_ma:.4g} mA are asked: "
                "the source does not hold its current"
            )
        else:
            self._source_fault_s = None
            self._clear("compliance")
            self._clear("open_circuit")
            return False
        if self._source_fault_s is None:
            self._source_fault_s = time_s
            self._source_faults = 0
        self._source_faults += 1
        if (
            self._source_faults >= 2
            and time_s - self._source_fault_s >= settings.persistence_s
        ):
            self._raise(raised, fault, self._source_fault_s, rule)
        return True

    def _judge_polarity(
        self, raised: list[Alarm], time_s: float, voltage_v: float
    ) -> None:
        right = voltage_v * self._asked_ma > 0
        if not self._symmetric or right or abs(voltage_v) < self._settings.collapse_v:
            self._wrong_since_s = None
            if right:
                self._clear("wrong_polarity")
            return
        if self._wrong_since_s is None:
            self._wrong_since_s = time_s
        settled = self._settled(time_s)
        if settled and time_s - self._wrong_since_s >= POLARITY_S:
            self._raise(
                raised,
                "wrong_polarity",
                self._wrong_since_s,
                f"{voltage_v:.4g} V at {self._asked_ma:.4g} mA for {POLARITY_S:g} s: "
                "a symmetric cell has the sign of its current",
            )

    def _judge_collapse(
        self, raised: list[Alarm], time_s: float, voltage_v: float
    ) -> None:
        settings = self._settings
        healthy_v = max(self._polarisation_v, self._baseline_v)
        threshold_v = max(settings.collapse_v, settings.collapse_frac * healthy_v)
        magnitude_v = abs(voltage_v)
        if magnitude_v > 3 * threshold_v and voltage_v * self._asked_ma > 0:
            self._polarised = True
        if magnitude_v >= threshold_v:
            self._collapsed_s = None
            self._clear("hard_short")
            return
        wait_s = settings.persistence_s
        if not self._polarised and not self._settled(time_s):
            wait_s = self._onset_missing_s(time_s, voltage_v)
        if not math.isfinite(wait_s):
            self._collapsed_s = None
            return
        if self._collapsed_s is None:
            self._collapsed_s = time_s
        if time_s - self._collapsed_s >= wait_s:  # never the first sample, if above 0
            self._raise(
                raised,
                "hard_short",
                self._collapsed_s,
                f"|V| below {threshold_v * 1e3:.3g} mV for {wait_s:g} "
                f"s at {self._asked_ma:.4g} mA, healthy {healthy_v * 1e3:.3g} mV",
            )

    def _note_onset(self, elapsed_s: float, voltage_v: float) -> None:
        unknown = not math.isfinite(self._rest_v)
        if unknown or self._onset_whole or self._collapsed_s is not None:
            return
        seen = self._seen_onset
        if not seen or elapsed_s - seen[-1][0] >= ONSET_SPACING_S:
            seen.append((elapsed_s, (voltage_v - self._rest_v) / self._asked_ma * 1e3))
        self._onset_whole = self._polarised and elapsed_s >= self._settings.settle_s

    def _onset_missing_s(self, time_s: float, voltage_v: float) -> float:
        """Return how long a voltage near 0 at the start of a step may last.

        Infinite where it may be that of a healthy cell, which relaxes from the step
        before: its voltage changes with the current all the same, as it did then.
        """
        elapsed_s = 0.0 if self._started_s is None else time_s - self._started_s
        built_ohm = [ohm for at_s, ohm in self._onset if at_s <= elapsed_s][-1:]
        magnitude_v, rest_v = abs(voltage_v), self._rest_v
        still_v = self._settings.collapse_v
        least_v = MISSING_ONSET_FRAC * sum(built_ohm) * abs(self._asked_ma) * 1e-3
        missing = max(magnitude_v, abs(voltage_v - rest_v)) < least_v
        if missing and least_v >= still_v:
            return max(self._settings.persistence_s, ONSET_PERSISTENCE_S)
        if not self._onset and magnitude_v < still_v and abs(rest_v) < still_v:
            return self._settings.build_s
        return math.inf

    def _judge_drop(self, raised: list[Alarm], time_s: float, voltage_v: float) -> None:
        """Look for a sudden, partial loss of polarisation."""
        magnitude_v = math.copysign(1.0, self._asked_ma) * voltage_v
        before_v = self._window[0][1] if self._window else magnitude_v
        self._voltages_seen += 1
        if self._dropped_s is not None:
            self._follow_drop(raised, time_s, magnitude_v)
            return
        reference_v = min(self._baseline_v, before_v)
        limit_v = max(
            self._settings.drop_frac * reference_v,
            NOISE_SIGMAS * self._noise_v,
            self._settings.collapse_v / 2,
        )
        settled = self._settled(time_s) and self._voltages_seen > SETTLE_SAMPLES
        if settled and reference_v > 0 and reference_v - magnitude_v > limit_v:
            self._dropped_s = time_s
            self._drop_reference_v = reference_v
            self._drop_limit_v = limit_v
            self._drops.append(time_s)
            while self._drops[0] < time_s - FLICKER_WINDOW_S:
                self._drops.popleft()
            if len(self._drops) >= FLICKERS:
                self._raise_soft(raised, self._drops[0], f"{len(self._drops)} times")
            return
        self._track(time_s, magnitude_v)

    def _follow_drop(
        self, raised: list[Alarm], time_s: float, magnitude_v: float
    ) -> None:
        if self._dropped_s is None:
            return
        if self._drop_reference_v - magnitude_v < 0.5 * self._drop_limit_v:
            self._dropped_s = None
            return
        lasted_s = time_s - self._dropped_s
        if lasted_s >= LASTING_DROP_S and "soft_short" not in self._open:
            self._raise_soft(raised, self._dropped_s, f"for {lasted_s:.3g} s")
        if lasted_s >= NEW_BASELINE_S:
            self._dropped_s = None
            self._baseline_v = magnitude_v
            self._window.clear()

    def _raise_soft(self, raised: list[Alarm], start_s: float, how: str) -> None:
        self._raise(
            raised,
            "soft_short",
            start_s,
            f"the polarisation fell at once by more than "
            f"{self._drop_limit_v * 1e3:.3g} of {self._drop_reference_v * 1e3:.3g} mV, "
            f"{how}, at {self._asked_ma:.4g} mA",
        )

    def _track(self, time_s: float, magnitude_v: float) -> None:
        """Follow the healthy polarisation and its noise."""
        if self._last_healthy is None:
            self._baseline_v = magnitude_v
        else:
            last_s, last_v = self._last_healthy
            keep = math.exp(-max(0.0, time_s - last_s) / BASELINE_TIME_S)
            self._baseline_v += (magnitude_v - self._baseline_v) * (1 - keep)
            step_v = abs(magnitude_v - last_v) / math.sqrt(2)
            self._noise_v += 0.02 * (1.25 * step_v - self._noise_v)
        self._last_healthy = (time_s, magnitude_v)
        if not self._window or time_s - self._window[-1][0] >= WINDOW_SPACING_S:
            self._window.append((time_s, magnitude_v))
        while len(self._window) > 1 and self._window[1][0] <= time_s - SUDDEN_S:
            self._window.popleft()

    # --- state --------------------------------------------------------------------

    def _reset(self) -> None:
        self._started_s: float | None = None
        self._driven = 0
        self._voltages_seen = 0
        self._polarised = False
        self._seen_onset: list[tuple[float, float]] = []
        self._onset_whole = False
        self._collapsed_s: float | None = None
        self._source_fault_s: float | None = None
        self._source_faults = 0
        self._wrong_since_s: float | None = None
        self._baseline_v = 0.0
        self._noise_v = 0.0
        self._last_healthy: tuple[float, float] | None = None
        self._window: deque[tuple[float, float]] = deque()
        self._dropped_s: float | None = None
        self._drop_reference_v = 0.0
        self._drop_limit_v = 0.0
        self._drops: deque[float] = deque()

    def _settled(self, time_s: float) -> bool:
        if self._started_s is None:
            return False
        return (
            time_s - self._started_s >= self._settings.settle_s
            and self._driven > SETTLE_SAMPLES
        )

    def _raise(
        self, raised: list[Alarm], kind: AlarmKind, start_s: float, rule: str
    ) -> None:
        if kind in self._open:
            return
        action: Action = getattr(self._settings, kind)
        alarm = Alarm(kind, action, start_s, None, rule, tuple(self._recent))
        self._open[kind] = alarm
        raised.append(alarm)

    def _clear(self, kind: AlarmKind) -> None:
        alarm = self._open.pop(kind, None)
        if alarm is not None:
            end_s = max(alarm.start_s, self._recent[-1][0])
            self._ended.append(replace(alarm, end_s=end_s))
