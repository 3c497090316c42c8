"""How many parameters must go for a token to take no more than so many multiply-adds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, lcm

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.choose.allocation import filled_widths
from secateurs.choose.candidates import Candidate, candidates_of
from secateurs.errors import SettingError
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.fused_experts import OpenExperts
from secateurs.families.mixtures import experts_of_a_token
from secateurs.kinds.kind import Site
from secateurs.kinds.sites import chosen_sites
from secateurs.settings.pruning import Prune


@dataclass(frozen=True)
class Work:
    """What goes with the units of a budget's sites. model: its experts opened; sites: those of the budget.

    whole: multiply-adds of the dense model, once the rows of the vocabulary are gone that the budget takes.
    each: those of one unit, by site name. An expert's weights count for the share of the experts that a token
    is given to.
    """

    model: PreTrainedModel
    budget: Prune
    sites: Sequence[Site]
    whole: int
    each: Mapping[str, Fraction]

    def parameters(self, target: int) -> int:
        """As many of the decoder's as must go so that no more than `target` multiply-adds are left.

        Of channels alone under uniform widths it is known which go, because all sites keep the same share.
        Otherwise what a parameter takes with it is the least among what can go, so that the target is met
        whichever does.
        """
        gone = self.whole - target
        candidates = self._filling()
        if gone > 0 and candidates:
            scale = lcm(*(one.denominator for one in self.each.values()))
            counted = [replace(one, cost=int(self.each[one.name] * scale)) for one in candidates]
            widths = filled_widths(counted, gone * scale, self.budget.floor)
            if widths is not None:
                return sum(
                    (len(one.kept) - width) * one.cost for one, width in zip(candidates, widths, strict=True)
                )
        return ceil(gone / self._least())

    def left(self, parameters: int) -> int:
        """The multiply-adds that are left at most where so many of the decoder's parameters go."""
        candidates = self._filling()
        if candidates:
            widths = filled_widths(candidates, parameters, self.budget.floor)
            if widths is not None:
                sized = zip(candidates, widths, strict=True)
                return self.whole - int(
                    sum((len(one.kept) - width) * self.each[one.name] for one, width in sized)
                )
        return self.whole - int(parameters * self._least())

    def _filling(self) -> list[Candidate]:
        """The sites as the allocation sees them, where they are channels alone and lose evenly."""
        if self.budget.widths != "uniform" or not all(site.kind.fills_up for site in self.sites):
            return []
        scores: Mapping[str, Tensor] = defaultdict(lambda: torch.zeros(1))
        return candidates_of(self.model, self.budget, scores, {})

    def _least(self) -> Fraction:
        """The fewest multiply-adds that a parameter takes with it, of any sites that may go by themselves."""
        together: dict[tuple[str, str], list[Site]] = {}
        for site in self.sites:
            even = self.budget.widths == "uniform" and not site.kind.pooled
            key = (site.kind.name, site.sized_by) if even else (site.name, "")
            together.setdefault(key, []).append(site)
        return min(
            sum((self.each[site.name] for site in sites), Fraction(0))
            / sum(site.kind.cost(self.model, site) for site in sites)
            for sites in together.values()
        )


def work_of(model: PreTrainedModel, budget: Prune) -> Work:
    """The work of a dense model, its experts opened. Raises SettingError for kinds that take none of it."""
    sites = chosen_sites(model, budget.sites, budget.widths, budget.width_multiple)
    values = _of_weights(model)
    each = {
        site.name: sum(
            (values.get(id(weight), Fraction(0)) * count for weight, count in site.kind.weights(model, site)),
            Fraction(0),
        )
        for site in sites
    }
    for site in sites:
        if not site.kind.computes or not each[site.name]:
            raise SettingError(
                f"prune.multiply_adds: {budget.multiply_adds}: prune.sites: {site.kind.name}: "
                f"{takes_none(site.kind.unit)}; leave them out, or ask for prune.parameters"
            )
    return Work(model, budget, sites, macs_per_token(model, budget.vocabulary.rows), each)


def takes_none(unit: str) -> str:
    """Why a kind with such units meets no target of multiply-adds."""
    return f"no multiply-adds of a token go with {unit}"


def _of_weights(model: PreTrainedModel) -> dict[int, Fraction]:
    """Multiply-adds of a token for each weight of a matrix, by its id; what is not here takes none."""
    found = {id(one.weight): Fraction(1) for one in model.modules() if isinstance(one, nn.Linear)}
    chosen = experts_of_a_token(model.config)
    for block in model.modules():
        if isinstance(block, OpenExperts):
            share = Fraction(chosen, len(list(block.children())))
            found |= {id(one.weight): share for one in block.modules() if isinstance(one, nn.Linear)}
    return found
