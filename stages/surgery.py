"""Cut the dense model by the last round's masks, heal it, and write the smaller checkpoint."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

from stages.artifacts import Sequence, atomic, read_json, read_sequences
from stages.checkpoints import load_model, load_tokenizer
from stages.console import counter, is_first, stage, summary
from stages.devices import passing_through, process_group, resolve_device
from stages.model_card import Measures, model_card
from stages.modelling import save_model, save_tokenizer
from stages.params import Params, read_params
from stages.proof import prove_load
from stages.pruning.experts import close_experts, open_experts
from stages.pruning.families import Masks, decoder_layers, decoder_parameters
from stages.pruning.loss import sequence_losses
from stages.pruning.reconstruction import Reconstruction
from stages.pruning.surgery import Healing, prune
from stages.tensors import read_masks, weighted

MODEL = Path("data/model")
CALIBRATION = Path("data/corpus/calibration.parquet")
ROUNDS = Path("data/rounds")
PRUNED = Path("data/pruned")
PROOF_TOKENS = 64


@stage
def main() -> None:
    """Write data/pruned: a complete checkpoint, cut by the masks, healed, and proved to load."""
    params = read_params()
    last = ROUNDS / params.surgery.after
    device = resolve_device(params.compute.device)
    model = open_experts(load_model(MODEL, params.compute.dtype))
    masks = read_masks(last / "masks.safetensors")
    text = healing_text(read_sequences(CALIBRATION), params)
    # A first sign for the model card, on text the pruning saw; held-out text is evaluate's.
    check = torch.cat([ids[:1] for ids in text.values()])
    before = _measure(model, check, device)
    with (
        process_group(device),
        counter("surgery", "layer", len(decoder_layers(model))) as bar,
    ):
        operate(model, masks, text, params, bar.update)
    if not is_first():
        return
    after = _measure(close_experts(model), check, device)
    with atomic(PRUNED) as directory:
        save_model(model, directory)
        tokenizer = load_tokenizer(MODEL)
        save_tokenizer(tokenizer, directory)
        proof = prove_load(model, directory, check[:2, :PROOF_TOKENS], PRUNED, tokenizer)
        history = read_json(last / "history.json")
        card = model_card(params, history, check.shape[1], before, after, proof)
        (directory / "README.md").write_text(card, encoding="utf-8")
    share = 1 - after.decoder / before.decoder
    summary("surgery", f"{after.parameters:,} parameters, {share:.1%} of the decoder removed, in {PRUNED}")


def healing_text(rows: list[Sequence], params: Params) -> dict[str, torch.Tensor]:
    """What healing reads of the calibration text: int64 [count, tokens] by domain."""
    return weighted(rows, params.surgery.sequences, params.mixture)


def operate(
    model: PreTrainedModel,
    masks: Masks,
    text: Mapping[str, torch.Tensor],
    params: Params,
    on_layer: Callable[[], object],
) -> None:
    """Cut the dense model, in host memory and its experts opened, in place, and heal it as params say."""
    settings = params.surgery
    training = settings.reconstruct
    reconstruction = (
        Reconstruction(training.epochs, training.learning_rate, training.batch_size)
        if training.epochs
        else None
    )
    prune(
        model,
        masks,
        text,
        params.mixture,
        Healing(settings.heal, settings.alpha, settings.ridge, reconstruction),
        device=resolve_device(params.compute.device),
        batch_size=settings.batch_size,
        on_layer=on_layer,
    )


@torch.no_grad()
def _measure(model: PreTrainedModel, input_ids: torch.Tensor, device: torch.device) -> Measures:
    with passing_through(model, device):
        loss = float(sequence_losses(model, input_ids.to(device)).mean())
    return Measures(decoder_parameters(model), model.num_parameters(), loss)


if __name__ == "__main__":
    main()
