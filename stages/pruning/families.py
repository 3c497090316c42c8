"""The channels of a model: where its sites are, what a unit of each is made of, and how units are removed.

What the modules of a family are called is in pruning/layouts.py; nothing here knows architectures. A mixture
of experts must have been opened (pruning/experts.py), so that every channel is a feature of an nn.Linear.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.common.errors import InputError
from stages.pruning.decoder import decoder_layers
from stages.pruning.layouts import ATTENTION as ATTENTION
from stages.pruning.layouts import FAMILIES as FAMILIES
from stages.pruning.layouts import MLP as MLP
from stages.pruning.layouts import QUERY_HEADS as QUERY_HEADS
from stages.pruning.layouts import Family, Sublayer
from stages.pruning.layouts import family_of as family_of
from stages.pruning.sizes import resize_config as resize_config
from stages.pruning.sizes import widths as widths

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

    `output` is the projection back towards the residual stream; its inputs are the channels that statistics
    are taken of. `entry`, `post_norm` and `beside` are those of its Sublayer. `total` is the module whose
    output is all that the sublayer gives: the projection itself, or the mixture that an expert belongs to.
    `groups`: units stand in this many runs of equal length, each of which must keep equally many.
    """

    layer: int
    kind: str
    units: int
    inputs: tuple[Part, ...]
    output: Part
    entry: str
    post_norm: str | None = None
    beside: str | None = None
    total: str = ""
    expert: int | None = None
    groups: int = 1

    @property
    def name(self) -> str:
        """The key of this site in masks and statistics."""
        expert = "" if self.expert is None else f".{self.expert}"
        return f"{self.layer}/{self.kind}{expert}"

    @property
    def channels(self) -> int:
        """Input channels of the output projection."""
        return self.units * self.output.block

    @property
    def routed(self) -> str | None:
        """The module of an expert, called with hidden states and routing weights; None without experts."""
        return None if self.expert is None else self.output.module.rpartition(".")[0]

    @property
    def ends_layer(self) -> bool:
        """Whether the projection's output reaches the layer's output as it is, with nothing after it."""
        return self.kind == MLP and self.post_norm is None and self.expert is None


def sites_of(model: PreTrainedModel, kinds: tuple[str, ...] | None = None) -> list[Site]:
    """All sites of the given kinds (None: of every kind the family has), in the order data flows.

    Sizes are read off the weights, not the config, so a model that was cut is described as it is. Raises
    InputError for a kind that this family refuses.
    """
    family = family_of(model.config)
    for kind in kinds or ():
        if kind in family.refused:
            raise InputError(
                f"params.yaml: prune.sites: {kind}: not for {model.config.model_type}: {family.refused[kind]}"
            )
    wanted = [kind for kind in KINDS if (kinds is None or kind in kinds) and kind not in family.refused]
    return [
        site
        for index, layer in enumerate(decoder_layers(model))
        for kind in wanted
        for site in _layer_sites(index, layer, kind, family)
    ]


def _layer_sites(index: int, layer: nn.Module, kind: str, family: Family) -> list[Site]:
    if kind == MLP:
        if family.experts is None:
            return [_mlp_site(index, layer, family.mlp, None)]
        experts = range(len(list(layer.get_submodule(f"{family.experts}.experts").children())))
        return [_mlp_site(index, layer, family.mlp, expert, family.experts) for expert in experts]
    names = family.attention
    heads, groups, size = _heads(layer, names)
    if kind == ATTENTION:
        query = heads // groups * size
        return [_site(index, kind, groups, (query, size, size), names)]
    return [_site(index, kind, heads, (size,), names, groups=groups)]


def _mlp_site(
    index: int, layer: nn.Module, names: Sublayer, expert: int | None, mixture: str | None = None
) -> Site:
    inputs = tuple(name.format(expert=expert) for name in names.inputs)
    output = names.output.format(expert=expert)
    named = Sublayer(inputs, output, names.entry, names.post_norm, names.beside)
    units = _linear(layer, output).in_features
    return _site(index, MLP, units, (1,) * len(inputs), named, expert=expert, total=mixture)


def _heads(layer: nn.Module, names: Sublayer) -> tuple[int, int, int]:
    """Query heads, KV groups, and the size of a head."""
    size: int = _attention(layer, names.output).head_dim
    heads = _linear(layer, names.output).in_features // size
    produced = sum(_linear(layer, name).out_features for name in set(names.inputs)) // size
    return heads, (produced - heads) // 2, size


def _attention(layer: nn.Module, output: str) -> Any:
    return layer.get_submodule(output.rpartition(".")[0])


def _site(
    layer: int,
    kind: str,
    units: int,
    blocks: tuple[int, ...],
    names: Sublayer,
    *,
    expert: int | None = None,
    total: str | None = None,
    groups: int = 1,
) -> Site:
    ends: dict[str, int] = {}
    parts = []
    # Fewer blocks than inputs: the rest (keys and values of query heads) stays.
    for module, block in zip(names.inputs, blocks, strict=False):
        parts.append(Part(module, 0, block, ends.get(module, 0)))
        ends[module] = ends.get(module, 0) + units * block
    return Site(
        layer,
        kind,
        units,
        tuple(parts),
        Part(names.output, 1, blocks[0]),
        names.entry,
        names.post_norm,
        names.beside,
        total or names.output,
        expert,
        groups,
    )


def _linear(layer: nn.Module, name: str) -> nn.Linear:
    module = layer.get_submodule(name)
    assert isinstance(module, nn.Linear), f"{name} is a {type(module).__name__}, not nn.Linear"
    return module


def output_projection(model: PreTrainedModel, site: Site) -> nn.Linear:
    """The module whose weight [hidden, channels] takes the site's channels back into the stream."""
    return _linear(decoder_layers(model)[site.layer], site.output.module)


def all_kept_masks(model: PreTrainedModel) -> dict[str, Tensor]:
    """Masks that remove nothing, for every site of every kind."""
    return {site.name: torch.ones(site.units, dtype=torch.bool) for site in sites_of(model)}


def unit_parameters(model: PreTrainedModel, site: Site) -> int:
    """Parameters that one unit of the site takes with it."""
    layer = decoder_layers(model)[site.layer]
    total = 0
    for part in (*site.inputs, site.output):
        module = _linear(layer, part.module)
        other = module.in_features if part.axis == 0 else module.out_features
        bias = part.block if part.axis == 0 and module.bias is not None else 0
        total += part.block * other + bias
    return total


def channel_mask(site: Site, units: Tensor) -> Tensor:
    """Bool over units -> bool over the channels of the output projection."""
    return units.repeat_interleave(site.output.block)


def cut_layer(layer: nn.Module, site: Site, units: Tensor) -> None:
    """Remove, in place, the units of `site` that are False in `units` from a decoder layer's modules."""
    kept: dict[tuple[str, int], Tensor] = {}
    for part in (*site.inputs, site.output):
        module = _linear(layer, part.module)
        size = module.out_features if part.axis == 0 else module.in_features
        features = kept.setdefault((part.module, part.axis), torch.ones(size, dtype=torch.bool))
        features[part.offset : part.offset + site.units * part.block] = units.repeat_interleave(part.block)
    for (name, axis), features in kept.items():
        _shrink(_linear(layer, name), axis, features)
    if site.kind != MLP:
        groups = int(units.sum()) if site.kind == ATTENTION else site.groups
        _recount(_attention(layer, site.output.module), _linear(layer, site.output.module), groups)


def _shrink(module: nn.Linear, axis: int, features: Tensor) -> None:
    index = features.nonzero().squeeze(1).to(module.weight.device)
    trainable = module.weight.requires_grad
    module.weight = nn.Parameter(module.weight.detach().index_select(axis, index), requires_grad=trainable)
    if axis == 0:
        module.out_features = len(index)
        if module.bias is not None:
            module.bias = nn.Parameter(module.bias.detach()[index], requires_grad=trainable)
    else:
        module.in_features = len(index)


def _recount(attention: Any, output: nn.Linear, groups: int) -> None:
    """Tell an attention module how many heads it has left; its config becomes its own."""
    heads = output.in_features // attention.head_dim
    config = copy.copy(attention.config)
    config.num_attention_heads, config.num_key_value_heads = heads, groups
    attention.config = config
    attention.num_key_value_groups = heads // groups
    if hasattr(attention, "num_key_value_heads"):
        attention.num_key_value_heads = groups


def cut(model: PreTrainedModel, masks: Masks) -> None:
    """Remove every masked unit of `model` in place and make its config say so."""
    layers = decoder_layers(model)
    for site in pruned_sites(model, masks):
        cut_layer(layers[site.layer], site, masks[site.name])
    resize_config(model.config, masks)


def pruned_sites(model: PreTrainedModel, masks: Masks) -> Iterator[Site]:
    """The sites of which `masks` removes something. Raises InputError where masks do not fit the model."""
    sites = {site.name: site for site in sites_of(model)}
    unknown = set(masks) - set(sites)
    if unknown:
        raise InputError(f"masks: {', '.join(sorted(unknown))}: the model has no such site")
    for name, mask in masks.items():
        if mask.shape != (sites[name].units,):
            raise InputError(
                f"masks: {name}: {tuple(mask.shape)} does not fit the model's {sites[name].units} units"
            )
    return (site for name, site in sites.items() if name in masks and not bool(masks[name].all()))
