"""Whole decoder blocks: attention, mlp and norms of a layer at once."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from secateurs.families.decoder import decoder_layers
from secateurs.families.family import Family
from secateurs.kinds.depth import DepthKind
from secateurs.kinds.kind import Gone, Site

_TWICE = "a block takes them with it, so that their parameters would be counted twice; choose one of the two"


class Blocks(DepthKind):
    """Decoder blocks."""

    name = "blocks"
    unit = "decoder blocks"
    excludes: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("attention_blocks", "attention", "query_heads", "mlp"), _TWICE
    )

    def modules(self, family: Family, index: int) -> tuple[str, ...]:
        """The layer itself."""
        return ("",)

    def cut(self, layer: nn.Module, site: Site, units: Tensor) -> nn.Module:
        """A module that passes the stream on; `finish` takes it out."""
        return layer if bool(units.all()) else Passed(layer)

    def finish(self, model: PreTrainedModel) -> None:
        """Take the blocks that are gone out of the model, number the others anew, and tell the config."""
        layers = decoder_layers(model)
        kept = [index for index, layer in enumerate(layers) if not isinstance(layer, Passed)]
        _forget(model.config, kept, len(layers))
        for index in reversed(range(len(layers))):
            if index not in kept:
                del layers[index]
        for index, layer in enumerate(layers):
            parts: list[Any] = [module for module in layer.modules() if hasattr(module, "layer_idx")]
            for part in parts:
                # Attention finds its part of the cache by it.
                part.layer_idx = index


class Passed(Gone):
    """In the place of a decoder block: the stream as it came."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        # Some models choose a layer's mask by it.
        self.attention_type = getattr(layer, "attention_type", None)

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        """hidden_states [batch, tokens, d]."""
        return hidden_states


def _forget(config: PretrainedConfig, kept: Sequence[int], layers: int) -> None:
    """Leave in a config what it says of the kept layers: lists of an entry a layer, and their own sizes."""
    own = config.to_dict().get("per_layer_config")
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == layers:
            setattr(config, name, [value[index] for index in kept])
    config.num_hidden_layers = len(kept)
    if own:
        config.per_layer_config = {new: own[old] for new, old in enumerate(kept)}


KIND = Blocks()
