"""What a model costs before it runs: parameters, multiply-adds, bytes on disk."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters


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


def macs_per_token(model: PreTrainedModel) -> int:
    """Multiply-adds that one token makes in nn.Linear modules and its experts, the head included.

    Attention scores are left out: they depend on the context's length, and pruning channels of the MLP
    leaves them as they are. So are norms, activations and the embedding's look-up.
    """
    linear = sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))
    # Fused experts are [experts, outputs, inputs]; each token takes some of them.
    experts = sum(weight[0].numel() for weight in model.parameters() if weight.dim() == 3)
    return linear + experts * getattr(model.config, "num_experts_per_tok", 0)


def weight_bytes(checkpoint: Path) -> int:
    """Bytes of all safetensors files in a checkpoint directory."""
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        raise InputError(f"{checkpoint}: has no *.safetensors; expected a saved checkpoint")
    return sum(file.stat().st_size for file in files)
