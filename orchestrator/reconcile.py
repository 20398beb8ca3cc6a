"""After a crash: make the beamline safe, then ask it what happened meanwhile.

The orchestrator may have died with the relay closed, the shutter open, the stage
turning and the camera running; the IOCs carry on. Nothing is read before the relay
is told to open.
"""

import logging
from dataclasses import dataclass

from ophyd.utils import DisconnectedError

from devices.beamline import Beamline
from devices.errors import DeviceError
from orchestrator.errors import RefusedError
from orchestrator.history import HalfCycleRun, History
from orchestrator.journal import Journal
from plans.safe_state import make_safe

_log = logging.getLogger(__name__)

READ_TIMEOUT_S = 10.0
RECORDED_MORE_FRAC = 1.001  # rounding between the last sample and the final charge


@dataclass(frozen=True)
class _Passed:
    charge_c: float
    source: str
    certain: bool


def reconcile(
    beamline: Beamline, history: History, journal: Journal, *, silence_s: float
) -> History:
    """Make the beamline safe and find the charge of half-cycles that were cut.

    Parameters
    ----------
    silence_s : float
        Heartbeat timeout: after a crash current may flow no longer than this.

    Returns
    -------
    History
        In which every half-cycle's charge is known; each new one is in the journal.

    Raises
    ------
    RefusedError
        The safe state could not be confirmed, or the potentiostat does not answer.
    """
    try:
        make_safe(beamline)
    except DeviceError as error:
        raise RefusedError(str(error)) from error
    journal.add("reconciled_hardware", "cell open, shutter closed, camera stopped")
    for run in history.cut_half_cycles:
        ran_before = any(
            other.step_id is not None and other is not run
            for other in history.half_cycles
        )
        try:
            passed = _passed(beamline, run, silence_s, ran_before=ran_before)
        except (TimeoutError, DisconnectedError) as error:
            raise RefusedError(
                f"the potentiostat does not say what passed in the half-cycle that was "
                f"cut ({error}): look at its IOC, then resume"
            ) from error
        text = f"half-cycle cut at {passed.charge_c:.4g} C, {passed.source}"
        _log.warning("%s", text)
        journal.add(
            "reconciled",
            text,
            details={
                "run_uid": run.run_uid,
                "charge_c": passed.charge_c,
                "certain": passed.certain,
            },
        )
        if not passed.certain:
            journal.add("alarm", text)
        history = history.with_charge(run.run_uid, passed.charge_c)
    return history


def _passed(
    beamline: Beamline, run: HalfCycleRun, silence_s: float, *, ran_before: bool
) -> _Passed:
    potentiostat = beamline.potentiostat
    step_id = int(
        potentiostat.last_step_id.get(use_monitor=False, timeout=READ_TIMEOUT_S)
    )
    charge_c = float(potentiostat.charge.get(use_monitor=False, timeout=READ_TIMEOUT_S))
    recorded_c = run.recorded_c
    plausible = abs(charge_c) * RECORDED_MORE_FRAC >= abs(recorded_c)
    if run.step_id is not None and step_id == run.step_id and plausible:
        return _Passed(charge_c, "as the instrument counted", certain=True)
    # One that knows no step at all, though it ran some, was started anew.
    knows = step_id > 0 or not ran_before
    older = run.step_id is not None and step_id < run.step_id
    if older and knows and recorded_c == 0:
        return _Passed(0.0, "it had not begun", certain=True)
    most_c = abs(run.current_ma) * 1e-3 * silence_s
    return _Passed(
        recorded_c,
        f"as recorded: the instrument forgot it; at most {most_c:.3g} C more passed",
        certain=False,
    )
