"""The second step of a round: the channels that go, by the statistics of all rounds so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.choose.allocation import (
    Candidate,
    Limits,
    per_layer_masks,
    uniform_masks,
)
from secateurs.choose.target import check_target, decoder_share
from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_parameters
from secateurs.kinds.chosen import chosen_sites
from secateurs.kinds.sites import Masks, output_projection, unit_parameters
from secateurs.kinds.sizes import widths
from secateurs.measure.capture import DomainCapture
from secateurs.measure.importance import METRICS, mixed_scores, rank_agreement, unit_scores
from secateurs.settings.method import Settings


@dataclass(frozen=True)
class Choice:
    """What a round chooses.

    masks: bool [units] by site name, True = kept. scores: float64 [units] by site name, summed over the
    rounds so far. history: what the round says of itself, ready for JSON.
    """

    masks: dict[str, Tensor]
    scores: dict[str, Tensor]
    history: dict[str, Any]


def choose(
    model: PreTrainedModel,
    captures: Mapping[str, DomainCapture],
    masks: Masks,
    scores: Mapping[str, Tensor],
    settings: Settings,
    round_name: str,
) -> Choice:
    """Score the units by a round's captures and keep the best within its budget.

        score = scores of the rounds before + sum over domains of mixture_d * metric(captures_d)

    where those of dialogues are first brought to the level of the others (importance.mixed_scores).

    model: the dense one, its experts opened. captures: by domain, over the dense model's channels. masks and
    scores: of the round before. Raises InputError for a budget or widths that cannot be met, and for scores
    that rank nothing.
    """
    budget, progress = settings.budget, settings.rounds[round_name]
    metric = METRICS[settings.metric]
    generator = torch.Generator().manual_seed(settings.seed)
    summed, kept = dict(scores), dict(masks)
    candidates, by_domain = [], []
    # One of weight 0 needs no text; where it has some, it is measured too.
    domains = [name for name, weight in settings.mixture.items() if weight or name in captures]
    dialogues = {name for name in domains if captures[name].answers}
    for site in chosen_sites(model, budget.sites, budget.widths, budget.width_multiple):
        weight = output_projection(model, site).weight
        found = {
            domain: unit_scores(metric(weight, captures[domain].statistics[site.name], generator), site.units)
            for domain in domains
        }
        cost = unit_parameters(model, site)
        # Scores of all rounds so far, each from its own text: few sequences a round then still add up.
        summed[site.name] = summed[site.name] + mixed_scores(found, settings.mixture, dialogues)
        candidates.append(
            Candidate(site.name, site.kind, summed[site.name], kept[site.name], cost, site.groups)
        )
        by_domain.append({domain: values[kept[site.name]] for domain, values in found.items()})

    _check_scores(candidates, settings)
    total = decoder_parameters(model)
    limits = Limits(budget.width_multiple, budget.floor)
    # The first round already refuses what only the last one would run into.
    check_target(model, budget)
    share = decoder_share(model, budget)
    allocate = uniform_masks if budget.widths == "uniform" else per_layer_masks
    chosen = kept | allocate(candidates, round(progress * share * total), limits)
    removed = sum(one.cost * int((~chosen[one.name]).sum()) for one in candidates)
    history = {
        "round": round_name,
        "progress": progress,
        "metric": settings.metric,
        "prune": budget.written(),
        "sequences": {domain: captures[domain].sequences for domain in domains},
        "sparsity": removed / total,
        "loss": {domain: captures[domain].loss for domain in domains},
        "kept": {kind: widths(chosen, kind) for kind in budget.sites},
        "full": {one.kind: len(one.kept) for one in candidates},
        "agreement": {"domains": domains, "matrix": rank_agreement(by_domain)},
    }
    return Choice(chosen, summed, history)


def _check_scores(candidates: Sequence[Candidate], settings: Settings) -> None:
    """Raise InputError for scores that are not finite, or all 0: any order among them would be arbitrary."""
    where = f"mask.metric: {settings.metric}"
    for one in candidates:
        if not bool(torch.isfinite(one.scores).all()):
            raise SettingError(
                f"{where}: the scores of site {one.name} are not finite; set compute.dtype: float32, and "
                "bring the weights of `mixture` near 1"
            )
    if not any(bool(one.scores.any()) for one in candidates):
        raise SettingError(f"{where}: all scores are 0, so they rank nothing; set compute.dtype: float32")
