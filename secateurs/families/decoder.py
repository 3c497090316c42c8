"""The decoder of a model, found without knowing its family."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch import nn

from secateurs.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# What configs call the number of decoder layers, the least ambiguous name first.
_COUNTS = ("decoder_layers", "num_decoder_layers", "num_layers", "num_hidden_layers")


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The config of the decoder, which is inside the model's own where it reads pictures too."""
    inner: PretrainedConfig = config.get_text_config(decoder=True)
    return inner


def context_length(config: PretrainedConfig) -> int:
    """The most tokens that the decoder takes at once, as far as its config says."""
    length = getattr(text_config(config), "max_position_embeddings", None)
    return length if isinstance(length, int) else sys.maxsize


def layers_name(model: PreTrainedModel) -> str:
    """The name of the model's list of decoder layers.

    It has as many modules as the config says that there are layers; where an encoder's list has as many, it
    is the one inside `get_decoder()`. Raises InputError for a model that has no such list, or several.
    """
    config, decoder = text_config(model.config), model.get_decoder()
    count = next((number for name in _COUNTS if isinstance(number := getattr(config, name, None), int)), None)
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    }
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    inside = {id(module) for module in decoder.modules()} if isinstance(decoder, nn.Module) else set()
    names = [name for name in outer if id(lists[name]) in inside] or outer
    if len(names) != 1:
        raise InputError(
            f"config.json: model_type: {model.config.model_type}: has {len(names)} lists of "
            f"{count} layers; one is needed, the decoder's"
        )
    name: str = names[0]
    return name


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers in order. Raises InputError as layers_name does."""
    layers: Any = model.get_submodule(layers_name(model))
    found: nn.ModuleList = layers
    return found


def decoder_parameters(model: PreTrainedModel) -> int:
    """Parameters of the decoder layers: embeddings, final norm and head left out."""
    return sum(parameter.numel() for parameter in decoder_layers(model).parameters())
