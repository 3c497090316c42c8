"""Which channels and KV groups go, by the rules that the baselines share."""

from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.choose.allocation import per_layer_masks
from secateurs.choose.candidates import Candidate
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters
from secateurs.families.discover import family_of
from secateurs.kinds.channels import ChannelSite, channel_site
from secateurs.kinds.sites import sites_of

# A layer keeps at least one KV group and one channel: without any it would not be a layer of its class.
FLOOR = 1e-9


def baseline_sites(model: PreTrainedModel) -> list[ChannelSite]:
    """KV groups with their query heads, and mlp channels: what the baselines remove.

    Raises InputError for a family of which attention cannot be pruned, or whose mlp is a mixture.
    """
    if family_of(model.config).has_experts:
        raise InputError(f"config.json: model_type: {model.config.model_type}: the baselines know no experts")
    return [channel_site(site) for site in sites_of(model, ("attention", "mlp"))]


def layer_masks(sites: Iterable[ChannelSite], scores: dict[str, Tensor], costs: dict[str, int], budget: int,
                share: float) -> dict[str, Tensor]:  # fmt: skip
    """Masks of one layer that remove `budget` of its parameters, the least scores first.

    Of the KV groups go int(share * groups), rounded down as the baselines do it; channels make up the rest.
    Scores are float [units] by site name. Raises InputError where the channels do not suffice.
    """
    by_kind = {site.kind.name: site for site in sites}
    attention, mlp = by_kind["attention"], by_kind["mlp"]
    groups = min(int(share * attention.units), attention.units - 1)
    channels = round((budget - groups * costs[attention.name]) / costs[mlp.name])
    if not 0 <= channels < mlp.units:
        raise InputError(
            f"layer {mlp.layer}: {budget:,} parameters to remove: {channels} of {mlp.units} channels; "
            "choose a smaller share"
        )
    return {
        attention.name: without_least(scores[attention.name], groups),
        mlp.name: without_least(scores[mlp.name], channels),
    }


def without_least(scores: Tensor, count: int) -> Tensor:
    """Bool [units], False at the `count` least scores; among equals the earlier unit goes."""
    kept = torch.ones(len(scores), dtype=torch.bool)
    kept[torch.sort(scores, stable=True).indices[:count].cpu()] = False
    return kept


def global_masks(sites: list[ChannelSite], scores: dict[str, Tensor], costs: dict[str, int],
                 kept: dict[str, Tensor], budget: int) -> dict[str, Tensor]:  # fmt: skip
    """Rank the units of all layers together, by score per parameter, until `budget` parameters are gone."""
    candidates = [
        Candidate(
            site.name, site.kind.name, scores[site.name].double().cpu(), kept[site.name], costs[site.name]
        )
        for site in sites
    ]
    return per_layer_masks(candidates, budget, FLOOR)


def unit_costs(model: PreTrainedModel, sites: Iterable[ChannelSite]) -> dict[str, int]:
    """Parameters that one unit takes with it, by site name."""
    return {site.name: site.kind.cost(model, site) for site in sites}


def all_kept(sites: Iterable[ChannelSite]) -> dict[str, Tensor]:
    """Masks that remove nothing."""
    return {site.name: torch.ones(site.units, dtype=torch.bool) for site in sites}


def budget_of(model: PreTrainedModel, share: float) -> int:
    """`share` of the decoder layers' parameters."""
    return round(share * decoder_parameters(model))
