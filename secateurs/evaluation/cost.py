"""What a model costs before it runs: parameters, multiply-adds, bytes on disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters
from secateurs.families.fused_experts import OpenExperts
from secateurs.families.mixtures import experts_of_a_token


@dataclass(frozen=True)
class Size:
    """Static costs of a checkpoint.

    parameters: all of them, tied weights once. decoder_parameters: those of the decoder layers.
    macs_per_token: multiply-adds of the linear modules, head included. weight_bytes: of the safetensors.
    """

    parameters: int
    decoder_parameters: int
    macs_per_token: int
    weight_bytes: int


def measure_size(model: PreTrainedModel, checkpoint: Path) -> Size:
    """The static costs of `model`, loaded from the directory `checkpoint`."""
    return Size(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        decoder_parameters=decoder_parameters(model),
        macs_per_token=macs_per_token(model),
        weight_bytes=weight_bytes(checkpoint),
    )


def macs_per_token(model: PreTrainedModel, rows: int = 0) -> int:
    """Multiply-adds that one token makes in linear modules and its experts, the head included.

    Attention scores are left out: they depend on the context's length, and pruning channels of the MLP
    leaves them as they are. So are norms, activations and the embedding's look-up.

    model: its experts closed or opened. rows: of the head, where fewer than the model has are left; 0: all.
    """
    blocks = [module for module in model.modules() if isinstance(module, OpenExperts)]
    inside = {id(one) for block in blocks for one in block.modules()}
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Linear | Conv1D) and id(module) not in inside
    )
    # Each token takes some of the experts, which are of one size; fused ones are [experts, outputs, inputs].
    experts = sum(weight.numel() for block in blocks for weight in _matrices(next(block.children())))
    experts += sum(
        weight[0].numel()
        for module in model.modules()
        if not isinstance(module, nn.Conv1d)
        for weight in module.parameters(recurse=False)
        if weight.dim() == 3
    )
    head: Any = model.get_output_embeddings()  # transformers' types leave out that it has a weight
    gone = (len(head.weight) - rows) * head.weight.shape[1] if rows else 0
    return linear + experts * experts_of_a_token(model.config) - gone


def _matrices(expert: nn.Module) -> list[Tensor]:
    return [one.weight for one in expert.modules() if isinstance(one, nn.Linear)]


def weight_bytes(checkpoint: Path) -> int:
    """Bytes of all safetensors files in a checkpoint directory."""
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise InputError(f"{checkpoint}: has no *.safetensors; expected a saved checkpoint")
    return sum(file.stat().st_size for file in files)
