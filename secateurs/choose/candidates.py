"""The sites of a model as the allocation sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.kinds.kind import Masks, Site
from secateurs.kinds.sites import chosen_sites, kept_units
from secateurs.settings.pruning import Prune


@dataclass(frozen=True)
class Candidate:
    """A site as the allocation sees it; `name` is its key in masks.

    scores: float64 [units]; kept: bool [units], the mask of the round before; cost: parameters per unit;
    groups: units stand in this many groups of equal length, each of which loses as many as the others;
    step: units by which the width changes. fills_up: as Kind.fills_up. pool: the sites that this one stands
    for, of one unit each, where any of them may go. sized_by: as Site.sized_by. least: as Site.least.
    """

    name: str
    kind: str
    scores: Tensor
    kept: Tensor
    cost: int
    groups: int = 1
    step: int = 1
    fills_up: bool = False
    pool: tuple[str, ...] = ()
    sized_by: str = ""
    least: int = 0

    def smallest(self, floor: float) -> int:
        """The smallest width that the site may have: the floor's share of its units, in whole steps."""
        units = len(self.kept)
        return min(units, ceil(max(floor * units, self.least) / self.step) * self.step)


def candidates_of(
    model: PreTrainedModel, budget: Prune, scores: Mapping[str, Tensor], kept: Masks
) -> list[Candidate]:
    """A candidate for each site that the budget names, and one for all alike sites of a pooled kind.

    model: its experts opened. scores: float64 [units] by site name. kept: the masks of the round before.
    Raises InputError for kinds and widths that the model refuses.
    """
    found: list[Candidate] = []
    pools: dict[tuple[str, int], list[Site]] = {}
    for site in chosen_sites(model, budget.sites, budget.widths, budget.width_multiple):
        kind, cost = site.kind, site.kind.cost(model, site)
        if kind.pooled:
            pools.setdefault((kind.name, cost), []).append(site)
            continue
        step, mask = kind.step(site, budget.width_multiple), kept_units(kept, site)
        one = Candidate(site.name, kind.name, scores[site.name], mask, cost, site.groups, step, kind.fills_up)
        found.append(replace(one, sized_by=site.sized_by, least=site.least))
    for (kind_name, cost), sites in pools.items():
        names = tuple(site.name for site in sites)
        together = torch.cat([scores[name] for name in names])
        mask = torch.cat([kept_units(kept, site) for site in sites])
        found.append(Candidate(f"{names[0]} …", kind_name, together, mask, cost, pool=names))
    return found


def by_site(candidates: Sequence[Candidate], masks: Masks) -> dict[str, Tensor]:
    """Masks by the names of candidates -> by those of the sites that they stand for."""
    found: dict[str, Tensor] = {}
    for one in candidates:
        units = masks[one.name].split(1) if one.pool else [masks[one.name]]
        found |= dict(zip(one.pool or [one.name], units, strict=True))
    return found
