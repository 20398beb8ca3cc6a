"""One half-cycle: a constant current, passed once whatever happens around it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.utils import MsgGenerator, short_uid

from devices.beamline import Beamline
from devices.errors import DeviceError
from devices.potentiostat import ArmedStep
from devices.potentiostat_driver import EndReason, GalvanostaticStep
from devices.potentiostat_outcome import StepOutcome
from devices.short_circuit import Alarm

from .run import in_run
from .settings import CyclingSettings
from .steps import HalfCycleStep
from .streams import BASELINE, ELECTROCHEMISTRY, OUTCOME
from .tidying import until
from .wishes import Wishes

COLLECT_PERIOD_S = 1.0
# The first samples at rest give the resistance of the cell: the least recorded.
LEAST_REST_S = 0.4
CONFIRM_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class HalfCycleOutcome:
    """How a half-cycle ended, for the experiment to decide on.

    Attributes
    ----------
    charge_c : float
        Signed, as counted by the instrument.
    elapsed_s : float
        Time at current; what is left of the step is its duration less this.
    end_reason : str
        One of `devices.potentiostat_driver.EndReason`.
    short_circuit : str
        One line of evidence when the cell shorted and the guard stopped the step.
    fault : str
        One line when the step ended otherwise than planned; empty if as planned.
    tomogram : str
        One line when the guard asks for a tomogram before the rest of the step.
    resumable : bool
        Whether the rest of the step may be passed later: the cause may go away, and
        the instrument has said how much charge passed.
    alarms : tuple[Alarm, ...]
        Everything the guard noticed, warnings included.
    interrupt_resistance_ohm : float
        Step of the voltage as the current was cut, over the current; 0 if unknown.
    interrupt_resistance_missing : str
        Why it is unknown; empty where it is known.
    warnings : tuple[str, ...]
        What is odd about the record: two charges that differ, samples that are lost.
    """

    charge_c: float
    elapsed_s: float
    end_reason: str
    short_circuit: str
    fault: str
    tomogram: str
    resumable: bool
    alarms: tuple[Alarm, ...]
    warnings: tuple[str, ...]
    interrupt_resistance_ohm: float = 0.0
    interrupt_resistance_missing: str = ""


def half_cycle(
    beamline: Beamline,
    step: HalfCycleStep,
    cycling: CyclingSettings,
    *,
    attempt: int,
    md: dict[str, Any],
    wishes: Wishes | None = None,
) -> MsgGenerator[HalfCycleOutcome]:
    """Pass one half-cycle in a run of its own.

    The instrument times the step, the guard watches it in the Channel Access
    callbacks, and this plan only collects: a pause, an abort or a blocked RunEngine
    changes neither charge nor safety. Ends with the relay open, confirmed; after a
    planned end the cell's relaxation is recorded for ``cycling.rest_s``.

    Parameters
    ----------
    beamline : Beamline
        Its potentiostat and shutter are used.
    step : HalfCycleStep
        Current and time still to pass.
    cycling : CyclingSettings
        Voltage window, compliance, heartbeat, rest.
    attempt : int
        0 for the first time, one more each time the step is taken up again.
    md : dict
        Copied into the start document.
    wishes : Wishes, optional
        Knows why the operator aborted.

    Returns
    -------
    HalfCycleOutcome
        Never an exception for what the cell does.
    """
    # ophyd's annotations do not fit bluesky's protocols
    potentiostat: Any = beamline.potentiostat
    metadata = {
        **md,
        "plan_name": "half_cycle",
        "step_index": step.index,
        "half_cycle": step.half_cycle,
        "label": step.label,
        "attempt": attempt,
        "current_ma": step.current_ma,
        "duration_s": step.duration_s,
    }

    if attempt > 0:
        # an instrument that fell silent must not be driven before it speaks again
        yield from until(potentiostat.heard())
    # an id taken once per plan: a replayed message carries the same one
    last_id = yield from bps.rd(potentiostat.last_step_id, default_value=0)
    armed = ArmedStep(
        galvanostatic_step(step, cycling, int(last_id) + 1),
        cycling.heartbeat_timeout_s,
    )
    metadata["potentiostat_step_id"] = armed.step.id

    def run() -> MsgGenerator[None]:
        yield from _baseline(potentiostat)
        yield from bps.prepare(potentiostat, armed, wait=True)
        yield from bps.declare_stream(potentiostat, name=ELECTROCHEMISTRY, collect=True)
        yield from bpp.contingency_wrapper(
            _pass_current(potentiostat, cycling.rest_s),
            final_plan=lambda: _open_and_record(potentiostat),
        )

    yield from in_run(run(), metadata, wishes)
    outcome = potentiostat.step_outcome
    if outcome is None:
        raise DeviceError(
            f"{potentiostat.name}: the half-cycle ended without an outcome; check the "
            "relay at the instrument"
        )
    return judge(outcome)


def galvanostatic_step(
    step: HalfCycleStep, cycling: CyclingSettings, step_id: int
) -> GalvanostaticStep:
    """Return the step as the instrument is to run it."""
    charge_c = abs(step.current_ma) * 1e-3 * step.duration_s
    return GalvanostaticStep(
        id=step_id,
        current_ma=step.current_ma,
        duration_s=step.duration_s,
        charge_limit_c=charge_c * (1 + cycling.charge_margin_frac),
        voltage_min_v=cycling.voltage_min_v,
        voltage_max_v=cycling.voltage_max_v,
        compliance_v=cycling.compliance_voltage_v,
    )


def judge(outcome: StepOutcome) -> HalfCycleOutcome:
    """Say what an ended step means for the experiment."""
    alarm = outcome.acted_on
    short_circuit = fault = tomogram = ""
    resumable = True
    if alarm is None:
        fault = outcome.fault
        resumable = outcome.end_reason != EndReason.COMPLIANCE
    elif alarm.kind in {"hard_short", "soft_short"} and alarm.action == "stop":
        short_circuit = str(alarm)
        resumable = False
    elif alarm.action == "tomogram":
        tomogram = str(alarm)
    else:
        fault = outcome.fault or str(alarm)
        resumable = alarm.kind == "stale"
    if not outcome.confirmed:
        # what passed unseen would pass again; a resume asks the instrument first
        resumable = False
    return HalfCycleOutcome(
        charge_c=outcome.charge_c,
        elapsed_s=outcome.elapsed_s,
        end_reason=outcome.end_reason,
        short_circuit=short_circuit,
        fault=fault,
        tomogram=tomogram,
        resumable=resumable,
        alarms=outcome.alarms,
        warnings=outcome.warnings,
        interrupt_resistance_ohm=outcome.interrupt_resistance_ohm,
        interrupt_resistance_missing=outcome.interrupt_resistance_missing,
    )


def _baseline(potentiostat: Any) -> MsgGenerator[None]:
    yield from bps.create(BASELINE)
    yield from bps.read(potentiostat)
    yield from bps.save()


def _pass_current(potentiostat: Any, rest_s: float) -> MsgGenerator[None]:
    group = short_uid("kickoff")
    yield from bps.checkpoint()
    try:
        yield from bps.kickoff(potentiostat, group=group)
        yield from bps.wait(group=group)
        yield from _collect_until(
            potentiostat,
            lambda: potentiostat.step_outcome is not None,
            lambda group: bps.complete(potentiostat, group=group),
        )
        outcome = potentiostat.step_outcome
        if not outcome.fault and outcome.acted_on is None:
            yield from _rest(potentiostat, max(rest_s, LEAST_REST_S))
    except GeneratorExit:
        # RunEngine.halt() runs no finaliser
        potentiostat.stop()
        raise


def _rest(potentiostat: Any, rest_s: float) -> MsgGenerator[None]:
    """Record the cell at open circuit; samples of a rest come more slowly."""
    rest = potentiostat.rest
    rest.begin(rest_s)
    yield from _collect_until(
        potentiostat,
        lambda: rest.over,
        lambda group: bps.trigger(rest, group=group),
    )


def _collect_until(
    potentiostat: Any,
    over: Callable[[], bool],
    ask: Callable[[str], MsgGenerator[Any]],
) -> MsgGenerator[None]:
    """Collect once a second until `over`; `ask` puts what ends it into a group.

    The RunEngine keeps a group until a wait for it has seen its end, and a half-cycle
    has thousands of waits: so all are for one group.
    """
    group = short_uid("collect")
    waited_for: bool | None = True
    while not over():
        yield from bps.checkpoint()
        # an interruption swallows the group with the wait and answers None
        if waited_for is not False:
            yield from ask(group)
        waited_for = yield from _wait_a_while(group)
        yield from bps.collect(potentiostat, name=ELECTROCHEMISTRY)
    yield from _wait_a_while(group)


def _wait_a_while(group: str) -> MsgGenerator[Any]:
    return (
        yield from bps.wait(
            group=group, timeout=COLLECT_PERIOD_S, error_on_timeout=False
        )
    )


def _open_and_record(potentiostat: Any) -> MsgGenerator[None]:
    yield from bps.stop(potentiostat)
    if potentiostat.kicked_off and potentiostat.step_outcome is None:
        group = short_uid("ended")
        yield from bps.complete(potentiostat, group=group)
        yield from bps.wait(
            group=group, timeout=CONFIRM_TIMEOUT_S, error_on_timeout=False
        )
    yield from bps.collect(potentiostat, name=ELECTROCHEMISTRY)
    if potentiostat.step_outcome is not None:
        yield from bps.create(OUTCOME)
        yield from bps.read(potentiostat.outcome)
        yield from bps.save()
