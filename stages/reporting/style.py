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
# After Okabe and Ito, told apart by colour-blind readers too, each darkened until it stands out from white; a
# test simulates how they are seen. ON_DARK has the same colours, brightened, in the same order.
COLOURS = ("#0072B2", "#C77F00", "#009E73", "#C24A00", "#B84F8A", "#3A97CC", INK, "#7B61FF")
ON_DARK = ("#4DA3E0", "#F0A830", "#2FC79A", "#FF7A33", "#E391C0", "#8FD0F5", "#E6EDF3", "#A593FF")
# Where more lines than that are in one figure; markers tell those apart that are alike to the colour-blind.
MANY = (
    *(one for one in COLOURS if one != INK),
    "#6B4C2A",
    "#8A8A00",
    "#707880",
    "#B0006D",
    "#00585E",
    "#D88A8A",
)
MARKERS = "osD^vPXp*h<>dH"
# Inches, and dots of an inch: so wide that a phone shows a figure whole, its text of a size to read, and
# that two stand side by side on a screen of 1,400 dots, as `dvc plots diff` shows them.
WIDTH, DPI = 5.2, 120
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
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return Picture(png.getvalue(), svg.getvalue())
