"""A study's results as a page of Markdown with figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.study.experiment_results import Result
from lab.study.findings import (
    Measured,
    best,
    choice_table,
    left_out,
    measured,
    transfer_table,
    usual_spread,
)
from lab.study.grid import Axis, Grid
from lab.study.pictures import draw_curve, draw_transfer
from secateurs.errors import InputError
from stages.reporting.markdown import markdown_table
from stages.reporting.style import Picture

NOTE = (
    "`ratio to dense` is held-out perplexity, pruned / dense, the geometric mean over the domains that are "
    "scored, and ± its standard deviation over draws of the text; ± of an accuracy is its standard error. A "
    "point is **bold** only where its ratio is ahead of the next by more than either spreads."
)


@dataclass(frozen=True)
class StudyPage:
    """Markdown, and the pictures it links, by file name."""

    text: str
    pictures: Mapping[str, Picture]


def build_page(grid: Grid, results: Mapping[str, Result], model: str) -> StudyPage:
    """The page of a grid's results, by experiment; InputError where there are none."""
    experiments = grid.experiments()
    there = sum(one.name in results for one in experiments)
    if not there:
        raise InputError(f"{grid.name}: no experiment of this grid has a result yet")
    usual = usual_spread(grid.axes, results)
    parts = [
        f"# {model}: the {grid.name} study",
        f"{grid.about} {there} of {len(experiments)} runs are done.",
        NOTE
        if usual is None
        else f"{NOTE} A point of one draw is taken to spread by {usual:.1%}, like the first.",
    ]
    pictures: dict[str, Picture] = {}
    for axis in grid.axes:
        points = measured(axis, results)
        parts.append(f"## {axis.question}")
        if points:
            text, picture = _section(axis, points, usual, f"{grid.name}-{axis.name}.png")
            parts += text
            pictures |= picture
        missing = [point.label for point in axis.points if not _complete(point.label, points)]
        if missing:
            parts.append(f"Not all draws are done: {', '.join(missing)}.")
    return StudyPage("\n\n".join(parts) + "\n", pictures)


def _section(
    axis: Axis, points: Sequence[Measured], usual: float | None, file: str
) -> tuple[list[str], dict[str, Picture]]:
    match axis.show:
        case "choice":
            return [markdown_table(*choice_table(points, best(points, usual)))], {}
        case "curve":
            points = sorted(points, key=lambda one: one.results[0].removed)
            table = markdown_table(*choice_table(points, None))
            return [table, f"![Perplexity and accuracy by size]({file})"], {file: draw_curve(points)}
        case "transfer":
            domains = left_out(points)
            if not domains:
                return [], {}
            text = [markdown_table(*transfer_table(domains)), f"![Ratios with and without a domain]({file})"]
            return text, {file: draw_transfer(domains)}


def _complete(label: str, points: Sequence[Measured]) -> bool:
    return any(one.point.label == label and len(one.draws) == len(one.point.experiments) for one in points)
