"""Many runs of the pipeline in one table and one figure, with those that no other run beats marked."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt

from stages.reporting.comparison import flatten
from stages.reporting.metrics import Metrics
from stages.reporting.style import COLOURS, INK, MARKERS, WIDTH, Picture, house_style, picture

Row = tuple[str, ...]

# The settings that say what a model is scored on: figures under others cannot be compared.
SCORING = (
    *("model.", "domains.", "benchmarks.", "evaluate.limit", "evaluate.seed", "corpus.seed"),
    *("corpus.sequence_length", "corpus.heldout_sequences", "corpus.heldout_share"),
)


@dataclass(frozen=True)
class Trial:
    """One run: its name, all its settings as `a.b.c: value`, and its measures.

    perplexity: geometric mean over the held-out domains; ratio: of it, pruned / dense. accuracy: (mean, its
    standard error) over the zero-shot tasks, None without tasks. removed: share of the decoder's parameters.
    """

    name: str
    settings: Mapping[str, Any]
    parameters: int
    removed: float
    perplexity: float
    ratio: float
    accuracy: tuple[float, float] | None


def trial(name: str, params: Mapping[str, Any], metrics: Metrics, model: str = "pruned") -> Trial:
    """A run from its params.yaml and data/metrics.json; `model: dense` makes its dense model a point."""
    measures = metrics[model]
    # Without tasks there is nothing there, and DVC shows no key of nothing.
    accuracy = measures.get("accuracy", {})
    pruned = model == "pruned"
    return Trial(
        name,
        flatten(params),
        measures["parameters"],
        measures["sparsity"]["decoder"] if pruned else 0.0,
        measures["perplexity"]["geometric_mean"],
        metrics["ratio"]["perplexity"]["geometric_mean"] if pruned else 1.0,
        (accuracy["mean"], accuracy["mean_stderr"]) if "mean" in accuracy else None,
    )


def varied(trials: Sequence[Trial]) -> list[str]:
    """The settings in which the trials differ, in the order of params.yaml."""
    names = dict.fromkeys(name for one in trials for name in one.settings)
    return [name for name in names if len({repr(one.settings.get(name, ...)) for one in trials}) > 1]


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, loss): is there no other point that is at most as high in both?"""
    return [
        not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
        for point in points
    ]


def sweep_table(trials: Sequence[Trial]) -> tuple[Row, list[Row]]:
    """Column names and rows, smallest model first; the settings that differ have a column each."""
    settings = varied(trials)
    columns = (
        "run",
        *settings,
        "decoder removed",
        "parameters",
        "perplexity",
        "ratio",
        "accuracy",
        "best for its size",
    )
    ordered = sorted(trials, key=lambda one: (one.parameters, one.perplexity))
    fronts = [("perplexity", _by_perplexity(ordered)), ("accuracy", _by_accuracy(ordered))]
    rows = []
    for one in ordered:
        best = [name for name, front in fronts if one.name in front]
        rows.append(
            (
                one.name,
                *(str(one.settings.get(name, "")) for name in settings),
                f"{one.removed:.1%}",
                f"{one.parameters:,}",
                f"{one.perplexity:.2f}",
                f"{one.ratio:.3f}",
                "" if one.accuracy is None else f"{one.accuracy[0]:.3f} ± {one.accuracy[1]:.3f}",
                ", ".join(best),
            )
        )
    return columns, rows


def draw_sweep(trials: Sequence[Trial], dense: Trial, by: str | None = None) -> Picture:
    """Perplexity and accuracy against parameters, the best for their size filled.

    by: a setting to colour by. Only perplexity has a line: accuracies have errors as large as its steps.
    """
    panels = [("held-out perplexity\n(geometric mean, lower is better)", _by_perplexity, _perplexity)]
    scored = [one for one in trials if one.accuracy is not None]
    if scored:
        panels.append(("zero-shot accuracy\n(mean ± standard error)", _by_accuracy, _accuracy))
    with house_style():
        figure, axes = plt.subplots(
            len(panels), figsize=(WIDTH, 0.9 + 2.5 * len(panels)), squeeze=False, sharex=True
        )
        for panel, (label, front, value) in zip(axes[:, 0], panels, strict=True):
            shown = trials if value is _perplexity else scored
            _draw_panel(panel, shown, dense, front(shown), value, by)
            panel.set_ylabel(label)
        axes[-1, 0].set_xlabel("parameters (millions)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return picture(figure)


def _draw_panel(
    axes: Any, trials: Sequence[Trial], dense: Trial, front: Mapping[str, Trial], value: Any, by: str | None
) -> None:
    if value is _perplexity:
        label: str | None = "Pareto front (filled)"
        for alike in _scored_alike(front.values()):
            line = [*sorted(alike, key=lambda one: one.parameters), dense]
            axes.plot(*_points(line, value), color=INK, linewidth=1, zorder=1, label=label)
            label = None
    for index, (group, members) in enumerate(_groups(trials, by).items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        best = [one for one in members if one.name in front]
        rest = [one for one in members if one.name not in front]
        if value is _accuracy:
            errors = [one.accuracy[1] for one in members if one.accuracy]
            axes.errorbar(*_points(members, value), yerr=errors, fmt="none", ecolor=colour, alpha=0.35)
        axes.scatter(*_points(best, value), color=colour, marker=marker, s=42, zorder=3, label=group)
        axes.scatter(
            *_points(rest, value), facecolors="none", edgecolors=colour, marker=marker, s=42, zorder=2
        )
    axes.scatter(*_points([dense], value), color=INK, marker="*", s=90, zorder=3, label="dense")


def _groups(trials: Iterable[Trial], by: str | None) -> dict[str, list[Trial]]:
    groups: dict[str, list[Trial]] = {}
    for one in trials:
        label = "pruned" if by is None else f"{by}: {one.settings.get(by, 'none')}"
        groups.setdefault(label, []).append(one)
    return groups


def _points(trials: Sequence[Trial], value: Any) -> tuple[list[float], list[float]]:
    return [one.parameters / 1e6 for one in trials], [value(one) for one in trials]


def _perplexity(one: Trial) -> float:
    return one.perplexity


def _accuracy(one: Trial) -> float:
    return one.accuracy[0] if one.accuracy is not None else float("nan")


def _by_accuracy(trials: Sequence[Trial]) -> dict[str, Trial]:
    """The trials that none of at most their size beats by more than the error of the two accuracies."""
    return {
        one.name: one
        for alike in _scored_alike(one for one in trials if one.accuracy is not None)
        for one in alike
        if not any(_surely_better(other, one) for other in alike)
    }


def _surely_better(other: Trial, one: Trial) -> bool:
    if other.accuracy is None or one.accuracy is None or other.parameters > one.parameters:
        return False
    (value, error), (least, its_error) = other.accuracy, one.accuracy
    return value - least > math.hypot(error, its_error)


def _by_perplexity(trials: Sequence[Trial]) -> dict[str, Trial]:
    """The trials, by name, that no other one beats that was scored alike."""
    best: dict[str, Trial] = {}
    for alike in _scored_alike(trials):
        front = pareto_front([(one.parameters, one.perplexity) for one in alike])
        best |= {one.name: one for one, on_it in zip(alike, front, strict=True) if on_it}
    return best


def _scored_alike(trials: Iterable[Trial]) -> list[list[Trial]]:
    """The trials in groups whose figures are of the same model on the same text and items."""
    groups: dict[str, list[Trial]] = {}
    for one in trials:
        scoring = {key: value for key, value in one.settings.items() if key.startswith(SCORING)}
        groups.setdefault(repr(sorted(scoring.items())), []).append(one)
    return list(groups.values())
