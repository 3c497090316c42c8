"""What a study's results say: mean and spread of a point, the best of an axis, what leaving out costs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean, stdev

from lab.study.experiment_results import Result
from lab.study.grid import Axis, Point

Row = tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """A point and the results there are of it, by the seed of the text's draw."""

    point: Point
    draws: Mapping[int, Result]

    @property
    def results(self) -> list[Result]:
        """The results of all draws."""
        return list(self.draws.values())

    @property
    def mixture(self) -> Mapping[str, float]:
        """The weight of each domain, which is the same in all draws."""
        mixture: Mapping[str, float] = self.point.experiments[0].params["mixture"]
        return mixture

    @property
    def ratio(self) -> float:
        """Held-out perplexity, pruned / dense: mean over the draws."""
        return fmean(one.ratio for one in self.results)

    @property
    def spread(self) -> float | None:
        """Standard deviation of that ratio over the draws; None with one draw."""
        return spread([one.ratio for one in self.results])

    @property
    def worst(self) -> tuple[str, float]:
        """The domain whose mean ratio is the highest, and that ratio."""
        domains = self.results[0].pruned.perplexity
        ratios = {domain: fmean(one.ratio_of(domain) for one in self.results) for domain in domains}
        return max(ratios.items(), key=lambda item: item[1])

    @property
    def accuracy(self) -> tuple[float, float] | None:
        """Mean zero-shot accuracy and its standard error, which draws do not lower: items stay the same."""
        pairs = [one.pruned.accuracy for one in self.results if one.pruned.accuracy is not None]
        return (fmean(mean for mean, _ in pairs), fmean(error for _, error in pairs)) if pairs else None


@dataclass(frozen=True)
class Left:
    """A domain that a point left out: its ratios with it in the mix and without, draw by draw."""

    domain: str
    inside: tuple[float, ...]
    outside: tuple[float, ...]

    @property
    def costs(self) -> list[float]:
        """outside / inside - 1: how much higher the ratio is without the domain, draw by draw."""
        return [out / within - 1 for within, out in zip(self.inside, self.outside, strict=True)]


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample; None for a single value."""
    return stdev(values) if len(values) > 1 else None


def measured(axis: Axis, results: Mapping[str, Result]) -> list[Measured]:
    """The points that have a result, in order."""
    found = []
    for point in axis.points:
        there = [one for one in point.experiments if one.name in results]
        draws = {one.params["corpus"]["seed"]: results[one.name] for one in there}
        found += [Measured(point, draws)] if draws else []
    return found


def best(points: Sequence[Measured], usual: float | None) -> Measured | None:
    """The point with the lowest ratio, if it is ahead of the next by more than either of them spreads.

    usual: spread relative to the ratio, which stands in for points of one draw. None where nothing is ahead,
    or where no spread is known.
    """
    if len(points) < 2:
        return None
    first, second = sorted(points, key=lambda one: one.ratio)[:2]
    spreads = [
        one.spread if one.spread is not None else usual * one.ratio if usual is not None else None
        for one in (first, second)
    ]
    known = [value for value in spreads if value is not None]
    ahead = len(known) == 2 and second.ratio - first.ratio > max(known)
    return first if ahead else None


def usual_spread(axes: Iterable[Axis], results: Mapping[str, Result]) -> float | None:
    """The spread of the study's first point relative to its ratio; None where it has one draw."""
    points = measured(next(iter(axes)), results)
    return points[0].spread / points[0].ratio if points and points[0].spread is not None else None


def choice_table(points: Sequence[Measured], winner: Measured | None) -> tuple[Row, list[Row]]:
    """Column names and a row for each point; the winner's label and ratio are bold."""
    rows = []
    for one in points:
        domain, worst = one.worst
        mark = "**" if one is winner else ""
        rows.append(
            {
                "": f"{mark}{one.point.label}{mark}",
                "decoder removed": f"{fmean(result.removed for result in one.results):.1%}",
                "perplexity": f"{fmean(result.pruned.mean for result in one.results):.2f}",
                "ratio to dense": f"{mark}{with_spread(one.ratio, one.spread)}{mark}",
                "worst domain's ratio": f"{worst:.3f} ({domain})",
                "accuracy": with_spread(*one.accuracy) if one.accuracy else "",
                "seconds": _seconds(one.results),
            }
        )
    columns = tuple(name for name in rows[0] if not name or any(row[name] for row in rows))
    return columns, [tuple(row[name] for name in columns) for row in rows]


def left_out(points: Sequence[Measured]) -> list[Left]:
    """For each point but the first: the domains that count in the first alone, in the draws of both."""
    found = []
    whole = points[0]
    for one in points[1:]:
        both = [seed for seed in whole.draws if seed in one.draws]
        found += [
            Left(
                domain,
                tuple(whole.draws[seed].ratio_of(domain) for seed in both),
                tuple(one.draws[seed].ratio_of(domain) for seed in both),
            )
            for domain, weight in one.mixture.items()
            if both and weight == 0 < whole.mixture[domain]
        ]
    return found


def transfer_table(domains: Sequence[Left]) -> tuple[Row, list[Row]]:
    """Column names, a row for each domain left out, and one for all where they have the same draws."""
    same_draws = len({len(one.outside) for one in domains}) == 1
    rows: list[Row] = [
        (
            one.domain,
            with_spread(fmean(one.inside), spread(one.inside)),
            with_spread(fmean(one.outside), spread(one.outside)),
            f"{fmean(one.costs):+.1%}" + ("" if len(one.costs) == 1 else f" ± {spread(one.costs):.1%}"),
        )
        for one in [*domains, *([_together(domains)] if same_draws else [])]
    ]
    return ("domain", "its ratio, in the mix", "its ratio, left out", "change"), rows


def _together(domains: Sequence[Left]) -> Left:
    """The geometric means over the domains, draw by draw."""
    inside = zip(*(one.inside for one in domains), strict=True)
    outside = zip(*(one.outside for one in domains), strict=True)
    return Left("geometric mean", tuple(map(geometric_mean, inside)), tuple(map(geometric_mean, outside)))


def with_spread(value: float, around: float | None) -> str:
    """A number as tables show it: 1.438 or 1.438 ± 0.012."""
    return f"{value:.3f}" if around is None else f"{value:.3f} ± {around:.3f}"


def _seconds(results: Sequence[Result]) -> str:
    known = [one.seconds for one in results if one.seconds is not None]
    return f"{fmean(known):.1f}" if known else ""
