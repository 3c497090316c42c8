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
    lists = _outer_lists(model, count)
    inside = _outer_lists(decoder, count) if isinstance(decoder, nn.Module) else {}
    within = {id(module) for module in inside.values()}
    names = [name for name, module in lists.items() if id(module) in within] or list(lists)
    if len(names) != 1:
        raise InputError(
            f"config.json: model_type: {model.config.model_type}: has {len(names)} lists of "
            f"{count} layers; one is needed, the decoder's"
        )
    name: str = names[0]
    return name


def _outer_lists(model: nn.Module, count: int | None) -> dict[str, nn.ModuleList]:
    """By name, the lists of so many modules that are inside no other one.

    No list is entered that counts: the layers of a mixture have tens of thousands of modules, and this is
    asked for each of its sites.
    """
    found: dict[str, nn.ModuleList] = {}
    waiting, seen = [("", model)], set[int]()
    while waiting:
        name, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        if isinstance(module, nn.ModuleList) and len(module) == count:
            found[name] = module
            continue
        inner = [(f"{name}.{last}".lstrip("."), one) for last, one in module.named_children()]
        waiting += reversed(inner)
    return found


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers in order. Raises InputError as layers_name does."""
    layers: Any = model.get_submodule(layers_name(model))
    found: nn.ModuleList = layers
    return found


def decoder_parameters(model: PreTrainedModel) -> int:
    """Parameters of the decoder layers: embeddings, final norm and head left out."""
    return sum(parameter.numel() for parameter in decoder_layers(model).parameters())
