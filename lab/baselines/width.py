"""Width pruning as the baselines do it, re-implemented on this project's statistics, metrics and cuts.

Every method takes a dense model, calibration text and a share of the decoder's parameters, and cuts the model
in place. Where the originals remove a head, a KV group with its query heads is removed here, because a
model with grouped queries can lose nothing smaller without another kind of attention.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lab.baselines.biases import compensate
from lab.baselines.selection import (
    all_kept,
    baseline_sites,
    budget_of,
    global_masks,
    layer_masks,
    unit_costs,
)
from lab.baselines.walk import Sequences, batches, walk
from secateurs.families.decoder import decoder_layers, decoder_parameters
from secateurs.heal.watching import projection
from secateurs.inference.loss import sequence_losses
from secateurs.kinds.channels import ChannelSite, output_projection
from secateurs.kinds.config import resize_config
from secateurs.kinds.importance import METRICS, unit_scores
from secateurs.kinds.sites import cut
from secateurs.kinds.statistics import ChannelSums

Method = Callable[[PreTrainedModel, Sequences, float], None]
Losses = Callable[[PreTrainedModel, Tensor], Tensor]

# LLM-Pruner's own command for LLaMA-7B spares the first four and the last two layers.
SPARED_FIRST, SPARED_LAST = 4, 2
# GISP's configurations take 112 steps over all their text; here the text is read once, a part of it a step.
GISP_STEPS = 5


def magnitude(model: PreTrainedModel, sequences: Sequences, share: float) -> None:
    """||W_j||, of the output projections' columns, every layer by the same share; heads sum their channels.

    The structured magnitude baseline of FLAP's authors (An et al. 2023). Sees no text.
    """
    norms = {
        site.name: output_projection(model, site).weight.detach().double().norm(dim=0)
        for site in baseline_sites(model)
    }
    cut(model, _uniform(model, norms, share, spared=(0, 0)))


def wanda_sp(model: PreTrainedModel, sequences: Sequences, share: float) -> None:
    """mean_i |W_ij| ||x_j||, every layer by the same share: Wanda (Sun et al. 2023) for whole channels.

    As FLAP's authors run it (their Wanda-sp): a layer is measured on the output of the layers already cut.
    """
    sites, costs = baseline_sites(model), unit_costs(model, baseline_sites(model))
    budget = budget_of(model, share) / len(decoder_layers(model))
    masks: dict[str, Tensor] = {}

    def visit(layer: nn.Module, own: list[ChannelSite], sums: Mapping[str, ChannelSums]) -> bool:
        scores = {
            site.name: unit_scores(wanda_scores(projection(layer, site).weight, sums[site.name]), site.units)
            for site in own
        }
        chosen = layer_masks(own, scores, costs, round(budget), share)
        for site in own:
            site.kind.cut(layer, site, chosen[site.name])
        masks.update(chosen)
        return True

    walk(model, sites, sequences, visit)
    resize_config(model.config, masks)


def wanda_scores(weight: Tensor, sums: ChannelSums) -> Tensor:
    """mean_i |W_ij| ||x_j||, float64 [channels], of a weight [d, channels]."""
    return weight.detach().double().abs().mean(dim=0) * sums.sums[1].to(weight.device).sqrt()


def flap(model: PreTrainedModel, sequences: Sequences, share: float) -> None:
    """FLAP (An et al. 2023): ||W_j||^2 var x_j, standardised per layer, all layers ranked together, biases.

    Their default (weighted input feature variance, adaptive over attention and mlp). As in their program the
    scores of attention are squared first, a head's is the mean of its channels', and the ranking is by score,
    the budget by parameters. Removed channels are replaced by their mean, in the projection's bias.
    """
    sites = baseline_sites(model)
    tokens = sum(ids.numel() for ids in sequences.values())
    means: dict[str, Tensor] = {}
    scores: dict[str, Tensor] = {}
    costs = unit_costs(model, sites)

    def visit(layer: nn.Module, own: list[ChannelSite], sums: Mapping[str, ChannelSums]) -> bool:
        for site in own:
            means[site.name] = sums[site.name].sums[0].cpu() / tokens
            statistics = sums[site.name].statistics(tokens, 1)
            weight = projection(layer, site).weight.detach().cpu()
            found = METRICS["fluctuation"](weight, statistics, torch.Generator())
            channels = standardised(found.square() if site.kind.name == "attention" else found)
            # Our ranking divides scores by the parameters of a unit, theirs does not: this undoes the
            # division.
            scores[site.name] = channels.view(site.units, -1).mean(dim=1) * costs[site.name]
        return False

    walk(model, sites, sequences, visit)
    masks = global_masks(sites, scores, costs, all_kept(sites), budget_of(model, share))
    compensate(model, means, masks)
    cut(model, masks)


def standardised(scores: Tensor) -> Tensor:
    """(score - mean) / standard deviation, over the channels of one site of one layer."""
    return (scores - scores.mean()) / scores.std()


def taylor(model: PreTrainedModel, sequences: Sequences, share: float) -> None:
    """LLM-Pruner (Ma et al. 2023): the sum of |w dL/dw| over all weights of a head or channel.

    Their `param_first`, block-wise: the layers that they spare stay whole, the others lose the same share.
    """
    salience = unit_salience(model, batches(sequences))
    cut(model, _uniform(model, salience, share, spared=(SPARED_FIRST, SPARED_LAST)))


def gisp(
    model: PreTrainedModel, sequences: Sequences, share: float, losses: Losses = sequence_losses
) -> None:
    """GISP (Wang et al. 2025): |w dL/dw| averaged over a head or channel, ranked globally, in steps.

    losses: L of each sequence, for a model and ids: the token loss, or a margin (margins.py). The model is
    cut after every step and measured anew. Steps are equal in parameters and each reads the next part of
    every domain's text, so that the whole text is read about once, as by the other methods.
    """
    sites, costs = baseline_sites(model), unit_costs(model, baseline_sites(model))
    kept = all_kept(sites)
    rows = max(1, min(map(len, sequences.values())) // GISP_STEPS)
    for step in range(GISP_STEPS):
        part = {domain: ids.roll(-step * rows, dims=0)[:rows] for domain, ids in sequences.items()}
        smaller = copy.deepcopy(model)
        cut(smaller, kept)
        salience = unit_salience(smaller, batches(part), losses)
        scores = {name: torch.zeros(len(mask), dtype=torch.float64) for name, mask in kept.items()}
        for name, mask in kept.items():
            scores[name][mask] = salience[name]
        # The ranking divides by a unit's parameters, which makes the sum a mean.
        budget = round(budget_of(model, share) * (step + 1) / GISP_STEPS)
        kept = global_masks(sites, scores, costs, kept, budget)
    cut(model, kept)


def unit_salience(
    model: PreTrainedModel, ids: list[Tensor], losses: Losses = sequence_losses
) -> dict[str, Tensor]:
    """|w dL/dw| summed over the weights of each unit, float64 [units] by site name.

    L is the mean of `losses` over the sequences in `ids`, int64 [batch, tokens] each.
    """
    sites = baseline_sites(model)
    layers = decoder_layers(model)
    layers.requires_grad_(True)
    count = sum(map(len, ids))
    for batch in ids:
        loss = losses(model, batch.to(model.device)).sum() / count
        loss.backward()
    salience = {site.name: _unit_salience(layers[site.layer], site) for site in sites}
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    return salience


@torch.no_grad()
def _unit_salience(layer: nn.Module, site: ChannelSite) -> Tensor:
    total = torch.zeros(site.units, dtype=torch.float64)
    for part in (*site.inputs, site.output):
        weight = layer.get_submodule(part.module).weight
        assert isinstance(weight, nn.Parameter)
        assert weight.grad is not None
        features = (weight * weight.grad).abs().double().sum(dim=1 - part.axis)
        own = features[part.offset : part.offset + site.units * part.block]
        total += own.view(site.units, part.block).sum(dim=1).cpu()
    return total


def _uniform(
    model: PreTrainedModel, scores: Mapping[str, Tensor], share: float, spared: tuple[int, int]
) -> dict[str, Tensor]:
    """Masks that take the same number of units from every layer but the first and last `spared`.

    scores: float [channels] or [units] by site name; channels are summed to units.
    """
    sites, costs = baseline_sites(model), unit_costs(model, baseline_sites(model))
    layers = len(decoder_layers(model))
    cut_layers = range(min(spared[0], layers // 4), layers - min(spared[1], layers // 4))
    budget = budget_of(model, share) / len(cut_layers)
    own_share = budget * layers / decoder_parameters(model)
    masks = all_kept(sites)
    for index in cut_layers:
        own = [site for site in sites if site.layer == index]
        units = {site.name: unit_scores(scores[site.name], site.units) for site in own}
        masks |= layer_masks(own, units, costs, round(budget), own_share)
    return masks
