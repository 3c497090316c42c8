"""The report's pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from secateurs.evaluation.scores import headline
from secateurs.kinds.names import parse_name
from secateurs.kinds.registry import kinds
from stages.reporting.metrics import Evidence, Round
from stages.reporting.style import COLOURS, GRID, MARKERS, WIDTH, Picture, house_style, picture


@dataclass(frozen=True)
class Drawing:
    """A figure: its title, what there is to see in it, and what draws it; None where there is nothing."""

    title: str
    note: str
    draw: Callable[[Evidence], Any]


def draw_figures(evidence: Evidence) -> dict[str, Picture]:
    """Every figure of FIGURES that there is something to show in, by name, its title in it."""
    found = {}
    with house_style():
        for name, one in FIGURES.items():
            figure = one.draw(evidence)
            if figure is not None:
                figure.suptitle(one.title, x=0.01, ha="left", fontsize=10, fontweight="bold")
                found[name] = picture(figure)
    return found


def perplexity_by_domain(evidence: Evidence) -> Any:
    """Paired bars, dense and pruned, one pair a domain, the ratio beside them."""
    models = {"dense": evidence.dense, "pruned": evidence.pruned}
    domains = list(evidence.dense["perplexity"]["domains"])
    places = np.arange(len(domains))
    figure, axes = plt.subplots(figsize=(WIDTH, 1.4 + 0.42 * len(domains)))
    values = {
        name: [evaluation["perplexity"]["domains"][domain]["perplexity"] for domain in domains]
        for name, evaluation in models.items()
    }
    for index, (name, own) in enumerate(values.items()):
        bars = axes.barh(places + 0.4 * index - 0.2, own, 0.38, label=name, color=COLOURS[index])
        labels = [f"{value:.1f}" for value in own]
        if index:
            labels = [
                f"{after:.1f} (x {after / before:.2f})"
                for before, after in zip(*values.values(), strict=True)
            ]
        axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.set_yticks(places, domains)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    # Room for the label of the longest bar.
    axes.set_xlim(0, 1.3 * max(map(max, values.values())))
    axes.set_xlabel("perplexity per token of held-out text (lower is better)")
    figure.legend(loc="outside lower center", ncols=len(models))
    return figure


def accuracy_by_task(evidence: Evidence) -> Any:
    """A point with its standard error for each task and model; None without tasks."""
    tasks = list(evidence.dense["accuracy"])
    if not tasks:
        return None
    figure, axes = plt.subplots(figsize=(WIDTH, 1.6 + 0.45 * len(tasks)))
    for index, (name, evaluation) in enumerate((("dense", evidence.dense), ("pruned", evidence.pruned))):
        found = [headline(evaluation["accuracy"][task]) for task in tasks]
        axes.errorbar(
            [value for value, _ in found],
            np.arange(len(tasks)) + 0.24 * index - 0.12,
            xerr=[error for _, error in found],
            fmt=MARKERS[index],
            color=COLOURS[index],
            capsize=3,
            label=name,
        )
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_xlabel("accuracy (higher is better); bars: one standard error")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def healing_error(evidence: Evidence) -> Any:
    """What each layer misses, cut and then healed, one panel a kind of site; None without healing."""
    kinds = list(dict.fromkeys(parse_name(one["site"]).kind for one in evidence.healing))
    if not kinds:
        return None
    figure, panels = _panels_by_layer(kinds, 1.2)
    for axes, kind in zip(panels, kinds, strict=True):
        rows = [one for one in evidence.healing if parse_name(one["site"]).kind == kind]
        for index, (key, label) in enumerate((("before", "cut"), ("after", "cut and healed"))):
            axes.plot(
                [one["layer"] for one in rows],
                [100 * one[key] for one in rows],
                label=label,
                color=COLOURS[index],
                marker=MARKERS[index],
                markersize=3,
                linestyle="-" if len(rows) == len({one["layer"] for one in rows}) else "",
            )
        axes.set_ylim(bottom=0)
        axes.set_ylabel(f"{kind}: missed, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _panels_by_layer(kinds: Sequence[str], rest: float) -> tuple[Any, list[Any]]:
    """A figure with a panel for each kind of site, one below the other, over the decoder layers.

    rest: inches of height for all that is no panel.
    """
    figure, panels = plt.subplots(
        len(kinds), figsize=(WIDTH, rest + 2.2 * len(kinds)), squeeze=False, sharex=True
    )
    for axes in panels[:, 0]:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    panels[-1, 0].set_xlabel("decoder layer")
    return figure, list(panels[:, 0])


def uniform(evidence: Evidence) -> bool:
    """Whether all layers keep the same after each round, so that a figure of them would be flat lines."""
    return all(len(set(widths)) == 1 for entry in evidence.rounds for widths in entry["kept"].values())


def kept_channels(evidence: Evidence) -> Any:
    """Units kept in each layer after each round, one panel a kind of site; None where all keep the same."""
    if uniform(evidence):
        return None
    names = list(evidence.rounds[-1]["kept"])
    if not names:
        return None
    figure, panels = _panels_by_layer(names, 1.4)
    for axes, kind in zip(panels, names, strict=True):
        full = evidence.rounds[-1]["full"][kind]
        layers = range(len(evidence.rounds[-1]["kept"][kind]))
        axes.plot(layers, [full] * len(layers), color="#777777", linestyle="--", label="dense")
        for index, entry in enumerate(evidence.rounds):
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            label = f"{entry['round']}: {100 * entry['sparsity']:.1f}% removed"
            axes.plot(layers, entry["kept"][kind], label=label, color=colour, marker=marker, markersize=3)
        axes.set_ylim(0, full * 1.08)
        axes.set_ylabel(f"{kind}: {kinds()[kind].unit} kept")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def domain_agreement(evidence: Evidence) -> Any:
    """How alike two domains rank what can go, as a matrix of rank correlations in the last round."""
    last = evidence.rounds[-1]
    if not last["agreement"]["matrix"]:
        return None
    return _matrix(last["agreement"]["domains"], last["agreement"]["matrix"], last)


def _matrix(names: Sequence[str], values: Sequence[Sequence[float]], last: Round) -> Any:
    # A domain agrees with itself: the diagonal says nothing, and would take the colours from the rest.
    cells = np.ma.masked_array(values, mask=np.eye(len(names), dtype=bool))
    # Correlations are rarely negative here; the scale says so when they are.
    low, high = min([0.0, *cells.compressed()]), max([0.5, *cells.compressed()])
    figure, axes = plt.subplots(figsize=(WIDTH, WIDTH))
    axes.pcolormesh(cells, vmin=low, vmax=high, cmap="cividis", edgecolors=GRID, linewidth=1)
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
    axes.set_xlabel(f"rank correlation of scores, round {last['round']}")
    return figure


FIGURES: dict[str, Drawing] = {
    "perplexity_by_domain": Drawing(
        "Held-out perplexity by domain",
        "Each domain's text was held out from pruning and healing. In brackets: pruned relative to dense.",
        perplexity_by_domain,
    ),
    "accuracy_by_task": Drawing(
        "Zero-shot accuracy by task",
        "Both models answer the same items, so bars may overlap where the difference is sure: the table has "
        "pruned - dense with the standard error of the items' own differences.",
        accuracy_by_task,
    ),
    "healing_error": Drawing(
        "What each layer misses of the dense model",
        "The share of a sublayer's target output, on the healing text, that its projection misses: after the "
        "cut, and after its refit in closed form.",
        healing_error,
    ),
    "kept_channels": Drawing(
        "What each layer keeps after each round",
        "Where a line is low, the model was spare.",
        kept_channels,
    ),
    "domain_agreement": Drawing(
        "How alike the domains rank what can go",
        "1 is the same order, 0 is no relation: where it is low, calibrating on one domain would cut what "
        "the other needs.",
        domain_agreement,
    ),
}
