"""The report's figures, as SVG that follows the page's light or dark colours.

Colours are those of Okabe and Ito, told apart by colour-blind readers; every series
also differs by marker or dash. Text stays text.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from analysis.measurement.trends import GrowthFit, fit_growth
from orchestrator.report_data import (
    ExperimentData,
    HalfCycle,
    Scan,
    finite,
    label_number,
)

# Stand-ins that become CSS variables, so that one SVG serves light and dark pages.
INK, FAINT = "#010203", "#040506"
BLUE, ORANGE, GREEN, RED = "#0072b2", "#d55e00", "#009e73", "#c2185b"
_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--line)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
    RED: "var(--red)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "figure.constrained_layout.use": True,
}
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
WIDE_IN, NARROW_IN = 10.0, 4.6
MAX_VOLTAGE_POINTS = 4000

Drawing = Callable[[Figure, bool], None]


def render(name: str, draw: Drawing, height_in: float, narrow_height_in: float) -> str:
    """Return a figure as two inline SVGs, one for wide pages and one for narrow.

    Parameters
    ----------
    name : str
        Unique on the page; keeps the ids of the SVGs apart.
    draw : callable
        Called with the empty figure and whether it is the narrow one.
    """
    parts = []
    for variant, width, height in (
        ("wide", WIDE_IN, height_in),
        ("narrow", NARROW_IN, narrow_height_in),
    ):
        with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{name}-{variant}"}):
            figure = Figure(figsize=(width, height))
            draw(figure, variant == "narrow")
            buffer = io.StringIO()
            figure.savefig(
                buffer,
                format="svg",
                transparent=True,
                metadata={"Date": None, "Creator": None},
            )
        parts.append(_inline(buffer.getvalue(), f"{name}-{variant}", variant))
    return "\n".join(parts)


def _inline(svg: str, prefix: str, variant: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg class="{variant}" role="img"', 1)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"font: ([0-9.]+)px[^;\"]*", r"font-size: \1px", svg)
    return svg


# --- voltage ------------------------------------------------------------------------


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


# --- measurements against label -----------------------------------------------------


def volumes_figure(data: ExperimentData) -> str | None:
    """Return crack volume, lithium volume and filling fraction against label."""
    rows = [row for row in data.rows if np.isfinite(label_number(row.get("label")))]
    measured = [row for row in rows if np.isfinite(finite(row, "crack_volume_um3"))]
    if not measured:
        return None
    label = np.array([label_number(row["label"]) for row in measured])

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots(3, 1, sharex=True) if narrow else figure.subplots(1, 3)
        crack, lithium, filling = axes
        scale, unit = _power_of_ten(
            [finite(row, "crack_volume_um3") for row in measured], "µm³"
        )
        _series(crack, label, measured, "crack_volume_um3", BLUE, "o", scale)
        _truth(crack, data.truth, "crack_volume_true_um3", scale)
        fit = growth(data)
        if fit is not None:
            dense = np.linspace(1.0, label.max(), 200)
            crack.plot(
                dense,
                scale * fit.volume_um3(dense),
                color=INK,
                linestyle="--",
                linewidth=1.0,
                label=f"{fit.law} law",
            )
        crack.set_ylabel(f"crack volume ({unit})")
        scale, unit = _power_of_ten(
            [finite(row, "lithium_volume_um3") for row in measured], "µm³"
        )
        _series(lithium, label, measured, "lithium_volume_um3", ORANGE, "s", scale)
        lithium.set_ylabel(f"Li volume, gross ({unit})")
        _series(filling, label, measured, "filling_fraction", GREEN, "D", 100.0)
        filling.set_ylabel("filling fraction (%)")
        for axis in axes:
            axis.set_ylim(bottom=0)
            _label_axis(axis)
            if narrow and axis is not filling:
                axis.set_xlabel("")
        handles, labels = crack.get_legend_handles_labels()
        if len(labels) > 1:
            columns = 2 if narrow else 3
            figure.legend(handles, labels, loc="outside upper left", ncols=columns)

    return render("volumes", draw, 3.4, 7.6)


def growth(data: ExperimentData) -> GrowthFit | None:
    """Return the law that the crack volumes follow best; None before three states."""
    label, (volume, sd) = _columns(
        data.rows, ["crack_volume_um3", "crack_volume_sd_um3"], need=0
    )
    known_sd = np.where(np.isfinite(sd), sd, 0.0)
    fits = fit_growth(label.tolist(), volume.tolist(), known_sd.tolist())
    return fits[0] if fits else None


def growth_figure(data: ExperimentData) -> str | None:
    """Return the speed at which the cracks grow, by the fitted law."""
    fit = growth(data)
    if fit is None:
        return None
    last = max(label_number(row.get("label")) for row in data.rows)
    label = np.linspace(1.0, last, 200)
    speed, low, high = fit.speed_um3(label)

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        scale, unit = _power_of_ten(speed.tolist(), "µm³ per label")
        axes.fill_between(
            label, scale * low, scale * high, color=BLUE, alpha=0.2, linewidth=0
        )
        axes.plot(label, scale * speed, color=BLUE)
        axes.set_ylim(bottom=min(0.0, float(scale * low.min())))
        axes.set_ylabel(f"growth ({unit})")
        _label_axis(axes)

    return render("growth", draw, 2.6, 2.8)


def error_figure(data: ExperimentData) -> str | None:
    """Return the error of the crack volume against the simulation's truth."""
    label = np.array([label_number(row.get("label")) for row in data.truth])
    error = np.array([finite(row, "crack_volume_error_frac") for row in data.truth])
    known = np.isfinite(label) & np.isfinite(error)
    if not known.any():
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        axes.axhline(0.0, color=INK, linewidth=0.8)
        axes.vlines(label[known], 0.0, 100 * error[known], color=BLUE, linewidth=1.2)
        axes.plot(label[known], 100 * error[known], "o", color=BLUE)
        _label_axis(axes)
        axes.set_ylabel("error of crack volume (%)")

    return render("error", draw, 2.6, 2.8)


def widths_figure(data: ExperimentData) -> str | None:
    """Return the distribution of crack widths against label, as boxes."""
    names = ("q05", "q25", "median", "q75", "q95", "peak")
    label, values = _columns(
        data.rows, [f"crack_width_{name}_um" for name in names], need=2
    )
    if not label.size:
        return None
    q05, q25, median, q75, q95, peak = values

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        axes.vlines(label, q05, q95, color=BLUE, linewidth=1.2, label="5 to 95 %")
        axes.vlines(label, q25, q75, color=BLUE, linewidth=6, label="25 to 75 %")
        axes.plot(
            label,
            median,
            linestyle="none",
            marker="_",
            markersize=14,
            markeredgewidth=2,
            color=INK,
            label="median",
        )
        axes.plot(label, peak, "D", color=ORANGE, markersize=5, label="peak")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("crack width (µm)")
        _label_axis(axes)
        columns = 2 if narrow else 4
        figure.legend(loc="outside upper left", ncols=columns, handlelength=1.6)

    return render("widths", draw, 3.2, 3.6)


def width_distribution_figure(data: ExperimentData) -> str | None:
    """Return crack volume over crack width, one line for each of a few states."""
    known = [(label, *curve) for label, curve in data.widths.items()]
    if not known:
        return None
    # The eye tells five lines apart, not thirty: the first, the last, some between.
    chosen = sorted({round(i) for i in np.linspace(0, len(known) - 1, 5)})

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        scale, unit = _power_of_ten(
            [float((v / np.diff(edges)).max()) for _, edges, v in known], "µm³/µm"
        )
        styles = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
        colours = (BLUE, GREEN, ORANGE, RED, INK)
        for place, style, colour in zip(chosen, styles, colours, strict=False):
            label, edges_um, volume_um3 = known[place]
            per_um = scale * volume_um3 / np.diff(edges_um)
            middle = (edges_um[:-1] + edges_um[1:]) / 2
            axes.plot(middle, per_um, linestyle=style, color=colour, label=label)
        reach_um = max(
            float(edges_um[1:][np.cumsum(v) >= 0.995 * v.sum()][0])
            for _, edges_um, v in known
        )
        axes.set_xlim(0, 1.2 * reach_um)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("crack width (µm)")
        axes.set_ylabel(f"crack volume per width ({unit})")
        columns = 3 if narrow else 5
        figure.legend(
            loc="outside upper left", ncols=columns, title="label", alignment="left"
        )

    return render("distribution", draw, 3.6, 3.9)


def thickness_figure(data: ExperimentData) -> str | None:
    """Return how the thickness of pellet and electrodes changed since the first."""
    layers = (
        ("pellet", "LPS pellet", BLUE, "o"),
        ("anode", "Li, anode", ORANGE, "s"),
        ("cathode", "Li, cathode", GREEN, "D"),
    )
    drawn = []
    for name, legend, colour, marker in layers:
        label, (value, sd) = _columns(
            data.rows, [f"{name}_thickness_um", f"{name}_thickness_sd_um"], need=0
        )
        if label.size > 1:
            drawn.append((legend, colour, marker, label, value, sd))
    if not drawn:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.subplots()
        axes.axhline(0.0, color=INK, linewidth=0.8)
        for legend, colour, marker, label, value, sd in drawn:
            axes.errorbar(
                label,
                value - value[0],
                yerr=np.where(np.isfinite(sd), sd, 0.0),
                color=colour,
                marker=marker,
                markersize=5,
                capsize=2.5,
                label=f"{legend} (first {value[0]:.1f} µm)",
            )
        axes.set_ylabel("change of thickness (µm)")
        _label_axis(axes)
        columns = 1 if narrow else 3
        figure.legend(loc="outside upper left", ncols=columns, handlelength=1.6)

    return render("thickness", draw, 3.2, 3.8)


def _columns(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], need: int
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Return labels and columns of the rows where the column `need` has a number."""
    label = np.array([label_number(row.get("label")) for row in rows], dtype=float)
    values = [np.array([finite(row, name) for row in rows]) for name in names]
    if not rows:
        return label, values
    known = np.isfinite(label) & np.isfinite(values[need])
    return label[known], [column[known] for column in values]


def _label_axis(axes: Axes) -> None:
    axes.set_xlabel("label (charge N, discharge N.5)")
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(_short_number))


def _series(
    axes: Axes,
    label: NDArray[np.float64],
    rows: Sequence[Mapping[str, Any]],
    name: str,
    colour: str,
    marker: str,
    scale: float,
) -> None:
    value = scale * np.array([finite(row, name) for row in rows])
    stem = name.removesuffix("_um3")
    suffix = name[len(stem) :]
    sd = scale * np.array([finite(row, f"{stem}_sd{suffix}") for row in rows])
    known = np.isfinite(value)
    axes.errorbar(
        label[known],
        value[known],
        yerr=np.where(np.isfinite(sd), sd, 0.0)[known],
        color=colour,
        marker=marker,
        markersize=5,
        capsize=2.5,
        label="measured",
    )


def _truth(
    axes: Axes, truth: Sequence[Mapping[str, Any]], name: str, scale: float
) -> None:
    label = np.array([label_number(row.get("label")) for row in truth])
    value = scale * np.array([finite(row, name) for row in truth])
    known = np.isfinite(label) & np.isfinite(value)
    if known.any():
        axes.plot(
            label[known],
            value[known],
            linestyle="none",
            marker="o",
            markersize=10,
            markerfacecolor="none",
            markeredgecolor=INK,
            markeredgewidth=1.0,
            label="simulation's truth",
        )


def _power_of_ten(values: Sequence[float], unit: str) -> tuple[float, str]:
    """Return a scale that gives short numbers on an axis, and the unit that says so."""
    largest = max((abs(value) for value in values if np.isfinite(value)), default=0.0)
    if not largest >= 1e4:
        return 1.0, unit
    exponent = int(np.floor(np.log10(largest)))
    return 10.0**-exponent, f"10{str(exponent).translate(_SUPERSCRIPT)} {unit}"


def _short_number(value: float, _position: object = None) -> str:
    return f"{value:g}"
