"""Whole attention sublayers, with the norms around them; the layer keeps its mlp."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from secateurs.families.discover import family_of
from secateurs.families.family import Family
from secateurs.kinds.depth import DepthKind, depth_site
from secateurs.kinds.kind import Gone, Site

_TWICE = "an attention that goes takes its heads with it, so that they would be counted twice; choose one"


class AttentionBlocks(DepthKind):
    """Attention sublayers."""

    name = "attention_blocks"
    unit = "attentions"
    excludes: ClassVar[Mapping[str, str]] = dict.fromkeys(("attention", "query_heads"), _TWICE)

    def refusal(self, config: PretrainedConfig) -> str | None:
        """Where attention and mlp read one stream, healing finds the mlp's target by the attention."""
        family = family_of(config)
        if any(
            mlp.added_first is not None and not mlp.routed for layer in family.layers for mlp in layer.mlps
        ):
            return (
                "attention and mlp read the same stream, and the mlp is healed by what attention adds to it"
            )
        return super().refusal(config)

    def modules(self, family: Family, index: int) -> tuple[str, ...]:
        """The norm before the attention where there is one, the attention, and the norm behind it."""
        own = family.layers[index].attention
        if own is None:
            return ()
        module = own.output.rpartition(".")[0]
        entry = [own.entry] if own.entry and own.entry != module else []
        return (*entry, module, *([own.post_norm] if own.post_norm else []))

    def cut(self, layer: nn.Module, site: Site, units: Tensor) -> nn.Module:
        """The layer itself, with modules that add nothing in the place of the attention and its norms."""
        if not bool(units.all()):
            for name in depth_site(site).modules:
                attention = isinstance(getattr(layer.get_submodule(name), "layer_idx", None), int)
                layer.set_submodule(name, NoAttention(site.layer) if attention else nn.Identity())
        return layer

    def sizes(self, config: PretrainedConfig, layer: int, kept: Sequence[int] | None) -> dict[str, Any]:
        """The modules that a layer is without."""
        if kept is None or kept[0]:
            return {}
        return {"without": list(self.modules(family_of(config), layer))}

    def explicit(self, config: PretrainedConfig) -> dict[str, Any]:
        """That a layer which does not say so is without nothing."""
        return {"without": []}


class NoAttention(Gone):
    """In the place of an attention: adds nothing to the stream, and keeps the cache's count of tokens."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.layer_idx = index

    def forward(self, hidden_states: Tensor, **others: Any) -> tuple[Tensor, None]:
        """Zeros of the shape of the hidden states [batch, tokens, d]."""
        cache = others.get("past_key_values")
        if cache is not None:
            nothing = hidden_states.new_zeros(len(hidden_states), 1, hidden_states.shape[1], 1)
            cache.update(nothing, nothing, self.layer_idx)
        return torch.zeros_like(hidden_states), None


KIND = AttentionBlocks()
