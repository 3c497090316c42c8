"""Which units go: scores and a budget in, masks out. Masks are nested: what is gone stays gone."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from secateurs.errors import InputError, SettingError
from secateurs.families.layouts import MLP


@dataclass(frozen=True)
class Candidate:
    """A site as the allocation sees it; `name` is its key in masks.

    scores: float64 [units]; kept: bool [units], the mask of the round before; cost: parameters per unit;
    groups: units stand in this many groups of equal length, each of which loses as many as the others.
    """

    name: str
    kind: str
    scores: Tensor
    kept: Tensor
    cost: int
    groups: int = 1


@dataclass(frozen=True)
class Limits:
    """multiple: kept mlp widths are multiples of it. floor: the smallest fraction of its units to keep."""

    multiple: int
    floor: float

    def step(self, candidate: Candidate) -> int:
        """Units by which a site's width changes: `multiple` for mlp, otherwise one unit of each group."""
        return self.multiple if candidate.kind == MLP else candidate.groups

    def smallest(self, candidate: Candidate) -> int:
        """The smallest width that a site may have: the floor, rounded up to a whole number of steps."""
        step = self.step(candidate)
        return min(len(candidate.kept), ceil(self.floor * len(candidate.kept) / step) * step)


def uniform_masks(candidates: list[Candidate], budget: int, limits: Limits) -> dict[str, Tensor]:
    """Remove the same number of units from every layer, per kind, until `budget` parameters are gone.

    The budget counts from the dense model. It is met or exceeded by less than one step (one mlp unit, or
    `multiple` of them, in every layer). With attention among the sites, every number of KV groups that can
    go is tried, mlp makes up the rest, and the choice with the lowest total score removed wins.

    Raises InputError where the floors do not leave enough to remove.
    """
    by_kind = {
        kind: [one for one in candidates if one.kind == kind] for kind in sorted({c.kind for c in candidates})
    }
    mlp = by_kind.pop(MLP, [])
    options = [_Option(0, {})]
    for sites in by_kind.values():
        options = [option.with_more(cut) for option in options for cut in _uniform_cuts(sites, limits)]
    fitting = []
    for option in options:
        width = _uniform_width(mlp, budget - option.removed, limits) if mlp else 0
        if width is None or (not mlp and option.removed < budget):
            continue
        fitting.append(option.masks | {site.name: _best(site, width) for site in mlp})
    if not fitting:
        raise _too_much(candidates, budget, limits)
    # Options come by rising removal, and of equal scores the first is taken: the one that removes least.
    return min(fitting, key=lambda masks: _score_removed(candidates, masks))


@dataclass(frozen=True)
class _Option:
    """Masks by site name, and how many parameters they remove, counted from the dense model."""

    removed: int
    masks: dict[str, Tensor]

    def with_more(self, other: "_Option") -> "_Option":
        return _Option(self.removed + other.removed, self.masks | other.masks)


def _uniform_cuts(sites: list[Candidate], limits: Limits) -> list[_Option]:
    """The sites of one kind cut to each width they can have, from the widest that is left to the smallest."""
    first, cost = sites[0], sum(site.cost for site in sites)
    cuts = []
    width = min(int(site.kept.sum()) for site in sites)
    while width >= limits.smallest(first):
        masks = {site.name: _best(site, width) for site in sites}
        cuts.append(_Option((len(first.kept) - width) * cost, masks))
        width -= limits.step(first)
    return cuts


def _uniform_width(sites: list[Candidate], budget: int, limits: Limits) -> int | None:
    units = len(sites[0].kept)
    before = min(int(site.kept.sum()) for site in sites)
    removed = max(0, ceil(budget / sum(site.cost for site in sites)))
    step = limits.step(sites[0])
    width = min(before, (units - removed) // step * step if removed else units)
    return width if width >= limits.smallest(sites[0]) else None


def per_layer_masks(candidates: list[Candidate], budget: int, limits: Limits) -> dict[str, Tensor]:
    """Rank the units of all sites together by score per parameter and remove the least until `budget`.

    Units leave a site in steps (one unit; for mlp `multiple`, the first step being what brings the width
    to a multiple), each ranked by its total score per parameter. The budget is met or exceeded by less
    than one step. Raises InputError where the floors do not leave enough to remove.
    """
    steps: list[tuple[float, int, int, list[int], int]] = []
    gone = 0
    for index, site in enumerate(candidates):
        gone += (len(site.kept) - int(site.kept.sum())) * site.cost
        steps += _steps(index, site, limits)
    removed = {index: site.kept.clone() for index, site in enumerate(candidates)}
    # A site's own steps stay in order: each is made of worse units than the next one.
    for _, index, _, units, cost in sorted(steps, key=lambda step: step[:3]):
        if gone >= budget:
            break
        removed[index][units] = False
        gone += cost
    if gone < budget:
        raise _too_much(candidates, budget, limits)
    return {site.name: removed[index] for index, site in enumerate(candidates)}


def _steps(index: int, site: Candidate, limits: Limits) -> list[tuple[float, int, int, list[int], int]]:
    """(score per parameter, site, order, units, parameters) of each step a site can still shrink by."""
    order = _worst_first(site)
    width, step = len(order), limits.step(site)
    steps = []
    start = 0
    while width > limits.smallest(site):
        size = width % step or step
        units = order[start : start + size]
        score = float(site.scores[units].sum()) / (size * site.cost)
        steps.append((score, index, start, units, size * site.cost))
        start, width = start + size, width - size
    return steps


def _worst_first(site: Candidate) -> list[int]:
    """The units still kept by rising score; with groups, the worst of each group, then the next of each.

    Groups have lost equally many, so they are of one length. Among equals the earlier unit comes first.
    """
    # As lists: a tensor read unit by unit takes half a minute for the layers of a 32B model.
    kept = site.kept.tolist()
    order = [unit for unit in torch.sort(site.scores, stable=True).indices.tolist() if kept[unit]]
    length = len(site.kept) // site.groups
    grouped = [[unit for unit in order if unit // length == group] for group in range(site.groups)]
    return [unit for worst in zip(*grouped, strict=True) for unit in worst]


def _best(site: Candidate, width: int) -> Tensor:
    """The mask of the `width` best units among those still kept; among equals the later unit stays."""
    order = _worst_first(site)
    mask = torch.zeros_like(site.kept)
    mask[order[len(order) - width :]] = True
    return mask


def _score_removed(candidates: list[Candidate], masks: Mapping[str, Tensor]) -> float:
    return sum(float(site.scores[~masks[site.name]].sum()) for site in candidates)


def removable(candidates: list[Candidate], limits: Limits) -> int:
    """The parameters that go, counted from the dense model, when every site is cut to its smallest width."""
    return sum((len(site.kept) - limits.smallest(site)) * site.cost for site in candidates)


def _too_much(candidates: list[Candidate], budget: int, limits: Limits) -> InputError:
    return SettingError(
        f"prune.sparsity: asks for {budget:,} parameters, but prune.sites with "
        f"prune.floor: {limits.floor} leave at most {removable(candidates, limits):,} to remove; "
        "lower the sparsity or the floor, or add a site"
    )
