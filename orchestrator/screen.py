"""The operator's live screen: a rich panel on a terminal, log lines elsewhere."""

import logging
import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .snapshot import NOT_CONNECTED, Entry, Snapshot
from .state import ExperimentState
from .tiled_copy import CopyStatus
from .wording import charge_unit, describe_step

_log = logging.getLogger(__name__)

_SPARKS = "▁▂▃▄▅▆▇█"
_LEVEL_STYLE = {
    "info": "",
    "good": "green",
    "decision": "cyan",
    "warning": "yellow",
    "alarm": "bold white on red",
}
_YES_NO = {True: "cracks join both electrodes", False: "no crack crosses"}
_OUTCOME_STYLE = {
    "done": "green",
    "done_by_rule": "green",
    "short_circuit": "green",
    "stopped": "yellow",
}
_SIDE_BY_SIDE_WIDTH = 76
DRAWING_PERIOD_S = 0.25
VOLTAGE_SPAN_LEAST_V = 0.02
PLAIN_PROGRESS_PERIOD_S = 60.0


class Screen:
    """Show an `ExperimentState` while a ``with`` block runs.

    Parameters
    ----------
    state : ExperimentState
        Fed by other threads.
    console : rich.console.Console, optional
        Where to draw; the terminal by default. Where it is not a terminal, one plain
        line is written for each event and one for progress every minute.
    """

    def __init__(self, state: ExperimentState, console: Console | None = None) -> None:
        self._state = state
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._shown = 0

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._begin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Draw the last state once more where it stays, and end."""
        self._end()
        if self._console.is_terminal:
            with _never_in_the_way():
                self._console.print(self._drawn(self._console.width, 0))

    @contextmanager
    def paused(self) -> Iterator[Console]:
        """Give the terminal back for a question, then go on drawing."""
        self._end()
        try:
            yield self._console
        finally:
            self._begin()

    def _begin(self) -> None:
        self._closing.clear()
        write = self._draw_again if self._console.is_terminal else self._write_lines
        self._thread = threading.Thread(target=write, name="screen", daemon=True)
        self._thread.start()

    def _end(self) -> None:
        self._closing.set()
        with self._state.changed:
            self._state.changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    # --- the thread that draws ----------------------------------------------------

    def _draw_again(self) -> None:
        with (
            _never_in_the_way(),
            Live(
                console=self._console,
                screen=True,
                auto_refresh=False,  # its own thread would die of a lost terminal
                get_renderable=lambda: self._drawn(*self._console.size),
                redirect_stdout=False,
                redirect_stderr=False,
            ) as live,
        ):
            while not self._closing.wait(DRAWING_PERIOD_S):
                live.refresh()

    def _drawn(self, width: int, height: int) -> RenderableType:
        try:
            return draw(self._state.snapshot(), width, height)
        except Exception as error:
            _log.exception("the screen could not be drawn")
            return Text(f"no picture ({error!r}); the experiment goes on, see log.txt")

    def _write_lines(self) -> None:
        with _never_in_the_way():
            self._write_new_lines()

    def _write_new_lines(self) -> None:
        next_progress_s = time.monotonic() + PLAIN_PROGRESS_PERIOD_S
        snapshot = self._state.snapshot()
        if snapshot.simulated and self._shown == 0:
            self._write("*** SIMULATED BEAMLINE: no real cell, no real beam ***")
        while True:
            closing = self._closing.is_set()
            entries = self._state.entries_since(self._shown)
            for entry in entries:
                self._write(plain_line(entry))
                self._shown = entry.number
            if closing:
                return
            if time.monotonic() >= next_progress_s:
                next_progress_s += PLAIN_PROGRESS_PERIOD_S
                self._write(progress_line(self._state.snapshot()))
            with self._state.changed:
                self._state.changed.wait(timeout=1.0)

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def _never_in_the_way() -> Iterator[None]:
    """Log what goes wrong with a terminal: a lost one must not end an experiment."""
    try:
        yield
    except Exception:
        _log.exception("the terminal cannot be written")


def draw(snapshot: Snapshot, width: int, height: int) -> RenderableType:
    """Return the whole screen for a terminal of `width` × `height` characters.

    A height of 0 draws all of it, for a screen that scrolls.
    """
    rows: list[RenderableType] = []
    if snapshot.simulated:
        rows.append(
            Text(
                "SIMULATED BEAMLINE · no real cell, no real beam",
                style="bold black on yellow",
                justify="center",
            )
        )
    rows.append(_headline(snapshot))
    rows.extend(
        Text(f" {_clock(alarm.time_s)}  {alarm.text}", style=_LEVEL_STYLE["alarm"])
        for alarm in snapshot.alarms
    )
    if snapshot.question:
        rows.append(Text(f" {snapshot.question} ", style="bold black on cyan"))
    rows.append(_panel(_steps(snapshot, width), _step_title(snapshot), width))
    cell = _panel(_cell(snapshot, width), "Cell and beam", width)
    measured = _panel(_measured(snapshot), _measured_title(snapshot), width)
    wide = width >= _SIDE_BY_SIDE_WIDTH
    if wide:
        side_by_side = Table.grid(expand=True, padding=0)
        side_by_side.add_column(ratio=1)
        side_by_side.add_column(ratio=1)
        side_by_side.add_row(cell, measured)
        rows.append(side_by_side)
    else:
        rows.extend([cell, measured])
    rows.append(_panel(_analysis(snapshot), "Analysis", width))
    used = len(snapshot.alarms) + bool(snapshot.question) + (20 if wide else 28)
    room = max(min(height - used, 20), 3) if height else 8
    rows.append(_panel(_log_lines(snapshot.entries[-room:]), "Log", width))
    return Group(*rows)


def plain_line(entry: Entry) -> str:
    """Return a log line for a screen that is not a terminal."""
    loud = entry.level in ("warning", "alarm")
    level = f"{entry.level.upper()}: " if loud else ""
    return f"{_clock(entry.time_s)}  {level}{entry.text}"


def progress_line(snapshot: Snapshot) -> str:
    """Return the state of the experiment in one line."""
    parts = [_clock(snapshot.now_s), " "]
    if snapshot.planned:
        parts.append(f"step {snapshot.position or snapshot.completed}")
        parts.append(f"of {snapshot.planned},")
    parts.append(snapshot.phase)
    if snapshot.progress is not None and snapshot.progress.fraction > 0:
        parts.append(f"{100 * snapshot.progress.fraction:.0f} %")
    if snapshot.experiment_remaining_s is not None:
        parts.append(f"· at most {_duration(snapshot.experiment_remaining_s)} left")
    return " ".join(parts)


# --- parts --------------------------------------------------------------------------


def _headline(snapshot: Snapshot) -> RenderableType:
    end_s = snapshot.ended_s if snapshot.ended_s is not None else snapshot.now_s
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    name = Text(f" {snapshot.experiment_id}", style="bold")
    elapsed = Text(
        f"began {_clock(snapshot.started_s)} · {_duration(end_s - snapshot.started_s)} "
    )
    grid.add_row(name, elapsed)
    return grid


def _step_title(snapshot: Snapshot) -> str:
    if snapshot.outcome is not None:
        return "Ended"
    of = f" of {snapshot.planned}" if snapshot.planned else ""
    if snapshot.step is None:
        return f"{snapshot.completed}{of} steps done"
    number = snapshot.position or snapshot.step.index + 1
    attempt = f" · attempt {snapshot.attempt + 1}" if snapshot.attempt else ""
    return f"Step {number}{of} · {describe_step(snapshot.step)}{attempt}"


def _steps(snapshot: Snapshot, width: int) -> RenderableType:
    if snapshot.outcome is not None:
        style = _OUTCOME_STYLE.get(snapshot.outcome, "bold red")
        text = Text(snapshot.outcome.replace("_", " "), style=style)
        if snapshot.reason:
            text.append(f" · {snapshot.reason}", style="default")
        return text
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(width=18 if width >= 100 else 11, no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(width=5, justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    progress = snapshot.progress
    fraction = progress.fraction if progress is not None else 0.0
    grid.add_row(
        Text(snapshot.phase, style="bold"),
        ProgressBar(total=1.0, completed=fraction),
        f"{100 * fraction:.0f} %",
        _progress_text(snapshot),
    )
    if snapshot.planned:
        whole = snapshot.completed / snapshot.planned
        remaining_s = snapshot.experiment_remaining_s
        left = "" if remaining_s is None else f"≤ {_duration(remaining_s)} left"
        if remaining_s is not None and width >= 100:
            left += f" · {_clock(snapshot.now_s + remaining_s, seconds=False)}"
        grid.add_row(
            "experiment",
            ProgressBar(total=1.0, completed=whole),
            f"{100 * whole:.0f} %",
            left,
        )
    return grid


def _progress_text(snapshot: Snapshot) -> str:
    progress = snapshot.progress
    parts = []
    if progress is not None:
        total = f" / {progress.total:.0f}" if math.isfinite(progress.total) else ""
        parts.append(f"{progress.done:.0f}{total} {progress.unit}")
    if snapshot.step_remaining_s is not None:
        parts.append(f"{_duration(snapshot.step_remaining_s)} left")
    return " · ".join(parts)


def _cell(snapshot: Snapshot, width: int) -> RenderableType:
    readings = snapshot.readings
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(width=9, no_wrap=True)
    grid.add_column(ratio=1, no_wrap=True)
    spark_width = max((width // 2 if width >= _SIDE_BY_SIDE_WIDTH else width) - 27, 8)
    voltage = Text(_value(readings, "voltage_v", "+.4f", "V").ljust(11))
    bars = sparkline(snapshot.voltages_v, spark_width, VOLTAGE_SPAN_LEAST_V)
    voltage.append(bars, style="cyan")
    grid.add_row("voltage", voltage)
    current = _value(readings, "current_ma", "+.3f", "A", scale=1000, prefix="µ")
    grid.add_row("current", current)
    relay = readings.get("relay")
    grid.add_row(
        "relay", _switch(relay, driven="Closed", driven_note="cell driven", idle="Open")
    )
    grid.add_row("charge", _charge(readings.get("gross_charge_c")))
    shutter = readings.get("shutter")
    beam = _switch(shutter, driven="Open", driven_note="beam on", idle="Closed")
    grid.add_row("shutter", beam)
    ring = _value(readings, "ring_current_ma", ".1f", "mA")
    rotation = _value(readings, "rotation_deg", ".2f", "°")
    grid.add_row("ring", ring if rotation == "-" else f"{ring}  stage {rotation}")
    return grid


def _switch(
    value: object, *, driven: str, driven_note: str, idle: str
) -> RenderableType:
    """Draw a relay or shutter: filled where something flows, hollow where not."""
    if value == driven:
        return Text(f"● {driven} ({driven_note})", style="bold yellow")
    if value == idle:
        return Text(f"○ {idle}", style="green")
    style = "bold white on red" if value == NOT_CONNECTED else "yellow"
    return Text("-" if value is None else str(value), style=style)


def _measured_title(snapshot: Snapshot) -> str:
    label = snapshot.row.get("label")
    return "Last measured" if label is None else f"Last measured · label {label}"


def _measured(snapshot: Snapshot) -> RenderableType:
    row = snapshot.row
    if not row:
        return Text("no tomogram measured yet", style="dim")
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(width=9, no_wrap=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    volume = _value(row, "crack_volume_um3", ".3e", "")
    sd = _value(row, "crack_volume_sd_um3", ".0e", "")
    if volume != "-":
        volume += " µm³" if sd == "-" else f" ± {sd} µm³"
    grid.add_row("cracks", volume)
    fraction = _value(row, "crack_fraction", ".2f", "%", scale=100)
    grid.add_row("", "" if fraction == "-" else f"{fraction} of the pellet")
    grid.add_row("width", _value(row, "crack_width_peak_um", ".2f", "µm (peak)"))
    grid.add_row("lithium", _value(row, "lithium_volume_um3", ".3e", "µm³"))
    grid.add_row("filling", _value(row, "filling_fraction", ".2f", "%", scale=100))
    reason = row.get("reason")
    penetrates = row.get("penetrates")
    if reason:
        grid.add_row(Text("missing", style="yellow"), Text(str(reason)))
    else:
        crossing = "-" if penetrates is None else _YES_NO[bool(penetrates)]
        grid.add_row("crossing", crossing)
    return grid


def _analysis(snapshot: Snapshot) -> RenderableType:
    status = snapshot.analysis
    text = Text()
    if not status.ready:
        text.append("worker warming up · ", style="yellow")
    if status.scan_id:
        text.append(f"{status.scan_id} {status.stage} {100 * status.fraction:.0f} % · ")
    waiting_style = "yellow" if status.waiting > 1 else ""
    text.append(f"{status.waiting} waiting", style=waiting_style)
    if status.waiting:
        text.append(f", oldest {_duration(status.lag_s)}", style=waiting_style)
    text.append(f" · {status.measured} measured · ")
    text.append(f"{status.failed} failed", style="yellow" if status.failed else "")
    if status.restarts:
        text.append(f" · worker restarted {status.restarts}×", style="yellow")
    if snapshot.copy is not None:
        text.append(_copied(snapshot.copy))
    return text


def _copied(status: CopyStatus) -> Text:
    text = Text(f" · Tiled {status.sent} sent")
    if status.waiting:
        behind = f", {status.waiting} waiting, oldest {_duration(status.lag_s)}"
        text.append(behind, style="yellow" if status.fault else "")
    if status.refused:
        text.append(f", {status.refused} not taken", style="yellow")
    return text


def _log_lines(entries: Sequence[Entry]) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(width=8, no_wrap=True, style="dim")
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for entry in entries:
        grid.add_row(
            _clock(entry.time_s), Text(entry.text, style=_LEVEL_STYLE[entry.level])
        )
    return grid


def _panel(content: RenderableType, title: str, width: int) -> Panel:
    return Panel(
        content,
        title=title,
        title_align="left",
        border_style="dim",
        padding=(0, 1),
        width=None if width >= 20 else 20,
    )


# --- words and numbers ----------------------------------------------------------------


def sparkline(values: Sequence[float], width: int, least_span: float = 0.0) -> str:
    """Return the last `width` values as one line of bars, scaled to their range.

    A range smaller than `least_span` is drawn as that: noise shall look like noise.
    """
    shown = values[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    if high - low < max(least_span, 1e-12):
        low = (low + high - max(least_span, 1e-12)) / 2
        high = low + max(least_span, 1e-12)
    top = len(_SPARKS) - 1
    return "".join(
        _SPARKS[round((value - low) / (high - low) * top)] for value in shown
    )


def _value(
    values: Mapping[str, object],
    name: str,
    fmt: str,
    unit: str,
    *,
    scale: float = 1.0,
    prefix: str = "",
) -> str:
    value = values.get(name)
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return f"{value * scale:{fmt}} {prefix}{unit}".rstrip()


def _charge(charge_c: object) -> str:
    if not isinstance(charge_c, int | float) or not math.isfinite(charge_c):
        return "-"
    scale, unit = charge_unit(charge_c)
    return f"{charge_c * scale:.4g} {unit} gross"


def _clock(time_s: float, *, seconds: bool = True) -> str:
    return time.strftime("%H:%M:%S" if seconds else "%H:%M", time.localtime(time_s))


def _duration(seconds: float) -> str:
    whole = max(round(seconds), 0)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes:
        return f"{minutes} min {left:02d} s"
    return f"{left} s"
