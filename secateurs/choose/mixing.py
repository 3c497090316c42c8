"""One score a unit out of the scores by domain, and how much each domain counts in it from round to round."""

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from secateurs.kinds.importance import mixed_scores, ranks
from secateurs.settings.pruning import Mask

# The largest factor by which a round changes the weight of a domain, up or down.
MOST = 4.0


def mixed(
    scores: Mapping[str, Tensor],
    weights: Mapping[str, float],
    mask: Mask,
    dialogues: Collection[str] = (),
) -> Tensor:
    """One score for each unit of a site, float64 [units], by the way of `mask.combine`:

        sum     sum_d w_d s_d / sum_d w_d                       (importance.mixed_scores)
        worst   max_d w_d s_d L / sum_u s_du                    w divided by its mean over domains
        ranks   L / n * sum_d w_d r_d / sum_d w_d               r_d: the ranks of the n units in domain d

    where s_d are the scores of domain d, w_d its weight, and L the sum of the first over the units: the level
    of the site, by which `widths: per_layer` compares it with others. By `worst` a unit counts as for the
    domain that needs it most. The units that are among the best share
    `mask.own` of any domain then come before all others.

    scores: [units] by domain, of which those of weight 0 are ignored. dialogues: see importance.mixed_scores.
    """
    summed = mixed_scores(scores, weights, dialogues)
    level, counted = float(summed.sum()), {name: one for name, one in scores.items() if weights[name]}
    whole = math.fsum(weights[name] for name in counted)
    if mask.combine == "worst":
        parts = [
            weights[name]
            * len(counted)
            / whole
            * level
            * (one / one.sum().clamp_min(torch.finfo(one.dtype).tiny))
            for name, one in counted.items()
        ]
        summed = torch.stack(parts).amax(dim=0)
    elif mask.combine == "ranks":
        parts = [weights[name] / whole * ranks(one) for name, one in counted.items()]
        summed = torch.stack(parts).sum(dim=0) * (level / len(summed))
    best = round(mask.own * len(summed))
    if best:
        needed = torch.zeros(len(summed), dtype=torch.bool)
        for one in counted.values():
            needed[one.topk(best).indices] = True
        # More than any unit can gather over rounds, because the scores of all units together are the level.
        summed = summed + needed * level * len(counted)
    return summed


def reweighted(weights: Mapping[str, float], lost: Mapping[str, float], rate: float) -> dict[str, float]:
    """w_d <- w_d exp(rate (l_d / l - 1)), scaled to keep their sum, where l is the weighted mean of l_d.

    Multiplicative weights, as group DRO takes them (Sagawa et al. 2020): domains that lost more than the mean
    count more from here on. lost: l_d of each domain that counts, 0 or more; where all are 0, as before the
    first cut, the weights stay. No factor is above MOST or below its reciprocal.
    """
    counted = {name: weight for name, weight in weights.items() if weight}
    whole = math.fsum(counted.values())
    mean = math.fsum(weight * lost[name] for name, weight in counted.items()) / whole
    if not rate or not mean:
        return dict(weights)
    most = math.log(MOST)
    factors = {name: math.exp(min(most, max(-most, rate * (lost[name] / mean - 1)))) for name in counted}
    scale = whole / math.fsum(weight * factors[name] for name, weight in counted.items())
    return {name: weight * factors[name] * scale if weight else weight for name, weight in weights.items()}
