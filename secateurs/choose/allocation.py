"""Which units go: scores and a budget in, masks out. Masks are nested: what is gone stays gone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, fsum
from types import MappingProxyType

import torch
from torch import Tensor

from secateurs.choose.candidates import Candidate
from secateurs.errors import InputError, SettingError

Shares = Mapping[str, float]
"""How much each kind gives of what goes, relative to each other; where there are none, scores decide."""

NONE: Shares = MappingProxyType({})


def uniform_masks(
    candidates: list[Candidate], budget: int, floor: float, shares: Shares = NONE
) -> dict[str, Tensor]:
    """Remove the same number of units from every layer, per kind, until `budget` parameters are gone.

    The budget counts from the dense model. It is met or exceeded by less than one step of the kind that fills
    up, in every layer. Every number of units of the other kinds that can go is tried, that kind makes up the
    rest, and the choice with the lowest total score removed wins; with shares the one that is nearest to
    them. floor: the smallest fraction of its units that a site keeps.

    Raises InputError where the floors do not leave enough to remove.
    """
    by_kind = {
        kind: [one for one in candidates if one.kind == kind] for kind in sorted({c.kind for c in candidates})
    }
    filling = [one for one in candidates if one.fills_up]
    for kind in {one.kind for one in filling}:
        del by_kind[kind]
    options = [_Option(0, {})]
    for sites in by_kind.values():
        options = [option.with_more(cut) for option in options for cut in _uniform_cuts(sites, floor)]
    fitting = []
    for option in options:
        widths = filled_widths(filling, budget - option.removed, floor)
        if widths is None:
            continue
        sized = zip(filling, widths, strict=True)
        fitting.append(option.masks | {site.name: _best(site, width) for site, width in sized})
    if not fitting:
        raise _too_much(candidates, budget, floor)
    # Options come by rising removal, and of equal ones the first is taken: the one that removes least.
    if shares:
        wanted = parts(shares, budget)
        return min(fitting, key=lambda masks: _off(wanted, removed_by_kind(candidates, masks)))
    return min(fitting, key=lambda masks: _score_removed(candidates, masks))


def removed_by_kind(candidates: Sequence[Candidate], masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Parameters that masks remove of each kind, counted from the dense model."""
    found: dict[str, int] = {}
    for one in candidates:
        found[one.kind] = found.get(one.kind, 0) + one.cost * int((~masks[one.name]).sum())
    return found


def parts(shares: Shares, budget: int) -> dict[str, float]:
    """The parameters that each kind is to give: budget * share / sum of the shares."""
    return {kind: budget * share / fsum(shares.values()) for kind, share in shares.items()}


def _off(wanted: Mapping[str, float], removed: Mapping[str, int]) -> float:
    return fsum(abs(wanted[kind] - removed[kind]) for kind in wanted)


@dataclass(frozen=True)
class _Option:
    """Masks by site name, and how many parameters they remove, counted from the dense model."""

    removed: int
    masks: dict[str, Tensor]

    def with_more(self, other: "_Option") -> "_Option":
        return _Option(self.removed + other.removed, self.masks | other.masks)


def _uniform_cuts(sites: list[Candidate], floor: float) -> list[_Option]:
    """The sites of one kind cut to each width they can have, from the widest that is left to the smallest."""
    first, cost = sites[0], sum(site.cost for site in sites)
    cuts = []
    width = min(int(site.kept.sum()) for site in sites)
    while width >= first.smallest(floor):
        masks = {site.name: _best(site, width) for site in sites}
        cuts.append(_Option((len(first.kept) - width) * cost, masks))
        width -= first.step
    return cuts


def filled_widths(sites: list[Candidate], budget: int, floor: float) -> list[int] | None:
    """The widths of the sites that fill up what is left of a budget; None where their floors forbid it.

    Sites sized by one entry of the config lose as many steps each. Where there are several entries (dense
    layers, experts, what is shared beside them), all sites keep the same share, as near as steps allow.
    """
    groups: dict[str, list[int]] = {}
    for number, site in enumerate(sites):
        groups.setdefault(site.sized_by, []).append(number)
    shares = sorted(
        {share for numbers in groups.values() for share in _shares(sites[numbers[0]])}, reverse=True
    )
    low, high = 0, len(shares)
    # Smaller shares remove more: the largest that removes enough, by halving.
    while low < high:
        middle = (low + high) // 2
        widths = _widths_at(sites, groups, shares[middle])
        if (
            sum((len(one.kept) - width) * one.cost for one, width in zip(sites, widths, strict=True))
            >= budget
        ):
            high = middle
        else:
            low = middle + 1
    if low == len(shares):
        return [] if not sites and budget <= 0 else None
    widths = _widths_at(sites, groups, shares[low])
    return widths if all(w >= one.smallest(floor) for one, w in zip(sites, widths, strict=True)) else None


def _shares(site: Candidate) -> Iterator[Fraction]:
    """The shares of its units that a site may keep: all, and whole steps."""
    units = len(site.kept)
    yield Fraction(1)
    yield from (Fraction(width, units) for width in range(0, units, site.step))


def _widths_at(sites: list[Candidate], groups: Mapping[str, list[int]], share: Fraction) -> list[int]:
    """The width of each site where all keep at most a share of their units, and no more than before."""
    steps = {}
    for name, numbers in groups.items():
        own = [sites[number] for number in numbers]
        # None keeps more steps than the one that has the fewest left.
        steps[name] = min(_steps_at(one, share) for one in own)
    return [min(int(one.kept.sum()), ceil(steps[one.sized_by] * one.step)) for one in sites]


def _steps_at(site: Candidate, share: Fraction) -> Fraction:
    units, kept = len(site.kept), int(site.kept.sum())
    width = units if share == 1 else int(share * units) // site.step * site.step
    return Fraction(min(width, kept), site.step)


def per_layer_masks(
    candidates: list[Candidate], budget: int, floor: float, shares: Shares = NONE
) -> dict[str, Tensor]:
    """Rank the units of all sites together by score per parameter and remove the least until `budget`.

    Units leave a site in steps, the first being what brings the width to a multiple of a step, each ranked by
    its total score per parameter. The budget is met or exceeded by less than one step. With shares each kind
    is ranked by itself, coarse ones first, and the one with the smallest steps makes up the rest. Raises
    InputError where the floors do not leave enough to remove.
    """
    if not shares:
        return _ranked_masks(candidates, budget, floor)
    coarse = {kind: max(one.step * one.cost for one in candidates if one.kind == kind) for kind in shares}
    *others, finest = sorted(shares, key=lambda kind: (-coarse[kind], kind))
    masks: dict[str, Tensor] = {}
    left = budget
    for kind in (*others, finest):
        own = [one for one in candidates if one.kind == kind]
        # check_target lets a share be a little more than the kind can give.
        part = min(round(parts(shares, budget)[kind]), removable(own, floor))
        found = _ranked_masks(own, left if kind == finest else part, floor)
        masks |= found
        left -= removed_by_kind(own, found)[kind]
    return masks


def _ranked_masks(candidates: list[Candidate], budget: int, floor: float) -> dict[str, Tensor]:
    steps: list[tuple[float, int, int, list[int], int]] = []
    gone = 0
    for index, site in enumerate(candidates):
        gone += (len(site.kept) - int(site.kept.sum())) * site.cost
        steps += _steps(index, site, floor)
    removed = {index: site.kept.clone() for index, site in enumerate(candidates)}
    # A site's own steps stay in order: each is made of worse units than the next one.
    for _, index, _, units, cost in sorted(steps, key=lambda step: step[:3]):
        if gone >= budget:
            break
        removed[index][units] = False
        gone += cost
    if gone < budget:
        raise _too_much(candidates, budget, floor)
    return {site.name: removed[index] for index, site in enumerate(candidates)}


def _steps(index: int, site: Candidate, floor: float) -> list[tuple[float, int, int, list[int], int]]:
    """(score per parameter, site, order, units, parameters) of each step a site can still shrink by."""
    order = _worst_first(site)
    width, step = len(order), site.step
    steps = []
    start = 0
    while width > site.smallest(floor):
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


def removable(candidates: list[Candidate], floor: float) -> int:
    """The parameters that go, counted from the dense model, when every site is cut to its smallest width."""
    return sum((len(site.kept) - site.smallest(floor)) * site.cost for site in candidates)


def _too_much(candidates: list[Candidate], budget: int, floor: float) -> InputError:
    return SettingError(
        f"prune.sparsity: asks for {budget:,} parameters, but prune.sites with "
        f"prune.floor: {floor} leave at most {removable(candidates, floor):,} to remove; "
        "lower the sparsity or the floor, or add a site"
    )
