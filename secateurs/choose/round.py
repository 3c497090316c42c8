"""The second step of a round: what goes, by the statistics of all rounds so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.choose.allocation import per_layer_masks, removed_by_kind, uniform_masks
from secateurs.choose.candidates import Candidate, by_site, candidates_of
from secateurs.choose.mixing import mixed, reweighted
from secateurs.choose.target import check_target, decoder_share
from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_parameters
from secateurs.kinds.importance import rank_agreement
from secateurs.kinds.kind import Masks
from secateurs.kinds.names import widths
from secateurs.kinds.sites import chosen_sites, kept_units
from secateurs.measure.capture import DomainCapture
from secateurs.settings.method import Settings
from secateurs.settings.pruning import Mask


@dataclass(frozen=True)
class Choice:
    """What a round chooses.

    masks: bool [units] by site name, True = kept. scores: float64 [units] by site name, summed over the
    rounds so far. weights: how much each domain counted. history: what the round says of itself, ready for
    JSON.
    """

    masks: dict[str, Tensor]
    scores: dict[str, Tensor]
    weights: dict[str, float]
    history: dict[str, Any]


def choose(
    model: PreTrainedModel,
    captures: Mapping[str, DomainCapture],
    masks: Masks,
    scores: Mapping[str, Tensor],
    weights: Mapping[str, float],
    settings: Settings,
    round_name: str,
) -> Choice:
    """Score the units by a round's captures and keep the best within its budget.

        score = scores of the rounds before + mix over domains of metric(captures_d)    (mixing.mixed)

    where the weights of domains are first moved towards those that lost most (mixing.reweighted).

    model: the dense one, its experts opened. captures: by domain, over the dense model's channels. masks,
    scores and weights: of the round before. Raises InputError for a budget or widths that cannot be met, and
    for scores that rank nothing.
    """
    budget, progress = settings.prune, settings.rounds[round_name]
    check_target(model, budget)
    generator = torch.Generator().manual_seed(settings.mask.seed)
    summed = dict(scores)
    by_domain: dict[str, dict[str, Tensor]] = {}
    full: dict[str, int] = {}
    # One of weight 0 needs no text; where it has some, it is measured too.
    weights = _moved(weights, captures, settings.mask)
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
        summed[site.name] = before + mixed(found, weights, settings.mask, dialogues)
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
        cut = allocate(candidates, round(progress * share * total), budget.floor, budget.shares)
    matrix = rank_agreement(list(by_domain.values()))
    removed = removed_by_kind(candidates, cut)
    chosen = {**masks, **by_site(candidates, cut)}
    history = {
        "round": round_name,
        "progress": progress,
        "metric": settings.mask.metric,
        "prune": budget.written(),
        "sequences": {domain: captures[domain].sequences for domain in domains},
        "sparsity": sum(removed.values()) / total,
        "loss": {domain: captures[domain].loss for domain in domains},
        "kept": {kind: widths(chosen, kind) for kind in budget.sites},
        "full": full,
        "agreement": {"domains": domains if matrix else [], "matrix": matrix},
    }
    if len(budget.sites) > 1:
        history["removed"] = removed
    if settings.mask.reweight:
        history |= {"weights": weights, "lost": {name: captures[name].lost for name in domains}}
    return Choice(chosen, summed, weights, history)


def _moved(
    weights: Mapping[str, float], captures: Mapping[str, DomainCapture], mask: Mask
) -> dict[str, float]:
    """The weights of this round. Raises SettingError where captures do not say what was lost."""
    if not mask.reweight:
        return dict(weights)
    gone: dict[str, float] = {}
    for name, weight in weights.items():
        value = captures[name].lost if weight else 0.0
        if value is None:
            raise SettingError(
                f"mask.reweight: {mask.reweight}: the statistics do not say what was lost on domain "
                f"{name}; set mask.left_out"
            )
        gone[name] = value
    return reweighted(weights, gone, mask.reweight)


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
