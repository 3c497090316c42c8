"""On what a part of the bench is measured, and what it returns."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from lab.bench.shapes import random_model

Record = dict[str, float]


@dataclass(frozen=True)
class Setup:
    """A shape on a device, and how much text: `sequences` of `tokens`, in batches of `batch`.

    surgery_batch: of surgery, which keeps nothing for a backward pass; None: as many.
    """

    shape: str
    device: torch.device
    dtype: torch.dtype
    sequences: int
    tokens: int
    batch: int
    checkpointing: bool = False
    layers: int | None = None
    surgery_batch: int | None = None

    def model(self, **changes: int) -> PreTrainedModel:
        """The shape, or its first `layers`, with random weights, on the device."""
        fewer = {} if self.layers is None else {"num_hidden_layers": self.layers}
        return random_model(self.shape, self.dtype, self.device, **fewer, **changes)
