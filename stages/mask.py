"""Stage: what a round removes, from its statistics and the masks of the round before."""

import click

from secateurs.choose.round import choose
from secateurs.choose.target import coarse_steps, decoder_share
from secateurs.errors import InputError
from secateurs.families.fused_experts import open_experts
from secateurs.files.json_file import write_json
from secateurs.kinds.importance import WEIGHT_METRICS
from secateurs.text.parts import spread
from stages.common.artifacts import read_json
from stages.common.checkpoints import load_model, load_shapes
from stages.common.console import stage, summary
from stages.common.dvc import key_of_stage
from stages.common.locks import hold
from stages.common.paths import MODEL, ROUNDS
from stages.common.settled import settled_params
from stages.params.file import PARAMS_FILE, read_params
from stages.params.method_settings import method_settings
from stages.rounds.captures import read_captures
from stages.rounds.tensors import check_kept, read_masks, read_scores, write_masks, write_scores


@stage
@click.argument("round_name", metavar="ROUND", required=False)
def main(round_name: str | None) -> None:
    """Choose what ROUND removes, on top of the round it follows."""
    params = settled_params(read_params())
    round_name = key_of_stage(round_name, "ROUND")
    hold(ROUNDS / round_name / "masks.safetensors")
    before, here = ROUNDS / params.round(round_name).after, ROUNDS / round_name
    # At most the dense weights are read, and on the CPU.
    by_weights = params.mask.metric in WEIGHT_METRICS
    model = open_experts(load_model(MODEL, params.compute.dtype) if by_weights else load_shapes(MODEL))
    captures = read_captures(here / "statistics.safetensors")
    settings = method_settings(params)
    mixture = spread(settings.mixture, {domain: one.sequences for domain, one in captures.items()})
    missing = sorted(name for name, weight in mixture.items() if weight and name not in captures)
    if missing:
        raise InputError(
            f"{here / 'statistics.safetensors'}: has no domain {', '.join(missing)}; "
            "run the capture stage again"
        )
    masks, scores = read_masks(before / "masks.safetensors"), read_scores(before / "scores.safetensors")
    history = read_json(before / "history.json")
    check_kept(masks, history, before)
    weights = history[-1].get("weights", mixture) if history else mixture
    settings = settings.changed(mixture=mixture)
    choice = choose(model, captures, masks, scores, weights, settings, round_name)
    write_masks(here / "masks.safetensors", choice.masks)
    write_scores(here / "scores.safetensors", choice.scores)
    write_json(here / "history.json", [*history, choice.history])
    budget = params.prune
    asked = params.rounds[round_name].progress * decoder_share(model, budget)
    if budget.sites and (coarse := coarse_steps(budget, asked, choice.history["sparsity"])):
        click.echo(f"mask {round_name}: {PARAMS_FILE}: {coarse}", err=True)
    summary(
        f"mask {round_name}",
        f"{choice.history['sparsity']:.1%} of the decoder's parameters removed so far",
    )


if __name__ == "__main__":
    main()
