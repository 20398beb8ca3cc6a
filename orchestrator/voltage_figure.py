"""The cell's voltage over the whole experiment, in the report."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from orchestrator.drawing import BLUE, FAINT, INK, ORANGE, RED, render
from orchestrator.report_data import ExperimentData, HalfCycle, Scan

MAX_VOLTAGE_POINTS = 4000


def voltage_figure(data: ExperimentData) -> str | None:
    """Return cell voltage against time; half-cycles, scans and short marked."""
    half_cycles = [cycle for cycle in data.half_cycles if cycle.time_s.size]
    if not half_cycles:
        return None
    scans = [scan for scan in data.scans if np.isfinite(scan.begin_s)]
    origin_s = min(
        [cycle.time_s[0] for cycle in half_cycles] + [scan.begin_s for scan in scans]
    )
    last_s = max(
        [cycle.time_s[-1] for cycle in half_cycles] + [scan.end_s for scan in scans]
    )
    unit_s, unit = (3600.0, "h") if last_s - origin_s > 2 * 3600 else (60.0, "min")
    short = data.ended is not None and (
        data.ended.details.get("outcome") == "short_circuit"
    )

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        for cycle in half_cycles:
            _draw_half_cycle(axes, cycle, origin_s, unit_s)
        for scan in scans:
            _draw_scan(axes, scan, origin_s, unit_s)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.16 * (high - low))
        _label_half_cycles(axes, half_cycles, origin_s, unit_s, 6 if narrow else 18)
        if short:
            last = half_cycles[-1]
            axes.plot(
                (last.time_s[-1] - origin_s) / unit_s,
                last.voltage_v[-1],
                marker="X",
                markersize=10,
                color=RED,
                linestyle="none",
                zorder=5,
            )
            axes.annotate(
                "short circuit",
                ((last.time_s[-1] - origin_s) / unit_s, last.voltage_v[-1]),
                xytext=(-8, 16),
                textcoords="offset points",
                ha="right",
                color=RED,
                weight="bold",
                arrowprops={"arrowstyle": "-", "color": RED},
            )
        axes.axhline(0.0, color=INK, linewidth=0.6)
        axes.set_xlabel(f"time since the start ({unit})")
        axes.set_ylabel("cell voltage (V)")
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.01)
        axes.plot([], [], color=BLUE, label="charge")
        axes.plot([], [], color=ORANGE, linestyle="--", label="discharge")
        if scans:
            axes.fill_between(
                [], [], color=FAINT, alpha=0.55, label="scan (open circuit)"
            )
        columns = 2 if narrow else 3
        figure.legend(loc="outside upper left", ncols=columns, handlelength=1.6)

    return render("voltage", draw, 3.9, 3.8)


def _draw_half_cycle(
    axes: Axes, cycle: HalfCycle, origin_s: float, unit_s: float
) -> None:
    charge = cycle.asked_current_ma >= 0
    time_s, voltage_v = thin_out(cycle.time_s, cycle.voltage_v, MAX_VOLTAGE_POINTS)
    axes.plot(
        (time_s - origin_s) / unit_s,
        voltage_v,
        color=BLUE if charge else ORANGE,
        linestyle="-" if charge else (0, (4, 1)),
        linewidth=1.5,
    )


def _draw_scan(axes: Axes, scan: Scan, origin_s: float, unit_s: float) -> None:
    axes.axvspan(
        (scan.begin_s - origin_s) / unit_s,
        (scan.end_s - origin_s) / unit_s,
        color=FAINT,
        alpha=0.55,
        linewidth=0,
        zorder=0,
    )


def _label_half_cycles(
    axes: Axes,
    half_cycles: Sequence[HalfCycle],
    origin_s: float,
    unit_s: float,
    most: int,
) -> None:
    every = max(1, -(-len(half_cycles) // most))
    for cycle in half_cycles[::every]:
        axes.annotate(
            cycle.label,
            (((cycle.time_s[0] + cycle.time_s[-1]) / 2 - origin_s) / unit_s, 0.99),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            fontsize=9,
        )


def thin_out(
    x: NDArray[np.float64], y: NDArray[np.float64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most `most` samples that keep each dip and peak of `y`.

    The samples are cut into equal groups; of each the lowest and the highest stay, so
    a collapse of one sample is still drawn.
    """
    if x.size <= most:
        return x, y
    groups = np.array_split(np.arange(x.size), most // 2)
    keep = {0, x.size - 1}
    for group in groups:
        keep.add(int(group[np.argmin(y[group])]))
        keep.add(int(group[np.argmax(y[group])]))
    chosen = np.array(sorted(keep))[:most]
    return x[chosen], y[chosen]
