"""What KV groups and query heads have in common: an attention's heads, how they are counted and recounted."""

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig

from secateurs.families.decoder import text_config
from secateurs.families.discover import family_of
from secateurs.families.family import Layer, Sublayer
from secateurs.kinds.channels import ChannelKind, channel_site, linear
from secateurs.kinds.kind import Gone, Site

HEADS, GROUPS = "num_attention_heads", "num_key_value_heads"


class HeadKind(ChannelKind):
    """A kind whose units are heads of an attention."""

    def cut(self, layer: nn.Module, site: Site, units: Tensor) -> nn.Module:
        """The layer itself, its attention told how many heads it has left."""
        super().cut(layer, site, units)
        output, groups = channel_site(site).sublayer.output, self.groups_left(site, units)
        _recount(layer.get_submodule(output.rpartition(".")[0]), linear(layer, output), groups)
        return layer

    @abstractmethod
    def groups_left(self, site: Site, units: Tensor) -> int:
        """KV groups that are left where these units stay."""

    def refusal(self, config: PretrainedConfig) -> str | None:
        """As the family has it, and where the config has not one number of KV groups for all layers."""
        reason = super().refusal(config)
        if reason is not None:
            return reason
        try:
            groups = getattr(text_config(config), GROUPS, None)
        except RuntimeError:
            return "its layers have heads of several numbers"
        return None if groups else "its config has no number of KV groups"

    def sizes(self, config: PretrainedConfig, layer: int, kept: Sequence[int] | None) -> dict[str, Any]:
        """KV groups and query heads; nothing where heads cannot go."""
        if self.refusal(config) is not None or not family_of(config).layers[layer].heads:
            return {}
        own = text_config(config)
        groups, heads = getattr(own, GROUPS), getattr(own, HEADS)
        if kept is not None:
            groups, heads = self.counts(groups, heads, kept[0])
        return {GROUPS: groups, HEADS: heads}

    @abstractmethod
    def counts(self, groups: int, heads: int, kept: int) -> tuple[int, int]:
        """KV groups and query heads of which `kept` units are left."""

    def explicit(self, config: PretrainedConfig) -> dict[str, Any]:
        """The size of a head, which was hidden_size / heads while all were there."""
        return {"head_dim": head_dim(text_config(config))}


def head_dim(config: PretrainedConfig) -> int:
    """The size of a head: the config's own number, or hidden_size / num_attention_heads."""
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def with_heads(layer: nn.Module, own: Layer) -> Sublayer | None:
    """The layer's attention, if its heads can go and it is still there."""
    if own.attention is None or not own.heads:
        return None
    gone = isinstance(layer.get_submodule(own.attention.output.rpartition(".")[0]), Gone)
    return None if gone else own.attention


def heads_of(layer: nn.Module, sublayer: Sublayer) -> tuple[int, int, int]:
    """Size of a head, query heads and KV groups of an attention, by its weights."""
    attention: Any = layer.get_submodule(sublayer.output.rpartition(".")[0])
    size: int = attention.head_dim
    heads = linear(layer, sublayer.output).in_features // size
    produced = sum(linear(layer, name).out_features for name in set(sublayer.inputs)) // size
    return size, heads, (produced - heads) // 2


def _recount(attention: Any, output: nn.Linear, groups: int) -> None:
    """Tell an attention module how many heads it has left; its config becomes its own."""
    heads = output.in_features // attention.head_dim
    config = copy.copy(attention.config)
    config.num_attention_heads, config.num_key_value_heads = heads, groups
    attention.config = config
    attention.num_key_value_groups = heads // groups
    if hasattr(attention, "num_key_value_heads"):
        attention.num_key_value_heads = groups
