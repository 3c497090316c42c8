"""Stage: the dense model cut by the last round's masks, healed, and written as the smaller checkpoint."""

from dataclasses import asdict

import torch
from transformers import PreTrainedModel

from secateurs.checkpoints.proof import PROOF_ROWS, PROOF_TOKENS, prove_load
from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.devices.placement import passing_through, process_group, resolve_device
from secateurs.families.decoder import decoder_layers, decoder_parameters
from secateurs.families.experts import close_experts, open_experts
from secateurs.files.atomic import atomic
from secateurs.files.json_file import write_json
from secateurs.heal.heal import heal
from secateurs.inference.loss import sequence_losses
from secateurs.progress import counter, is_first
from secateurs.text.portions import healing_text
from stages.common.artifacts import read_json
from stages.common.calibration import read_text
from stages.common.checkpoints import load_model, load_tokenizer, saved_dtype
from stages.common.console import stage, summary
from stages.common.launching import launch
from stages.common.locks import hold
from stages.common.paths import CALIBRATION, HEALING, MODEL, PRUNED, ROUNDS
from stages.params.file import read_params
from stages.params.method import method_settings
from stages.reporting.model_card import Measures, model_card
from stages.rounds.tensors import check_kept, read_masks


@stage
def main() -> None:
    """Write data/pruned: a complete checkpoint, cut by the masks, healed, and proved to load."""
    params = read_params()
    launch(params.compute, "stages.surgery")
    hold(PRUNED)
    last = ROUNDS / params.surgery.after
    device = resolve_device(params.compute.device)
    model = open_experts(load_model(MODEL, params.compute.dtype))
    masks, history = read_masks(last / "masks.safetensors"), read_json(last / "history.json")
    check_kept(masks, history, last)
    text, settings = read_text(CALIBRATION), method_settings(params)
    # A first sign for the model card, on text the pruning saw; held-out text is evaluate's.
    check = torch.cat([ids[:1] for ids in healing_text(text, settings).values()])
    before = _measure(model, check, device)
    with (
        process_group(device),
        counter("surgery", "layer", len(decoder_layers(model))) as bar,
    ):
        healed = heal(model, masks, text, settings, bar.update)
    if not is_first():
        return
    # The result has the dtype of its source, whatever was computed in; it is measured rounded to that.
    model, source = close_experts(model), saved_dtype(MODEL)
    working = model.dtype
    after = _measure(in_precision(in_precision(model, source), working), check, device)
    in_precision(model, source)
    with atomic(PRUNED) as directory:
        save_model(model, directory)
        tokenizer = load_tokenizer(MODEL)
        save_tokenizer(tokenizer, directory)
        proof = prove_load(model, directory, check[:PROOF_ROWS, :PROOF_TOKENS], PRUNED, tokenizer)
        card = model_card(params, history, check.shape[1], before, after, healed, proof)
        (directory / "README.md").write_text(card, encoding="utf-8")
        write_json(directory / "healing.json", {"method": healed.method, "divergences": healed.divergences})
    write_json(HEALING, [asdict(one) for one in healed.refits])
    removed = 1 - after.decoder / before.decoder
    tried = ", ".join(f"{method} {value:.3f}" for method, value in healed.divergences.items())
    summary(
        "surgery",
        f"{after.parameters:,} parameters, {removed:.1%} of the decoder removed, healed by {healed.method}"
        f"{f' (divergence from the dense model: {tried} nats)' if tried else ''}, in {PRUNED}",
    )


@torch.no_grad()
def _measure(model: PreTrainedModel, input_ids: torch.Tensor, device: torch.device) -> Measures:
    with passing_through(model, device):
        loss = float(sequence_losses(model, input_ids.to(device)).mean())
    return Measures(decoder_parameters(model), model.num_parameters(), loss)


if __name__ == "__main__":
    main()
