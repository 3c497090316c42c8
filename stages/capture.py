"""Channel statistics per domain, of the dense model cut by the masks so far."""

from pathlib import Path

import click

from stages.artifacts import read_sequences
from stages.captures import write_captures
from stages.checkpoints import load_model
from stages.console import counter, is_first, stage, summary
from stages.devices import place, process_group, resolve_device
from stages.params import read_params
from stages.pruning.capture import capture
from stages.pruning.experts import open_experts
from stages.pruning.families import channel_mask, cut, sites_of
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
    dense_sites = sites_of(model, tuple(params.prune.sites))
    masks = read_masks(ROUNDS / before / "masks.safetensors")
    cut(model, masks)
    place(model, params.compute.device)
    # Every round reads other sequences, and mask adds up what the rounds saw: text is not read twice.
    turn = params.chain().index(round_name)
    sequences = by_domain(read_sequences(CALIBRATION), params.capture.sequences, turn)
    with (
        process_group(resolve_device(params.compute.device)),
        counter(f"capture {round_name}", "sequence", sum(map(len, sequences.values()))) as bar,
    ):
        captures = capture(
            model,
            sites_of(model, tuple(params.prune.sites)),
            sequences,
            gradients=params.capture.gradients,
            checkpointing=params.capture.checkpointing,
            batch_size=params.capture.batch_size,
            on_sequences=bar.update,
        )
    if not is_first():
        return
    kept = {site.name: channel_mask(site, masks[site.name]) for site in dense_sites}
    write_captures(
        ROUNDS / round_name / "statistics.safetensors",
        {domain: one.expanded(kept) for domain, one in captures.items()},
        {"after": before, **params.capture.model_dump(), "dtype": params.compute.dtype},
    )
    tokens = sum(one.tokens for one in captures.values())
    summary(f"capture {round_name}", f"{len(kept)} sites, {len(captures)} domains, {tokens:,} tokens")


if __name__ == "__main__":
    main()
