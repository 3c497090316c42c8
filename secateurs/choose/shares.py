"""How a target is shared out among kinds: greedily, by what trials of each lost for what they removed."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import ceil, fsum

from secateurs.kinds.registry import exclusions

# Of a target: what sizes that are no whole numbers may leave of it by rounding.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Trial:
    """A model from which one kind alone was removed, and healed.

    parameters: how many went. size: the same as the target counts it, in parameters, bytes or multiply-adds.
    lost: by domain, nats per byte of text that the dense model had not lost.
    """

    kind: str
    parameters: int
    size: int
    lost: Mapping[str, float]

    def cost(self, mixture: Mapping[str, float], over: str) -> float:
        """sum_d w_d lost_d / sum_d w_d over `mean`; max of lost_d where w_d > 0 over `worst`."""
        counted = {domain: weight for domain, weight in mixture.items() if weight}
        if over == "worst":
            return max(self.lost[domain] for domain in counted)
        return fsum(weight * self.lost[domain] for domain, weight in counted.items()) / fsum(counted.values())


@dataclass(frozen=True)
class Curve:
    """What a kind costs by how much of it goes.

    points: (size, parameters, cost) by rising size, the first of them all 0, on their lower convex hull.
    unit: the size of the smallest step in which the kind goes.
    """

    kind: str
    points: tuple[tuple[float, float, float], ...]
    unit: float

    def at(self, size: float) -> tuple[float, float]:
        """Parameters and cost where so much goes, between the points on straight lines."""
        for (x, p, c), (y, q, d) in pairwise(self.points):
            if size <= y:
                part = (size - x) / (y - x)
                return p + part * (q - p), c + part * (d - c)
        return self.points[-1][1:]

    def segments(self) -> Iterator[tuple[float, float]]:
        """(cost for each unit of size, length) of each line, by rising cost."""
        for (x, _, c), (y, _, d) in pairwise(self.points):
            yield (d - c) / (y - x), y - x


def curve(trials: Sequence[Trial], unit: float, mixture: Mapping[str, float], over: str) -> Curve:
    """The curve of the trials of one kind: their lower convex hull with the dense model, which lost nothing.

    Trials above a line between two others are left out: less of the kind then costs no less.
    """
    points = [(0.0, 0.0, 0.0)]
    points += sorted((float(one.size), float(one.parameters), one.cost(mixture, over)) for one in trials)
    hull: list[tuple[float, float, float]] = []
    for x, p, c in points:
        while len(hull) > 1 and _above(hull[-2], hull[-1], (x, p, c)):
            hull.pop()
        hull.append((x, p, c))
    return Curve(trials[0].kind, tuple(hull), unit)


def _above(
    first: tuple[float, float, float], middle: tuple[float, float, float], last: tuple[float, float, float]
) -> bool:
    return (middle[2] - first[2]) * (last[0] - first[0]) >= (last[2] - first[2]) * (middle[0] - first[0])


def shared_out(curves: Sequence[Curve], target: float) -> dict[str, float] | None:
    """The size that each kind gives so that all give `target` or more, costs being additive.

    The line that costs least for each unit of size goes first, in whole steps of its kind. Where no whole
    step fits into what is left, one more may end it, or the next lines go on: whichever costs less in all.
    None where the kinds cannot give so much.
    """
    taken, left = {one.kind: 0.0 for one in curves}, target
    ways: list[dict[str, float]] = []
    lines = [(slope, number, length) for number, one in enumerate(curves) for slope, length in one.segments()]
    for _, number, length in sorted(lines):
        if left <= target * _NOTHING:
            break
        one = curves[number]
        if length > left:
            ways += _ended(taken, one, left)
        part = length if length <= left else left // one.unit * one.unit
        taken[one.kind] += part
        left -= part
    ways += (
        [taken] if left <= target * _NOTHING else [way for one in curves for way in _ended(taken, one, left)]
    )
    if not ways:
        return None
    best = min(ways, key=lambda sizes: fsum(one.at(sizes[one.kind])[1] for one in curves))
    return {kind: size for kind, size in best.items() if size}


def _ended(taken: Mapping[str, float], one: Curve, left: float) -> list[dict[str, float]]:
    """What was taken with as many more whole steps of one kind as end it; nothing where it lacks them."""
    more = taken[one.kind] + ceil(left / one.unit * (1 - _NOTHING)) * one.unit
    return [{**taken, one.kind: more}] if more <= one.points[-1][0] * (1 + _NOTHING) else []


def cheapest(curves: Sequence[Curve], target: float) -> dict[str, float] | None:
    """What shared_out gives for those kinds, of all that can go together, for which it costs least in all.

    None where no kinds can give so much. Among equal ones the fewest kinds.
    """
    by_kind = {one.kind: one for one in curves}
    found: list[tuple[float, int, dict[str, float]]] = []
    for chosen in _together(list(by_kind)):
        sizes = shared_out([by_kind[kind] for kind in chosen], target)
        if sizes is not None:
            cost = fsum(by_kind[kind].at(size)[1] for kind, size in sizes.items())
            found.append((cost, len(sizes), sizes))
    return min(found, key=lambda one: one[:2])[2] if found else None


def _together(names: Sequence[str]) -> Iterator[Collection[str]]:
    """All choices of kinds of which none excludes another."""
    for count in range(1, len(names) + 1):
        for chosen in combinations(names, count):
            if not any(exclusions(chosen)):
                yield chosen
