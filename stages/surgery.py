"""Stage: the dense model cut by the last round's masks, healed, and written as the smaller checkpoint."""

from dataclasses import asdict, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.checkpoints.processor import copy_processor
from secateurs.checkpoints.proof import proof_ids, prove_load
from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.devices.placement import passing_through, process_group, resolve_device
from secateurs.evaluation.perplexity import score_domains
from secateurs.families.decoder import decoder_layers, decoder_parameters
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.files.atomic import atomic
from secateurs.files.json_file import write_json
from secateurs.heal.heal import heal
from secateurs.progress import counter, is_first
from secateurs.recover.lost_tokens import heal_tokens_by
from secateurs.text.documents import Sequence
from secateurs.text.parts import spread
from secateurs.text.portions import healing_text
from secateurs.text.recutting import recut
from secateurs.vocabulary.choose import trim_vocabulary
from stages.common.artifacts import read_json, read_kept_tokens, read_writers
from stages.common.calibration_text import read_text
from stages.common.checkpoints import load_model, load_tokenizer, saved_dtype
from stages.common.console import stage, summary
from stages.common.launching import launch
from stages.common.locks import hold
from stages.common.paths import CALIBRATION, HEALING, MODEL, PRUNED, ROUNDS, VOCABULARY
from stages.common.settled import settled_params
from stages.common.stopwatch import spent
from stages.params.file import read_params
from stages.params.method_settings import method_settings
from stages.reporting.model_card import CalibrationText, Measures, model_card
from stages.rounds.tensors import check_kept, read_masks


@stage
def main() -> None:
    """Write data/pruned: a complete checkpoint, cut by the masks, healed, and proved to load."""
    params = settled_params(read_params())
    launch(params.compute, "stages.surgery")
    hold(PRUNED)
    last = ROUNDS / params.surgery.after
    device = resolve_device(params.compute.device)
    model = open_experts(load_model(MODEL, params.compute.dtype))
    masks, history = read_masks(last / "masks.safetensors"), read_json(last / "history.json")
    check_kept(masks, history, last)
    text, settings = read_text(CALIBRATION), method_settings(params)
    mixture = spread(settings.mixture, {domain: text.times(domain) for domain in text.ids})
    settings = settings.changed(mixture=history[-1].get("weights", mixture))
    # A first sign for the model card, on text the pruning saw; held-out text is evaluate's.
    first = {domain: ids[0].tolist() for domain, ids in healing_text(text, settings).items()}
    check = [Sequence(domain, (), tuple(ids)) for domain, ids in first.items()]
    tokenizer = load_tokenizer(MODEL)
    before = _measure(model, tokenizer, check, device)
    with (
        process_group(device),
        counter("surgery", "layer", len(decoder_layers(model))) as bar,
    ):
        healed = heal(model, masks, text, settings, bar.update)
    if not is_first():
        return
    # The result has the dtype of its source, whatever was computed in; it is measured rounded to that.
    model, source = close_experts(model), saved_dtype(MODEL)
    trimmed, proof_rows = tokenizer, check
    if params.prune.vocabulary.rows:
        # Last, because healing reads ids of the whole vocabulary.
        trimmed = trim_vocabulary(model, tokenizer, read_kept_tokens(VOCABULARY))
        if settings.surgery.tokens.steps:
            dense = load_model(MODEL, params.compute.dtype)
            cuts = (tokenizer, trimmed)
            healed = replace(healed, tokens=heal_tokens_by(model, dense, cuts, text, settings))
        proof_rows = recut(check, tokenizer, trimmed)
    working = model.dtype
    in_precision(in_precision(model, source), working)
    after = _measure(model, trimmed, check, device, cut_by=tokenizer)
    in_precision(model, source)
    with atomic(PRUNED) as directory:
        with spent("write"):
            save_model(model, directory)
            save_tokenizer(trimmed, directory)
            copy_processor(MODEL, directory)
        proof = prove_load(model, directory, proof_ids(proof_rows), PRUNED, trimmed)
        read = CalibrationText(len(check[0].input_ids), read_writers(CALIBRATION))
        card = model_card(params, history, read, before, after, healed, proof)
        (directory / "README.md").write_text(card, encoding="utf-8")
        tokens = {} if healed.tokens is None else {"tokens": asdict(healed.tokens)}
        said = {"method": healed.method, "divergences": healed.divergences} | tokens
        write_json(directory / "healing.json", said)
    write_json(HEALING, [asdict(one) for one in healed.refits])
    removed = 1 - after.decoder / before.decoder
    tried = ", ".join(f"{method} {value:.3f}" for method, value in healed.divergences.items())
    summary(
        "surgery",
        f"{after.parameters:,} parameters, {removed:.1%} of the decoder removed, healed by {healed.method}"
        f"{f' (divergence from the dense model: {tried} nats)' if tried else ''}, in {PRUNED}",
    )


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Sequence],
    device: torch.device,
    cut_by: PreTrainedTokenizerBase | None = None,
) -> Measures:
    with passing_through(model, device):
        scores = score_domains(model, tokenizer, rows, len(rows), cut_by).values()
    loss = sum(score.loss for score in scores) / len(scores)
    return Measures(decoder_parameters(model), model.num_parameters(), loss)


if __name__ == "__main__":
    main()
