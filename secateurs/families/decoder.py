"""The decoder of a model, found without knowing its family."""

from torch import nn
from transformers import PreTrainedModel

from secateurs.errors import InputError


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers in order: the base model's one list with as many modules as the config has layers.

    Raises InputError for a model that has no such list, or several.
    """
    count = model.config.num_hidden_layers
    lists = [
        child
        for child in model.base_model.children()
        if isinstance(child, nn.ModuleList) and len(child) == count
    ]
    if len(lists) != 1:
        raise InputError(
            f"config.json: model_type: {model.config.model_type}: has {len(lists)} lists of "
            f"{count} layers; one is needed, the decoder's"
        )
    return lists[0]


def decoder_parameters(model: PreTrainedModel) -> int:
    """Parameters of the decoder layers: embeddings, final norm and head left out."""
    return sum(parameter.numel() for parameter in decoder_layers(model).parameters())
