"""The channels of a model: where its sites are, and what a unit of each is made of.

What the modules of a family are called is in pruning/layouts.py; nothing here knows architectures. A mixture
of experts must have been opened (pruning/experts.py), because every channel is taken to be a feature of an
nn.Linear.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_layers
from secateurs.families.layouts import ATTENTION, MLP, QUERY_HEADS, Family, Sublayer, family_of

KINDS = (ATTENTION, QUERY_HEADS, MLP)

Masks = Mapping[str, Tensor]
"""Site name -> bool [units], True = kept."""


@dataclass(frozen=True)
class Part:
    """The features of one linear module that belong to a site's units.

    Unit u owns features `offset + u * block` to `offset + (u + 1) * block` of the module's outputs (axis 0
    of an nn.Linear's weight, and its bias) or of its inputs (axis 1).
    """

    module: str
    axis: int
    block: int = 1
    offset: int = 0


@dataclass(frozen=True)
class Site:
    """A place in one decoder layer where units can be removed: channels, KV groups, or query heads.

    sublayer: the modules around the site; those of an expert carry its number.
    units: how many there are.
    blocks: features that one unit has in each of the sublayer's input modules. Modules without a number of
    their own (the keys and values of query heads) keep all their features.
    expert: the expert's number in a mixture of experts, otherwise None.
    groups: units stand in this many groups of equal length, each of which must keep equally many.
    """

    layer: int
    kind: str
    sublayer: Sublayer
    units: int
    blocks: tuple[int, ...]
    expert: int | None = None
    groups: int = 1

    @property
    def name(self) -> str:
        """The key of this site in masks and statistics."""
        expert = "" if self.expert is None else f".{self.expert}"
        return f"{self.layer}/{self.kind}{expert}"

    @property
    def inputs(self) -> tuple[Part, ...]:
        """The features that produce the site's channels, a Part for each of `blocks`."""
        ends: dict[str, int] = {}
        parts = []
        for module, block in zip(self.sublayer.inputs, self.blocks, strict=False):
            parts.append(Part(module, 0, block, ends.get(module, 0)))
            ends[module] = ends.get(module, 0) + self.units * block
        return tuple(parts)

    @property
    def output(self) -> Part:
        """The projection back towards the residual stream; statistics are taken of its inputs."""
        return Part(self.sublayer.output, 1, self.blocks[0])

    @property
    def channels(self) -> int:
        """Input channels of the output projection."""
        return self.units * self.output.block

    @property
    def routed(self) -> str | None:
        """The module of an expert, called with hidden states and routing weights; None without experts."""
        return None if self.expert is None else self.sublayer.output.rpartition(".")[0]

    @property
    def ends_layer(self) -> bool:
        """Whether the projection's output reaches the layer's output as it is, with nothing after it."""
        return self.kind == MLP and self.sublayer.post_norm is None and self.expert is None


def sites_of(model: PreTrainedModel, kinds: tuple[str, ...] | None = None) -> list[Site]:
    """All sites of the given kinds (None: of every kind the family has), in the order data flows.

    Sizes are read off the weights, not the config, so a model that was cut is described as it is. Raises
    InputError for a kind that this family refuses.
    """
    family = family_of(model.config)
    for kind in kinds or ():
        if kind in family.refused:
            raise SettingError(
                f"prune.sites: {kind}: not for {model.config.model_type}: {family.refused[kind]}"
            )
    chosen = [kind for kind in KINDS if (kinds is None or kind in kinds) and kind not in family.refused]
    return [
        site
        for index, layer in enumerate(decoder_layers(model))
        for kind in chosen
        for site in _layer_sites(index, layer, kind, family)
    ]


def _layer_sites(index: int, layer: nn.Module, kind: str, family: Family) -> list[Site]:
    if kind != MLP:
        return [_attention_site(index, layer, kind, family.attention)]
    if family.mlp.moe_block is None:
        return [_mlp_site(index, layer, family.mlp, None)]
    experts = layer.get_submodule(f"{family.mlp.moe_block}.experts").children()
    return [_mlp_site(index, layer, family.mlp.of_expert(number), number) for number, _ in enumerate(experts)]


def _mlp_site(index: int, layer: nn.Module, sublayer: Sublayer, expert: int | None) -> Site:
    units = linear(layer, sublayer.output).in_features
    return Site(index, MLP, sublayer, units, (1,) * len(sublayer.inputs), expert)


def _attention_site(index: int, layer: nn.Module, kind: str, sublayer: Sublayer) -> Site:
    attention: Any = layer.get_submodule(sublayer.output.rpartition(".")[0])
    size: int = attention.head_dim
    heads = linear(layer, sublayer.output).in_features // size
    produced = sum(linear(layer, name).out_features for name in set(sublayer.inputs)) // size
    groups = (produced - heads) // 2
    if kind == ATTENTION:
        return Site(index, kind, sublayer, groups, (heads // groups * size, size, size))
    return Site(index, kind, sublayer, heads, (size,), groups=groups)


def linear(layer: nn.Module, name: str) -> nn.Linear:
    """A module of a decoder layer that must be an nn.Linear."""
    module = layer.get_submodule(name)
    assert isinstance(module, nn.Linear), f"{name} is a {type(module).__name__}, not nn.Linear"
    return module


def output_projection(model: PreTrainedModel, site: Site) -> nn.Linear:
    """The module whose weight [hidden, channels] takes the site's channels back into the stream."""
    return linear(decoder_layers(model)[site.layer], site.sublayer.output)


def all_kept_masks(model: PreTrainedModel) -> dict[str, Tensor]:
    """Masks that remove nothing, for every site of every kind."""
    return {site.name: torch.ones(site.units, dtype=torch.bool) for site in sites_of(model)}


def unit_parameters(model: PreTrainedModel, site: Site) -> int:
    """Parameters that one unit of the site takes with it."""
    layer = decoder_layers(model)[site.layer]
    count = 0
    for part in (*site.inputs, site.output):
        module = linear(layer, part.module)
        other = module.in_features if part.axis == 0 else module.out_features
        bias = part.block if part.axis == 0 and module.bias is not None else 0
        count += part.block * other + bias
    return count


def channel_mask(site: Site, units: Tensor) -> Tensor:
    """Bool over units -> bool over the channels of the output projection."""
    return units.repeat_interleave(site.output.block)
