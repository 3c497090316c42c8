"""Importance: how much each channel matters, by one function for each metric."""

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from secateurs.errors import InputError
from secateurs.kinds.kind import Statistics

# The smallest sum of scores that others are divided by.
_NO_SCORE = 1e-300

Metric = Callable[[Tensor, Statistics, torch.Generator], Tensor]
"""(weight [hidden, channels], statistics, generator) -> float64 score [channels], larger matters more."""


def _column_norms(weight: Tensor) -> Tensor:
    return weight.double().square().sum(dim=0)


def taken(statistics: Statistics, name: str) -> Tensor:
    """A statistic in float64; InputError where it needs a backward pass that was not made."""
    values = statistics.get(name)
    if values is None:
        raise InputError(
            f"mask.metric: {name}: the statistics were captured without a backward pass; "
            "set capture.gradients: true"
        )
    return values.double()


def fisher(weight: Tensor, statistics: Statistics, generator: torch.Generator) -> Tensor:
    """Mean over sequences of (sum_t x g)^2: the diagonal Fisher information of a mask (Kwon et al. 2022)."""
    return taken(statistics, "fisher")


def taylor(weight: Tensor, statistics: Statistics, generator: torch.Generator) -> Tensor:
    """Mean over tokens of (x g)^2: first-order Taylor, as in LLM-Pruner (Ma et al. 2023)."""
    return taken(statistics, "taylor")


def wanda(weight: Tensor, statistics: Statistics, generator: torch.Generator) -> Tensor:
    """||W_j||^2 * mean x_j^2: Wanda (Sun et al. 2023), summed over a column."""
    return _column_norms(weight) * statistics["square"].double()


def fluctuation(weight: Tensor, statistics: Statistics, generator: torch.Generator) -> Tensor:
    """||W_j||^2 * var x_j: FLAP (An et al. 2023)."""
    return _column_norms(weight) * statistics["variance"].double()


def magnitude(weight: Tensor, statistics: Statistics, generator: torch.Generator) -> Tensor:
    """||W_j||^2: a control that uses no text."""
    return _column_norms(weight)


def random(weight: Tensor, statistics: Statistics, generator: torch.Generator) -> Tensor:
    """Uniform in (0, 1): a control that uses neither weights nor text."""
    return torch.rand(weight.shape[1], generator=generator, dtype=torch.float64)


METRICS: Mapping[str, Metric] = {
    "fisher": fisher,
    "taylor": taylor,
    "wanda": wanda,
    "fluctuation": fluctuation,
    "magnitude": magnitude,
    "random": random,
}


# Those that read values of weights; the others read no more of a weight than its shape.
WEIGHT_METRICS = frozenset({"wanda", "fluctuation", "magnitude"})


def unit_scores(channel_scores: Tensor, units: int) -> Tensor:
    """Sum the scores of the channels of each unit: [channels] -> [units]."""
    return channel_scores.view(units, -1).sum(dim=1)


def mixed_scores(
    scores: Mapping[str, Tensor], mixture: Mapping[str, float], dialogues: Collection[str] = ()
) -> Tensor:
    """sum_d mixture_d * score_d / sum_d mixture_d, over the domains d.

    dialogues: domains whose scores are first brought to the sum, over the units of the site, that the mix of
    the others has there. A model is sure of its own answers, so that their gradients are small: as they are,
    they would hardly count.
    """
    plain = {name: values for name, values in scores.items() if mixture[name] and name not in dialogues}
    if plain and dialogues:
        level = float(mixed_scores(plain, mixture).sum())
        scores = {
            name: values * (level / max(float(values.sum()), _NO_SCORE)) if name in dialogues else values
            for name, values in scores.items()
        }
    total = sum(mixture[domain] for domain in scores)
    return torch.stack([mixture[domain] / total * values for domain, values in scores.items()]).sum(dim=0)


def rank_agreement(sites: list[dict[str, Tensor]]) -> list[list[float]]:
    """How far domains agree on which units matter: Spearman's rank correlation, averaged over sites.

    sites: one mapping of domain -> scores [units] per site, all with the same domains in the same order.
    Returns the symmetric matrix in that order; sites with fewer than two units are left out.
    """
    matrices = []
    for scores in sites:
        stacked = torch.stack(list(scores.values())).double()
        if stacked.shape[1] > 1:
            # Spearman's coefficient is Pearson's on ranks.
            ranked = torch.stack([ranks(values) for values in stacked])
            matrices.append(torch.corrcoef(ranked).nan_to_num(0.0))
    return torch.stack(matrices).mean(dim=0).tolist() if matrices else []


def ranks(values: Tensor) -> Tensor:
    """The rank of each value from 1 on, float64; equal ones get their mean rank."""
    _, position, counts = torch.unique(values, return_inverse=True, return_counts=True)
    found: Tensor = counts.cumsum(0) - (counts - 1).double() / 2
    return found[position]
