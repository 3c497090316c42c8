"""The second step of a round: the channels that go, by the statistics of all rounds so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.choose.allocation import per_layer_masks, uniform_masks
from secateurs.choose.candidates import Candidate, by_site, candidates_of
from secateurs.choose.target import check_target, decoder_share
from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_parameters
from secateurs.kinds.importance import mixed_scores, rank_agreement
from secateurs.kinds.kind import Masks
from secateurs.kinds.names import widths
from secateurs.kinds.sites import chosen_sites, kept_units
from secateurs.measure.capture import DomainCapture
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
    budget, progress = settings.prune, settings.rounds[round_name]
    check_target(model, budget)
    generator = torch.Generator().manual_seed(settings.mask.seed)
    summed = dict(scores)
    by_domain: dict[str, dict[str, Tensor]] = {}
    full: dict[str, int] = {}
    # One of weight 0 needs no text; where it has some, it is measured too.
    domains = [name for name, weight in settings.mixture.items() if weight or name in captures]
    dialogues = {name for name in domains if captures[name].answers}
    for site in chosen_sites(model, budget.sites, budget.widths, budget.width_multiple):
        if settings.mask.metric not in site.kind.metrics:
            raise SettingError(
                f"mask.metric: {settings.mask.metric}: {site.kind.unit} have no such score; "
                f"choose one of {', '.join(site.kind.metrics)}"
            )
        found = {
            domain: site.kind.scores(
                model, site, settings.mask.metric, captures[domain].statistics[site.name], generator
            )
            for domain in domains
        }
        full[site.kind.name] = site.units
        # Scores of all rounds so far, each from its own text: few sequences a round then still add up.
        before = summed.get(site.name, torch.zeros(site.units, dtype=torch.float64))
        summed[site.name] = before + mixed_scores(found, settings.mixture, dialogues)
        units = kept_units(masks, site)
        ranked = by_domain.setdefault(site.kind.name if site.kind.pooled else site.name, {})
        for domain, values in found.items():
            ranked[domain] = torch.cat([ranked.get(domain, values[:0]), values[units]])
    candidates = candidates_of(model, budget, summed, masks)
    total = decoder_parameters(model)
    share = decoder_share(model, budget)
    cut: Masks = {}
    # Without a kind of channels only the vocabulary is cut, and every round keeps all.
    if candidates:
        _check_scores(candidates, settings)
        allocate = uniform_masks if budget.widths == "uniform" else per_layer_masks
        cut = allocate(candidates, round(progress * share * total), budget.floor)
    matrix = rank_agreement(list(by_domain.values()))
    removed = sum(one.cost * int((~cut[one.name]).sum()) for one in candidates)
    chosen = {**masks, **by_site(candidates, cut)}
    history = {
        "round": round_name,
        "progress": progress,
        "metric": settings.mask.metric,
        "prune": budget.written(),
        "sequences": {domain: captures[domain].sequences for domain in domains},
        "sparsity": removed / total,
        "loss": {domain: captures[domain].loss for domain in domains},
        "kept": {kind: widths(chosen, kind) for kind in budget.sites},
        "full": full,
        "agreement": {"domains": domains if matrix else [], "matrix": matrix},
    }
    return Choice(chosen, summed, history)


def _check_scores(candidates: Sequence[Candidate], settings: Settings) -> None:
    """Raise InputError for scores that are not finite, or all 0: any order among them would be arbitrary."""
    where = f"mask.metric: {settings.mask.metric}"
    for one in candidates:
        if not bool(torch.isfinite(one.scores).all()):
            raise SettingError(
                f"{where}: the scores of site {one.name} are not finite; set compute.dtype: float32, and "
                "bring the weights of `mixture` near 1"
            )
    if not any(bool(one.scores.any()) for one in candidates):
        raise SettingError(f"{where}: all scores are 0, so they rank nothing; set compute.dtype: float32")
