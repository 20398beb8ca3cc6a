"""How the report's figures are drawn: SVG in the page's light or dark colours.

Colours are those of Okabe and Ito, told apart by colour-blind readers; every series
also differs by marker or dash. Text stays text.
"""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

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
WIDE_IN, NARROW_IN = 10.0, 4.6

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
