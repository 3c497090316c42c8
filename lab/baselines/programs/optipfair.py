"""optipfair, the installed program: MLP_GLU pruning by weights alone or with calibration text."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import optipfair
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from lab.baselines.programs.handover import (
    decoder_size,
    hand_over,
    load_dense,
    read_request,
    save_stock,
)

BATCH = 8


def main() -> None:
    """Prune by optipfair's own function, at the percentage of neurons that meets the share."""
    request = read_request()
    data_driven = request.baseline.endswith("data")
    pruned, setting = prune(load_dense(request), request.sequences(), request.share, data_driven)
    version = f"optipfair {importlib.metadata.version('optipfair')}"
    hand_over(request, pruned, version, setting, save_stock)


def prune(
    model: PreTrainedModel, sequences: Mapping[str, Tensor], share: float, data_driven: bool
) -> tuple[PreTrainedModel, str]:
    """The pruned model, and what optipfair was told; sequences: int64 [count, tokens] by domain."""
    layers: Any = model.base_model.layers
    gate = layers[0].mlp.gate_proj
    neurons = round(share * decoder_size(model) / (len(layers) * 3 * gate.in_features))
    # It rounds the number of neurons down; half a neuron more keeps float arithmetic from losing one.
    percentage = 100 * (neurons + 0.5) / gate.out_features
    rows: Any = list(torch.cat(list(sequences.values())))
    pruned: PreTrainedModel = optipfair.prune_model(
        model=model,
        pruning_type="MLP_GLU",
        neuron_selection_method="MAW",
        pruning_percentage=percentage,
        dataloader=DataLoader(rows, batch_size=BATCH, collate_fn=_batch) if data_driven else None,
        show_progress=False,
    )
    how = "with a dataloader" if data_driven else "from weights alone"
    return pruned, f"MLP_GLU, MAW {how}, pruning_percentage={percentage:.2f}"


def _batch(rows: list[Tensor]) -> dict[str, Tensor]:
    ids = torch.stack(rows)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


if __name__ == "__main__":
    main()
