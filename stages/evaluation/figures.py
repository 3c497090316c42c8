"""The report's pictures. Same input, same bytes: no dates, no random ids."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from stages.evaluation.metrics import Evidence, Round

# What stands for text and grid: the HTML page puts its own colours, light or dark, in their place.
INK = "#1f2328"
GRID = "#d8dee4"
# Okabe and Ito's colours, told apart by colour-blind readers too. Their yellow, pale on white, gives way to a
# violet, and black to the ink; a test simulates how they are seen. Markers help where colours run out.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", INK, "#7B61FF")
MARKERS = "osD^vPXp*h<>"
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


def draw_figures(evidence: Evidence) -> dict[str, Picture]:
    """Every figure of FIGURES, by name."""
    with house_style():
        return {name: picture(draw(evidence)) for name, (_, draw) in FIGURES.items()}


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


def perplexity_by_domain(evidence: Evidence) -> Any:
    """Paired bars, dense and pruned, one pair a domain."""
    models = {"dense": evidence.dense, "pruned": evidence.pruned}
    domains = list(evidence.dense["perplexity"]["domains"])
    places = np.arange(len(domains))
    figure, axes = plt.subplots(figsize=(6.2, 1.2 + 0.42 * len(domains)))
    for index, (name, evaluation) in enumerate(models.items()):
        values = [evaluation["perplexity"]["domains"][domain]["perplexity"] for domain in domains]
        bars = axes.barh(places + 0.4 * index - 0.2, values, 0.38, label=name, color=COLOURS[index])
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
    axes.set_yticks(places, domains)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.1)
    axes.set_xlabel("held-out perplexity per token (lower is better)")
    figure.legend(loc="outside upper right", ncols=len(models))
    return figure


def calibration_loss(evidence: Evidence) -> Any:
    """A line per domain: its calibration loss before each round's cut."""
    rounds = evidence.rounds
    # A round measures before it cuts, so its loss belongs to the sparsity of the round before.
    sparsity = [0.0, *(100 * entry["sparsity"] for entry in rounds[:-1])]
    figure, axes = plt.subplots(figsize=(6.2, 3.8))
    for index, domain in enumerate(rounds[0]["loss"]):
        axes.plot(
            sparsity,
            [entry["loss"][domain] for entry in rounds],
            label=domain,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
        )
    labels = [f"{entry['round']}\n{share:.1f}%" for entry, share in zip(rounds, sparsity, strict=True)]
    axes.set_xticks(sparsity, labels)
    axes.set_xlabel("decoder parameters removed before this round measured, on its own sequences")
    axes.set_ylabel("calibration loss (nats per token)")
    figure.legend(loc="outside right center")
    return figure


def kept_channels(evidence: Evidence) -> Any:
    """Units kept in each layer after each round, one panel for each kind of site."""
    kinds = list(evidence.rounds[-1]["kept"])
    figure, panels = plt.subplots(
        len(kinds), figsize=(6.2, 0.8 + 2.6 * len(kinds)), squeeze=False, sharex=True
    )
    for axes, kind in zip(panels[:, 0], kinds, strict=True):
        full = evidence.rounds[-1]["full"][kind]
        layers = range(len(evidence.rounds[-1]["kept"][kind]))
        axes.plot(layers, [full] * len(layers), color="#777777", linestyle="--", label="dense")
        for index, entry in enumerate(evidence.rounds):
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            label = f"{entry['round']} ({100 * entry['sparsity']:.1f}% removed)"
            axes.plot(layers, entry["kept"][kind], label=label, color=colour, marker=marker, markersize=3)
        axes.set_ylim(0, full * 1.08)
        axes.set_ylabel(f"{kind}: {'KV groups' if kind == 'attention' else 'channels'} kept")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    panels[-1, 0].set_xlabel("decoder layer")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center")
    return figure


def domain_agreement(evidence: Evidence) -> Any:
    """How alike two domains rank the channels, as a matrix of rank correlations in the last round."""
    last = evidence.rounds[-1]
    return _matrix(last["agreement"]["domains"], last["agreement"]["matrix"], last)


def _matrix(names: Sequence[str], values: Sequence[Sequence[float]], last: Round) -> Any:
    # A domain agrees with itself: the diagonal says nothing, and would take the colours from the rest.
    cells = np.ma.masked_array(values, mask=np.eye(len(names), dtype=bool))
    # Correlations are rarely negative here; the scale says so when they are.
    low, high = min([0.0, *cells.compressed()]), max([0.5, *cells.compressed()])
    size = 1.6 + 0.5 * len(names)
    figure, axes = plt.subplots(figsize=(size + 1.2, size))
    image = axes.pcolormesh(cells, vmin=low, vmax=high, cmap="cividis", edgecolors=GRID, linewidth=1)
    places = np.arange(len(names)) + 0.5
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.grid(visible=False)
    for row, column in zip(*np.nonzero(~cells.mask), strict=True):
        bright = cells[row, column] > low + 0.55 * (high - low)
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{cells[row, column]:.2f}",
            ha="center",
            va="center",
            color="black" if bright else "white",
            fontsize=8,
        )
    label = f"rank correlation, round {last['round']}"
    figure.colorbar(image, ax=axes, shrink=0.8, label=label)
    return figure


FIGURES: dict[str, tuple[str, Callable[[Evidence], Any]]] = {
    "perplexity_by_domain": ("Held-out perplexity, dense and pruned", perplexity_by_domain),
    "calibration_loss": ("Calibration loss before each round's cut, before healing", calibration_loss),
    "kept_channels": ("What each layer keeps after each round", kept_channels),
    "domain_agreement": ("How alike the domains rank the channels", domain_agreement),
}
