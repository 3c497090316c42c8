"""Channel statistics per domain, of the dense model cut by the masks so far."""

from collections.abc import Callable
from pathlib import Path

import click
from transformers import PreTrainedModel

from stages.artifacts import Sequence, read_sequences
from stages.captures import write_captures
from stages.checkpoints import load_model
from stages.console import counter, is_first, stage, summary
from stages.devices import place, process_group, resolve_device
from stages.params import Params, read_params
from stages.pruning.capture import DomainCapture, capture
from stages.pruning.experts import open_experts
from stages.pruning.families import Masks, channel_mask, cut, sites_of
from stages.sites import chosen_sites
from stages.tensors import by_domain, read_masks

MODEL = Path("data/model")
CALIBRATION = Path("data/corpus/calibration.parquet")
ROUNDS = Path("data/rounds")


@stage
@click.argument("round_name", metavar="ROUND")
def main(round_name: str) -> None:
    """Capture the channel statistics that ROUND prunes by."""
    params = read_params()
    before = params.rounds[round_name].after
    model = open_experts(load_model(MODEL, params.compute.dtype))
    masks = read_masks(ROUNDS / before / "masks.safetensors")
    rows = read_sequences(CALIBRATION)
    total = params.capture.sequences * len({row.domain for row in rows})
    with (
        process_group(resolve_device(params.compute.device)),
        counter(f"capture {round_name}", "sequence", total) as bar,
    ):
        captures = measure(model, masks, rows, params, round_name, bar.update)
    if not is_first():
        return
    write_captures(
        ROUNDS / round_name / "statistics.safetensors",
        captures,
        {"after": before, **params.capture.model_dump(), "dtype": params.compute.dtype},
    )
    tokens = sum(one.tokens for one in captures.values())
    sites = len(next(iter(captures.values())).statistics)
    summary(f"capture {round_name}", f"{sites} sites, {len(captures)} domains, {tokens:,} tokens")


def measure(
    model: PreTrainedModel,
    masks: Masks,
    rows: list[Sequence],
    params: Params,
    round_name: str,
    on_sequences: Callable[[int], object],
) -> dict[str, DomainCapture]:
    """Cut the dense model, in place, by the masks of the round before, and take ROUND's statistics of it.

    rows: the calibration text, of which the round reads its share. Returns captures by domain, over the dense
    model's channels; `on_sequences` is called with the number of sequences of each batch done.
    """
    kept = {site.name: channel_mask(site, masks[site.name]) for site in chosen_sites(model, params.prune)}
    cut(model, masks)
    place(model, params.compute.device)
    # Every round reads other sequences, and mask adds up what the rounds saw: text is not read twice.
    turn = params.chain().index(round_name)
    captures = capture(
        model,
        sites_of(model, tuple(params.prune.sites)),
        by_domain(rows, params.capture.sequences, turn),
        gradients=params.capture.gradients,
        checkpointing=params.capture.checkpointing,
        batch_size=params.capture.batch_size,
        on_sequences=on_sequences,
    )
    return {domain: one.expanded(kept) for domain, one in captures.items()}


if __name__ == "__main__":
    main()
