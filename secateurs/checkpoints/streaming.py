"""A checkpoint whose decoder layers stay in their files, and are read one at a time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from secateurs.checkpoints.loading import has_own_code, load_config, load_shapes, read_weights, tell_tie
from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_layers, layers_name
from secateurs.families.fused_experts import open_experts


@dataclass(frozen=True)
class StreamedModel:
    """A model of which all but the decoder layers is on a device, and a layer only when it is asked for.

    model: its layers on the meta device, without weights, and its experts opened.
    """

    directory: Path
    dtype: str
    device: torch.device
    model: PreTrainedModel

    def layer(self, index: int) -> nn.Module:
        """Decoder layer `index` with its weights, read anew, its experts opened. Nothing here keeps it."""
        part = _read_part(self.directory, self.dtype, type(self.model), index)
        return open_experts(decoder_layers(part)[index]).to(self.device)


def stream_model(directory: Path, dtype: str, device: torch.device) -> StreamedModel:
    """Open a checkpoint of this pipeline; raises InputError as load_model does, of what is read now.

    Host memory holds embeddings and head, and then one layer: twice where its tensors are put together of
    several in the file, or are of another dtype there.
    """
    if has_own_code(directory):
        raise SettingError(
            f"capture.layers: streamed: {directory} has a class of its own, whose layers cannot be read one "
            "at a time; use resident"
        )
    shapes = load_shapes(directory)
    model = _read_part(directory, dtype, type(shapes), None)
    tell_tie(model)
    moved: Any = model  # transformers' types leave out the argument of `to`
    moved.to(device)
    layers = decoder_layers(model)
    for index, layer in enumerate(decoder_layers(shapes)):
        layers[index] = layer
    return StreamedModel(directory, dtype, device, open_experts(model))


def _read_part(
    directory: Path, dtype: str, model_class: type[PreTrainedModel], index: int | None
) -> PreTrainedModel:
    """Of a model one decoder layer alone, or, with None, all but these; the rest are modules without weights.

    transformers reads from the files what the model has, so a class whose models have less reads less. It
    has the name of the other, by which transformers knows how weights are called in the files.
    """

    def begin(self: Any, config: Any, *positional: Any, **named: Any) -> None:
        model_class.__init__(self, config, *positional, **named)
        _leave_out(self, index)

    members = {
        "__init__": begin,
        "__module__": model_class.__module__,
        # What it leaves in the files is no mistake.
        "_keys_to_ignore_on_load_unexpected": [".*"],
    }
    config = load_config(directory)
    if index is not None:
        # There is nothing to tie.
        config.tie_word_embeddings = False
    part_class = type(model_class.__name__, (model_class,), members)
    part = read_weights(part_class, directory, dtype, config=config)
    part.__class__ = model_class
    return part


def _leave_out(model: PreTrainedModel, index: int | None) -> None:
    layers = decoder_layers(model)
    path = layers_name(model).split(".")
    for number in range(len(layers)):
        if number != index:
            layers[number] = nn.Module()
    where: nn.Module = model
    for step in path if index is not None else ():
        for name, _ in list(where.named_children()):
            if name != step:
                setattr(where, name, nn.Module())
        for name, _ in list(where.named_parameters(recurse=False)):
            setattr(where, name, None)
        where = where.get_submodule(step)
