"""How every figure looks, on paper and on the page. Same input, same bytes: no dates, no random ids."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

# What stands for text and grid: the HTML page puts its own colours, light or dark, in their place.
INK = "#1f2328"
GRID = "#d8dee4"
# Okabe and Ito's colours, told apart by colour-blind readers too. Their yellow, pale on white, gives way to a
# violet, and black to the ink; a test simulates how they are seen. Markers help where colours run out.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", INK, "#7B61FF")
MARKERS = "osD^vPXp*h<>"
# Inches: so wide that a phone shows a figure whole, its text still of a size to read.
WIDTH = 4.8
STYLE: Any = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    # Text stays text, and element ids depend on the drawing alone.
    "svg.fonttype": "none",
    "svg.hashsalt": "secateurs",
}


@dataclass(frozen=True)
class Picture:
    """One figure as PNG on white, and as SVG without a background."""

    png: bytes
    svg: str


@contextmanager
def house_style() -> Iterator[None]:
    """Figures drawn inside look like the report's."""
    with plt.rc_context(STYLE):
        yield


def picture(figure: Any) -> Picture:
    """Render a matplotlib figure and close it."""
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return Picture(png.getvalue(), svg.getvalue())
