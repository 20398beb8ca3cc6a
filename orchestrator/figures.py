"""The report's figures of what was measured, against the label of the state."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from analysis.measurement.trends import GrowthFit, fit_growth
from orchestrator.drawing import BLUE, GREEN, INK, ORANGE, RED, render
from orchestrator.report_data import ExperimentData, finite, label_number

_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


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
