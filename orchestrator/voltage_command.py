"""``insitu-ct voltage FILE``: read a potentiostat's file as the guard would have."""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from analysis.errors import DataError
from analysis.voltage_files.bdf import write_bdf
from analysis.voltage_files.reader import read_voltage_file
from analysis.voltage_files.record import VoltageRecord
from analysis.voltage_files.steps import (
    VoltageStep,
    cumulative_charge_c,
    find_steps,
    gross_charge_c,
    lithium_volume_um3,
)
from devices.short_circuit import Alarm, GuardSettings, ShortCircuitRules

# A symmetric cell rests at about 0 V; driven, it seldom shows as much as a volt.
SYMMETRIC_REST_V = 0.05
SYMMETRIC_DRIVEN_V = 1.0
# Without current a healthy cell relaxes; a source with a lead off runs away.
RUNAWAY_FACTOR = 1.5
RUNAWAY_V = 0.1


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "voltage", help="read a potentiostat's file and judge its voltage"
    )
    parser.add_argument("file", type=Path, help="Gamry DTA, EC-Lab text or BDF")
    parser.add_argument(
        "--current-ma",
        type=float,
        metavar="X",
        help="current asked for (mA), where the file has none or a wrong one",
    )
    parser.add_argument(
        "--compliance-v", type=float, metavar="X", help="limit of the source (V)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--to",
        nargs=2,
        metavar=("FORMAT", "OUT"),
        help="convert: write OUT in this format; bdf is the only one",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read, judge, print, convert."""
    if args.to is not None and args.to[0] != "bdf":
        raise DataError(f"--to {args.to[0]} is unknown; allowed is --to bdf OUT")
    for name in ("current_ma", "compliance_v"):
        value = getattr(args, name)
        if value is not None and (not math.isfinite(value) or value == 0):
            raise DataError(
                f"--{name.replace('_', '-')} is {value:g}; give a number other than 0"
            )
    record = read_voltage_file(args.file)
    if args.current_ma is not None and not record.has_current:
        record = replace(
            record,
            current_ma=np.full(len(record), args.current_ma),
            has_current=True,
        )
    steps = find_steps(record)
    alarms = judge(
        record, steps, current_ma=args.current_ma, compliance_v=args.compliance_v
    )
    if args.to is not None:
        write_bdf(Path(args.to[1]), record)
    summary = summarise(record, steps, alarms)
    if args.json:
        print(json.dumps(summary))
    else:
        _print(args.file, record, summary)
        if args.to is not None:
            print(f"written: {args.to[1]}")
    return 0


def judge(
    record: VoltageRecord,
    steps: Sequence[VoltageStep],
    *,
    settings: GuardSettings | None = None,
    current_ma: float | None = None,
    compliance_v: float | None = None,
) -> tuple[Alarm, ...]:
    """Return the alarms that the guard would have raised.

    Parameters
    ----------
    record : VoltageRecord
    steps : sequence of VoltageStep
        Of this record.
    settings : GuardSettings, optional
        Thresholds; the defaults if not given.
    current_ma : float, optional
        The current asked for, where it is known better than from the record.
    compliance_v : float, optional
        Limit of the source.
    """
    gaps_s = np.diff(record.time_s)
    rules = ShortCircuitRules(
        settings or GuardSettings(),
        symmetric=is_symmetric(record, steps),
        # cyclers sample more densely where the voltage changes
        period_s=float(np.nanpercentile(gaps_s, 99)) if len(gaps_s) else 0.0,
    )
    limit_v = math.inf if compliance_v is None else abs(compliance_v)
    before: VoltageStep | None = None
    told = current_ma is not None or record.control == "galvanostatic"
    for step in steps:
        asked_ma = _asked_ma(record, step, before, current_ma)
        # a step that goes on where a lead fell off is still the same step
        if before is None or asked_ma != rules.asked_ma or not asked_ma:
            rules.begin(asked_ma, compliance_v=limit_v)
        for row in range(step.start, step.stop):
            measured_ma = float(record.current_ma[row])
            if not told and step.galvanostatic:
                # a taper at constant voltage, say, is nothing that anyone forbade
                measured_ma = asked_ma
            rules.feed(
                float(record.time_s[row]),
                float(record.voltage_v[row]),
                measured_ma,
                True,
            )
        before = step
    rules.end()
    return rules.alarms


def is_symmetric(record: VoltageRecord, steps: Sequence[VoltageStep]) -> bool:
    """Say whether the voltages are those of a cell with two equal electrodes."""
    rest = [step for step in steps if step.current_ma == 0]
    driven = [step for step in steps if step.current_ma != 0]
    chosen, limit_v = (rest, SYMMETRIC_REST_V)
    if not rest or not driven:
        chosen, limit_v = (driven or rest, SYMMETRIC_DRIVEN_V)
    rows = np.concatenate([record.voltage_v[s.start : s.stop] for s in chosen])
    return _middle(rows) < limit_v


def summarise(
    record: VoltageRecord, steps: Sequence[VoltageStep], alarms: Sequence[Alarm]
) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    charge_c: float | None = None
    gross_c: float | None = None
    if record.has_current:
        charge_c = float(cumulative_charge_c(record)[-1])
        gross_c = gross_charge_c(record)
    return {
        "rows": len(record),
        "source": record.source,
        "control": record.control,
        "notes": list(record.notes),
        "steps": [
            {key: _number(value) for key, value in asdict(step).items()}
            for step in steps
        ],
        "charge_c": charge_c,
        "gross_charge_c": gross_c,
        "lithium_um3": None if gross_c is None else lithium_volume_um3(gross_c),
        "alarms": [
            {
                "kind": alarm.kind,
                "start_s": alarm.start_s,
                "end_s": alarm.end_s,
                "evidence": {
                    "rule": alarm.rule,
                    "samples": [
                        [_number(value) for value in sample] for sample in alarm.samples
                    ],
                },
            }
            for alarm in alarms
        ],
    }


def _asked_ma(
    record: VoltageRecord,
    step: VoltageStep,
    before: VoltageStep | None,
    current_ma: float | None,
) -> float:
    """Return the current that a step was asked to drive; 0 for a rest."""
    if not record.has_current or record.control in {"potentiostatic", "open circuit"}:
        return 0.0
    if current_ma is not None:
        return math.copysign(current_ma, step.current_ma or current_ma)
    if record.asked_ma is not None:
        return float(record.asked_ma[step.start])
    if step.galvanostatic:
        return step.current_ma
    if step.current_ma == 0 and before is not None and before.galvanostatic:
        driven_v = _largest(record.voltage_v[before.start : before.stop])
        here_v = _middle(record.voltage_v[step.start : step.stop])
        if here_v > RUNAWAY_FACTOR * driven_v + RUNAWAY_V:
            return before.current_ma
    return 0.0


def _largest(voltages_v: NDArray[np.float64]) -> float:
    return float(np.nanmax(np.abs(voltages_v), initial=0.0))


def _middle(voltages_v: NDArray[np.float64]) -> float:
    known = np.abs(voltages_v[np.isfinite(voltages_v)])
    return float(np.median(known)) if len(known) else 0.0


def _number(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _print(file: Path, record: VoltageRecord, summary: dict[str, Any]) -> None:
    console = Console()
    console.print(
        f"{file}: {record.source}, {len(record)} rows over "
        f"{record.time_s[-1] - record.time_s[0]:.6g} s",
        highlight=False,
    )
    for note in record.notes:
        console.print(f"  note: {note}", highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "from s", "to s", "mA", "C", "V first", "V last", "ohm"):
        table.add_column(heading, justify="right")
    for number, step in enumerate(summary["steps"], start=1):
        table.add_row(
            str(number),
            *(
                "" if step[key] is None else f"{step[key]:.6g}"
                for key in (
                    "start_s",
                    "end_s",
                    "current_ma",
                    "charge_c",
                    "voltage_start_v",
                    "voltage_end_v",
                    "interrupt_resistance_ohm",
                )
            ),
        )
    console.print(table)
    if summary["charge_c"] is None:
        console.print("no current in the file: give it with --current-ma")
    else:
        console.print(
            f"charge {summary['charge_c']:.6g} C net, {summary['gross_charge_c']:.6g} "
            f"C in both directions: {summary['lithium_um3']:.5g} um3 of lithium plated",
            highlight=False,
        )
    for alarm in summary["alarms"]:
        end_s = alarm["end_s"]
        until = "" if end_s is None else f" to {end_s:.6g}"
        console.print(
            f"[red]{alarm['kind']}[/red] from {alarm['start_s']:.6g}{until} s: "
            f"{alarm['evidence']['rule']}",
            highlight=False,
        )
    if not summary["alarms"]:
        console.print("no alarms")
