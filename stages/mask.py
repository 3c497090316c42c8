"""Which channels go in a round: statistics and the masks before, in; nested masks and the history, out."""

from pathlib import Path

import click
import torch

from stages.artifacts import read_json, write_json
from stages.captures import read_captures
from stages.checkpoints import load_model
from stages.console import stage, summary
from stages.errors import InputError
from stages.params import Prune, read_params
from stages.pruning.allocation import (
    Candidate,
    Limits,
    check_reachable,
    per_layer_masks,
    uniform_masks,
)
from stages.pruning.experts import open_experts
from stages.pruning.families import decoder_parameters, output_projection, sites_of, unit_parameters, widths
from stages.pruning.importance import METRICS, mixed_scores, rank_agreement, unit_scores
from stages.tensors import read_masks, read_scores, write_masks, write_scores

MODEL = Path("data/model")
ROUNDS = Path("data/rounds")
# transformers multiplies all experts at once and wants rows of whole 16 bytes, in half precision too.
EXPERT_MULTIPLE = 8


@stage
@click.argument("round_name", metavar="ROUND")
def main(round_name: str) -> None:
    """Choose the channels that ROUND removes, on top of the round it follows."""
    params = read_params()
    item = params.rounds[round_name]
    # Scores need the dense weights only, wherever there is memory.
    model = open_experts(load_model(MODEL, params.compute.dtype))
    kept = read_masks(ROUNDS / item.after / "masks.safetensors")
    summed = read_scores(ROUNDS / item.after / "scores.safetensors")
    statistics_file = ROUNDS / round_name / "statistics.safetensors"
    captures = read_captures(statistics_file)
    missing = sorted(set(params.mixture) - set(captures))
    if missing:
        raise InputError(
            f"{statistics_file}: has no domain {', '.join(missing)}; run the capture stage again"
        )

    metric = METRICS[params.mask.metric]
    generator = torch.Generator().manual_seed(params.mask.seed)
    candidates, by_domain = [], []
    sites = sites_of(model, tuple(params.prune.sites))
    if any(site.expert is not None for site in sites):
        _check_experts(params.prune)
    for site in sites:
        weight = output_projection(model, site).weight
        scores = {
            domain: unit_scores(metric(weight, captures[domain].statistics[site.name], generator), site.units)
            for domain in params.mixture
        }
        cost = unit_parameters(model, site)
        # Scores of all rounds so far, each from its own text: few sequences a round then still add up.
        summed[site.name] = summed[site.name] + mixed_scores(scores, params.mixture)
        candidates.append(
            Candidate(site.name, site.kind, summed[site.name], kept[site.name], cost, site.groups)
        )
        by_domain.append({domain: values[kept[site.name]] for domain, values in scores.items()})

    total = decoder_parameters(model)
    limits = Limits(params.prune.width_multiple, params.prune.floor)
    # The first round already refuses what only the last one would run into.
    check_reachable(candidates, round(params.prune.sparsity * total), limits)
    budget = round(item.progress * params.prune.sparsity * total)
    allocate = uniform_masks if params.prune.widths == "uniform" else per_layer_masks
    chosen = allocate(candidates, budget, limits)
    masks = kept | chosen
    removed = sum(one.cost * int((~masks[one.name]).sum()) for one in candidates)

    write_masks(ROUNDS / round_name / "masks.safetensors", masks)
    write_scores(ROUNDS / round_name / "scores.safetensors", summed)
    entry = {
        "round": round_name,
        "progress": item.progress,
        "metric": params.mask.metric,
        "prune": params.prune.model_dump(),
        "sequences": {domain: captures[domain].sequences for domain in params.mixture},
        "sparsity": removed / total,
        "loss": {domain: captures[domain].loss for domain in params.mixture},
        "kept": {kind: widths(masks, kind) for kind in params.prune.sites},
        "full": {one.kind: len(one.kept) for one in candidates},
        "agreement": {"domains": list(params.mixture), "matrix": rank_agreement(by_domain)},
    }
    write_json(
        ROUNDS / round_name / "history.json", [*read_json(ROUNDS / item.after / "history.json"), entry]
    )
    summary(f"mask {round_name}", f"{removed / total:.1%} of the decoder's parameters removed so far")


def _check_experts(prune: Prune) -> None:
    if prune.widths == "per_layer":
        raise InputError(
            "params.yaml: prune.widths: per_layer: the experts of a layer must have one width; use uniform"
        )
    if prune.width_multiple % EXPERT_MULTIPLE:
        raise InputError(
            f"params.yaml: prune.width_multiple: {prune.width_multiple}: widths of experts must be multiples "
            f"of {EXPERT_MULTIPLE}, for grouped matrix products"
        )


if __name__ == "__main__":
    main()
