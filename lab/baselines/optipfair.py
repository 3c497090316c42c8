"""optipfair, the installed program, in its own environment: MLP_GLU pruning with calibration text.

Imports nothing of this project, because that environment lacks what the project needs.
"""

import sys
from collections.abc import Mapping
from typing import Any

import optipfair
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, PreTrainedModel

BATCH = 8


def main() -> None:
    """Prune the model of a directory and save it: MODEL TEXT SHARE DEVICE DTYPE OUT.

    TEXT: safetensors, calibration ids int64 [count, tokens] by domain; SHARE: of the decoder's parameters.
    """
    directory, text, share, device, dtype, out = sys.argv[1:]
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), local_files_only=True
    )
    prune(loaded.to(device).eval(), load_file(text), float(share)).save_pretrained(out)


def prune(model: PreTrainedModel, sequences: Mapping[str, Tensor], share: float) -> PreTrainedModel:
    """The model pruned by optipfair's own function, at the percentage of neurons that meets the share."""
    layers: Any = model.base_model.layers
    gate = layers[0].mlp.gate_proj
    size = sum(parameter.numel() for parameter in layers.parameters())
    neurons = round(share * size / (len(layers) * 3 * gate.in_features))
    # It rounds the number of neurons down; half a neuron more keeps float arithmetic from losing one.
    percentage = 100 * (neurons + 0.5) / gate.out_features
    rows: Any = list(torch.cat(list(sequences.values())))
    pruned: PreTrainedModel = optipfair.prune_model(
        model=model,
        pruning_type="MLP_GLU",
        neuron_selection_method="MAW",
        pruning_percentage=percentage,
        dataloader=DataLoader(rows, batch_size=BATCH, collate_fn=_batch),
        show_progress=False,
    )
    return pruned


def _batch(rows: list[Tensor]) -> dict[str, Tensor]:
    ids = torch.stack(rows)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


if __name__ == "__main__":
    main()
