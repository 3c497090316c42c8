"""Which channels go in a round: statistics and the masks before, in; nested masks and the history, out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.artifacts import read_json, write_json
from stages.captures import read_captures
from stages.checkpoints import load_model
from stages.console import stage, summary
from stages.errors import InputError
from stages.params import Params, read_params
from stages.pruning.allocation import (
    Candidate,
    Limits,
    check_reachable,
    per_layer_masks,
    uniform_masks,
)
from stages.pruning.capture import DomainCapture
from stages.pruning.experts import open_experts
from stages.pruning.families import (
    Masks,
    decoder_parameters,
    output_projection,
    unit_parameters,
    widths,
)
from stages.pruning.importance import METRICS, mixed_scores, rank_agreement, unit_scores
from stages.sites import chosen_sites
from stages.tensors import read_masks, read_scores, write_masks, write_scores

MODEL = Path("data/model")
ROUNDS = Path("data/rounds")


@dataclass(frozen=True)
class Choice:
    """What a round chooses. By site name, masks: bool [units], True = kept; scores: float64 [units], summed
    over the rounds so far. history: the round's entry."""

    masks: dict[str, Tensor]
    scores: dict[str, Tensor]
    history: dict[str, Any]


@stage
@click.argument("round_name", metavar="ROUND")
def main(round_name: str) -> None:
    """Choose the channels that ROUND removes, on top of the round it follows."""
    params = read_params()
    before, here = ROUNDS / params.rounds[round_name].after, ROUNDS / round_name
    # Scores need the dense weights only, wherever there is memory.
    model = open_experts(load_model(MODEL, params.compute.dtype))
    captures = read_captures(here / "statistics.safetensors")
    missing = sorted(set(params.mixture) - set(captures))
    if missing:
        raise InputError(
            f"{here / 'statistics.safetensors'}: has no domain {', '.join(missing)}; "
            "run the capture stage again"
        )
    masks, scores = read_masks(before / "masks.safetensors"), read_scores(before / "scores.safetensors")
    choice = choose(model, captures, masks, scores, params, round_name)
    write_masks(here / "masks.safetensors", choice.masks)
    write_scores(here / "scores.safetensors", choice.scores)
    write_json(here / "history.json", [*read_json(before / "history.json"), choice.history])
    summary(
        f"mask {round_name}",
        f"{choice.history['sparsity']:.1%} of the decoder's parameters removed so far",
    )


def choose(
    model: PreTrainedModel,
    captures: Mapping[str, DomainCapture],
    masks: Masks,
    scores: Mapping[str, Tensor],
    params: Params,
    round_name: str,
) -> Choice:
    """Score the units by the round's captures and keep the best within its budget.

    model: the dense one, its experts opened; captures: by domain, over the dense model's channels; masks and
    scores: of the round before. Raises InputError for a budget or widths that cannot be met.
    """
    item = params.rounds[round_name]
    metric = METRICS[params.mask.metric]
    generator = torch.Generator().manual_seed(params.mask.seed)
    summed, kept = dict(scores), dict(masks)
    candidates, by_domain = [], []
    for site in chosen_sites(model, params.prune):
        weight = output_projection(model, site).weight
        found = {
            domain: unit_scores(metric(weight, captures[domain].statistics[site.name], generator), site.units)
            for domain in params.mixture
        }
        cost = unit_parameters(model, site)
        # Scores of all rounds so far, each from its own text: few sequences a round then still add up.
        summed[site.name] = summed[site.name] + mixed_scores(found, params.mixture)
        candidates.append(
            Candidate(site.name, site.kind, summed[site.name], kept[site.name], cost, site.groups)
        )
        by_domain.append({domain: values[kept[site.name]] for domain, values in found.items()})

    total = decoder_parameters(model)
    limits = Limits(params.prune.width_multiple, params.prune.floor)
    # The first round already refuses what only the last one would run into.
    check_reachable(candidates, round(params.prune.sparsity * total), limits)
    budget = round(item.progress * params.prune.sparsity * total)
    allocate = uniform_masks if params.prune.widths == "uniform" else per_layer_masks
    chosen = kept | allocate(candidates, budget, limits)
    removed = sum(one.cost * int((~chosen[one.name]).sum()) for one in candidates)
    history = {
        "round": round_name,
        "progress": item.progress,
        "metric": params.mask.metric,
        "prune": params.prune.model_dump(),
        "sequences": {domain: captures[domain].sequences for domain in params.mixture},
        "sparsity": removed / total,
        "loss": {domain: captures[domain].loss for domain in params.mixture},
        "kept": {kind: widths(chosen, kind) for kind in params.prune.sites},
        "full": {one.kind: len(one.kept) for one in candidates},
        "agreement": {"domains": list(params.mixture), "matrix": rank_agreement(by_domain)},
    }
    return Choice(chosen, summed, history)


if __name__ == "__main__":
    main()
