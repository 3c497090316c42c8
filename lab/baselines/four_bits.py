"""The dense model with its weights in four bits: what a user would take instead of pruning."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.families.decoder import decoder_layers

BLOCK = 32
# Four bits a weight, and 16 for the scale of each block.
BITS = 4 + 16 / BLOCK


@torch.no_grad()
def to_four_bits(model: PreTrainedModel) -> None:
    """Round the matrices of the decoder layers, in place, to what llama.cpp's Q4_0 can hold.

    A block of 32 weights along the input has one scale, d = w / -8 of the weight w of greatest magnitude, in
    float16; each weight is d * (q - 8) with q = 0 ... 15. Rows whose length is no multiple of 32 stay.
    """
    for module in decoder_layers(model).modules():
        if isinstance(module, nn.Linear) and module.in_features % BLOCK == 0:
            module.weight.copy_(q4_0(module.weight))


def q4_0(weight: Tensor) -> Tensor:
    """Float [outputs, inputs], rounded to Q4_0 and back; inputs a multiple of 32."""
    blocks = weight.float().view(-1, BLOCK)
    largest = blocks.gather(1, blocks.abs().argmax(dim=1, keepdim=True))
    scale = largest / -8
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    steps = (blocks * inverse + 8.5).trunc().clamp(0, 15) - 8
    return (steps * scale.half().float()).view(weight.shape).to(weight.dtype)


def bytes_in_four_bits(model: PreTrainedModel) -> int:
    """Bytes of the weights so stored, the others (embeddings, head, norms) in 16 bits."""
    total = sum(weight.numel() for weight in model.parameters())
    rounded = sum(
        module.weight.numel()
        for module in decoder_layers(model).modules()
        if isinstance(module, nn.Linear) and module.in_features % BLOCK == 0
    )
    return round((rounded * BITS + (total - rounded) * 16) / 8)
