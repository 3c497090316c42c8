"""The study's pictures, in the report's style."""

from collections.abc import Sequence
from statistics import fmean

import matplotlib.pyplot as plt
import numpy as np

from lab.study.experiment_results import Scores
from lab.study.findings import Left, Measured
from stages.reporting.style import COLOURS, INK, MARKERS, WIDTH, Picture, house_style, picture
from stages.reporting.trials import Trial, draw_sweep


def draw_curve(points: Sequence[Measured]) -> Picture:
    """Perplexity and accuracy against parameters: means over the draws, and the dense model."""
    trials = [_trial(one.point.label, one, [result.pruned for result in one.results]) for one in points]
    dense = _trial("dense", points[0], [result.dense for result in points[0].results])
    return draw_sweep(trials, dense)


def _trial(name: str, point: Measured, models: Sequence[Scores]) -> Trial:
    accuracies = [one.accuracy for one in models if one.accuracy is not None]
    return Trial(
        name,
        {},
        models[0].parameters,
        point.results[0].removed,
        fmean(one.mean for one in models),
        point.ratio,
        (fmean(mean for mean, _ in accuracies), fmean(error for _, error in accuracies))
        if accuracies
        else None,
    )


def draw_transfer(domains: Sequence[Left]) -> Picture:
    """A pair of points for each domain: its ratio when it was calibrated on, and when it was left out."""
    places = np.arange(len(domains))
    inside, outside = [fmean(one.inside) for one in domains], [fmean(one.outside) for one in domains]
    with house_style():
        figure, axes = plt.subplots(figsize=(WIDTH, 1.2 + 0.36 * len(domains)))
        axes.hlines(places, inside, outside, color=INK, linewidth=1, zorder=1)
        for index, (label, values) in enumerate((("in the mix", inside), ("left out", outside))):
            axes.scatter(
                values, places, s=42, color=COLOURS[index], marker=MARKERS[index], label=label, zorder=2
            )
        axes.set_yticks(places, [one.domain for one in domains])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("held-out perplexity of the domain, pruned / dense (lower is better)")
        figure.legend(loc="outside upper right", ncols=2)
        return picture(figure)
