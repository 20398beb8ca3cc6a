"""The rules of the experiment's file, applied to what comes in while it runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from plans.rules import STOP, Rule, decide, unmeasured
from plans.wishes import OperatorWishes

BYTES_PER_GB = 1e9


class Rulebook:
    """Decides after each measured tomogram; the `plans.wishes.Wishes` of the plans.

    What it decided holds until the end, also for a session that resumes, unless the
    rule has been taken out of the file or changed.

    Parameters
    ----------
    rules : sequence of Rule
        Section ``rules`` of the file.
    operator : OperatorWishes
        Whose wishes come first.
    decided : callable
        Notes a decision with its reason, and details for `recall`.
    free_disk_bytes : callable
        Asked after each tomogram.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        operator: OperatorWishes,
        decided: Callable[[str, Mapping[str, Any]], None],
        free_disk_bytes: Callable[[], int],
    ):
        self._rules = rules
        self._operator = operator
        self._decided = decided
        self._free_disk_bytes = free_disk_bytes
        self._stop = ""
        self._parts = 1
        self._begun_s: float | None = None
        self._plan = ""
        self._driven_v: float | None = None
        self._voltages: dict[str, float] = {}
        self._history: list[dict[str, float | None]] = []

    def stop_after_tomogram(self) -> str:
        """Return why to stop, empty to go on."""
        return self._operator.stop_after_tomogram() or self._stop

    def abort_reason(self) -> str:
        """Return why the operator aborted, empty if nobody did."""
        return self._operator.abort_reason()

    def parts(self) -> int:
        """Return into how many parts a half-cycle is cut."""
        return self._parts

    @property
    def stop_reason(self) -> str:
        """Why a rule asks to stop, empty if none does."""
        return self._stop

    def recall(
        self,
        documents: Iterable[tuple[str, Mapping[str, Any]]],
        rows: Iterable[Mapping[str, Any]],
        decisions: Iterable[Mapping[str, Any]],
    ) -> None:
        """Take up what earlier sessions recorded, measured and decided.

        Parameters
        ----------
        documents : iterable
            Of the earlier sessions, in order.
        rows : iterable of mapping
            Rows of the tomograms that were measured, in order.
        decisions : iterable of mapping
            Details of the decisions in the journal, in order.
        """
        for name, document in documents:
            self.document(name, document)
        self._history.extend(self._quantities(row) for row in rows)
        rules = {str(rule): rule for rule in self._rules}
        for details in decisions:
            rule = rules.get(details.get("rule", ""))
            if rule is not None:
                self._follow(rule, str(details.get("reason", rule)))

    def document(self, name: str, doc: Mapping[str, Any]) -> None:
        """Remember the last voltage under current before each tomogram."""
        if name == "start":
            self._plan = str(doc.get("plan_name"))
            if self._plan == "tomogram" and self._driven_v is not None:
                self._voltages[doc["label"]] = self._driven_v
        elif name == "event_page" and self._plan == "half_cycle":
            data = doc["data"]
            volts = data.get("potentiostat_voltage_v", ())
            closed = data.get("potentiostat_relay_closed", ())
            driven = [v for v, on in zip(volts, closed, strict=True) if on]
            if driven:
                self._driven_v = abs(float(driven[-1]))

    def measured(self, row: Mapping[str, Any]) -> None:
        """Take the row of a tomogram and decide."""
        if not self._rules:
            return
        values = self._quantities(row)
        values["free_disk_gb"] = self._free_disk_bytes() / BYTES_PER_GB
        self._history.append(values)
        missing = unmeasured(self._rules, values)
        decision = decide(self._rules, self._history, self._parts)
        unseen = f"; not measured: {', '.join(missing)}" if missing else ""
        details = {"rule": str(decision.rule or ""), "reason": decision.reason}
        self._decided(
            f"rules after label {row.get('label')}: {decision.decide}, "
            f"{decision.reason}{unseen}",
            details,
        )
        if decision.rule is not None:
            self._follow(decision.rule, decision.reason)

    def _follow(self, rule: Rule, reason: str) -> None:
        if rule.decide == STOP:
            self._stop = reason
        elif rule.parts is not None:
            self._parts = max(self._parts, rule.parts)

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
