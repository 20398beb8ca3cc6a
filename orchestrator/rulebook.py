"""The rules of the experiment's file, applied to what comes in while it runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plans.rules import StopRule, decide, unmeasured
from plans.wishes import Wishes

BYTES_PER_GB = 1e9


class Rulebook:
    """Decides after each measured tomogram; the `plans.wishes.Wishes` of the plans.

    Parameters
    ----------
    rules : sequence of StopRule
        Section ``rules`` of the file.
    operator : Wishes
        Whose wishes come first.
    decided : callable
        Notes a decision with its reason.
    free_disk_bytes : callable
        Asked after each tomogram.
    past : sequence of mapping
        Rows of the tomograms that an earlier session measured.
    """

    def __init__(
        self,
        rules: Sequence[StopRule],
        operator: Wishes,
        decided: Callable[[str], None],
        free_disk_bytes: Callable[[], int],
        past: Sequence[Mapping[str, Any]] = (),
    ):
        self._rules = rules
        self._operator = operator
        self._decided = decided
        self._free_disk_bytes = free_disk_bytes
        self._stop = ""
        self._begun_s: float | None = None
        self._voltages: dict[str, float] = {}
        self._half_cycle: Mapping[str, Any] | None = None
        self._history = [self._quantities(row) for row in past]

    def stop_after_tomogram(self) -> str:
        """Return why to stop, empty to go on."""
        return self._operator.stop_after_tomogram() or self._stop

    def abort_reason(self) -> str:
        """Return why the operator aborted, empty if nobody did."""
        return self._operator.abort_reason()

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Remember the last voltage under current of each half-cycle."""
        if name == "start":
            self._half_cycle = doc if doc.get("plan_name") == "half_cycle" else None
        elif name == "event_page" and self._half_cycle is not None:
            data = doc["data"]
            volts = data.get("potentiostat_voltage_v", ())
            closed = data.get("potentiostat_relay_closed", ())
            driven = [v for v, on in zip(volts, closed, strict=True) if on]
            if driven:
                self._voltages[self._half_cycle["label"]] = abs(float(driven[-1]))

    def measured(self, row: Mapping[str, Any]) -> None:
        """Take the row of a tomogram and decide."""
        if not self._rules:
            return
        values = self._quantities(row)
        values["free_disk_gb"] = self._free_disk_bytes() / BYTES_PER_GB
        self._history.append(values)
        missing = unmeasured(self._rules, values)
        decision = decide(self._rules, self._history)
        unseen = f"; not measured: {', '.join(missing)}" if missing else ""
        self._decided(
            f"rules after label {row.get('label')}: {decision.decide}, "
            f"{decision.reason}{unseen}"
        )
        if decision.decide == "stop after a tomogram":
            self._stop = decision.reason

    def _quantities(self, row: Mapping[str, Any]) -> dict[str, float | None]:
        """Return what rules may ask for, from a row of the results."""
        values: dict[str, float | None] = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float)
        }
        label = str(row.get("label", "0"))
        values["half_cycle"] = max(2 * float(label) - 1, 0.0)
        started_s = values.get("start_time_s")
        if started_s is not None:
            if self._begun_s is None:
                self._begun_s = started_s
            values["elapsed_h"] = (started_s - self._begun_s) / 3600
        first_v, last_v = self._voltages.get("1"), self._voltages.get(label)
        values["voltage_end_v"] = last_v
        if first_v and last_v is not None:
            values["polarisation_growth_frac"] = last_v / first_v - 1
        return values
