"""Cut the dense model by the last round's masks, heal it, and write the smaller checkpoint."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from stages.artifacts import atomic, read_json, read_sequences
from stages.checkpoints import load_model, load_tokenizer, resolve_device
from stages.console import counter, stage, summary
from stages.model_card import Measures, model_card
from stages.modelling import ship_modelling_file
from stages.params import read_params
from stages.pruning.families import decoder_layers, decoder_parameters
from stages.pruning.loss import sequence_losses
from stages.pruning.surgery import Healing, prune
from stages.tensors import by_domain, read_masks

MODEL = Path("data/model")
CALIBRATION = Path("data/corpus/calibration.parquet")
ROUNDS = Path("data/rounds")
PRUNED = Path("data/pruned")


@stage
def main() -> None:
    """Write data/pruned: a complete checkpoint, cut by the masks and healed."""
    params = read_params()
    last = ROUNDS / params.surgery.after
    model = load_model(MODEL, params.compute.dtype, resolve_device(params.compute.device))
    masks = read_masks(last / "masks.safetensors")
    sequences = by_domain(read_sequences(CALIBRATION), params.surgery.sequences)
    # A domain of weight 0 is left out rather than multiplied by 0: it would only cost time.
    used = {domain: ids for domain, ids in sequences.items() if params.mixture[domain] > 0}
    weights = [params.mixture[domain] for domain, ids in used.items() for _ in ids]
    input_ids = torch.cat(list(used.values()))
    # A first sign for the model card, on text the pruning saw; held-out text is evaluate's.
    check = torch.cat([ids[:1] for ids in used.values()])
    before = _measure(model, check)
    settings = params.surgery
    with counter("surgery", "layer", len(decoder_layers(model))) as bar:
        prune(
            model,
            masks,
            input_ids,
            torch.tensor(weights) / sum(weights),
            Healing(settings.heal, settings.alpha, settings.ridge),
            batch_size=settings.batch_size,
            on_layer=bar.update,
        )
    after = _measure(model, check)
    with atomic(PRUNED) as directory:
        ship_modelling_file(model, directory)
        model.save_pretrained(directory)
        load_tokenizer(MODEL).save_pretrained(directory)
        card = model_card(params, read_json(last / "history.json"), input_ids.shape[1], before, after)
        (directory / "README.md").write_text(card, encoding="utf-8")
    share = 1 - after.decoder / before.decoder
    summary("surgery", f"{after.parameters:,} parameters, {share:.1%} of the decoder removed, in {PRUNED}")


@torch.no_grad()
def _measure(model: PreTrainedModel, input_ids: torch.Tensor) -> Measures:
    losses = [float(sequence_losses(model, row[None].to(model.device))) for row in input_ids]
    return Measures(decoder_parameters(model), model.num_parameters(), sum(losses) / len(losses))


if __name__ == "__main__":
    main()
