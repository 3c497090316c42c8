"""How units are removed: the weights of a decoder layer made smaller, in place."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.errors import InputError
from secateurs.families.decoder import decoder_layers
from secateurs.families.layouts import ATTENTION, MLP
from secateurs.kinds.sites import Masks, Site, linear, sites_of
from secateurs.kinds.sizes import resize_config


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


def cut_layer(layer: nn.Module, site: Site, units: Tensor) -> None:
    """Remove, in place, the units of `site` that are False in `units` from a decoder layer's modules."""
    kept: dict[tuple[str, int], Tensor] = {}
    for part in (*site.inputs, site.output):
        module = linear(layer, part.module)
        size = module.out_features if part.axis == 0 else module.in_features
        features = kept.setdefault((part.module, part.axis), torch.ones(size, dtype=torch.bool))
        features[part.offset : part.offset + site.units * part.block] = units.repeat_interleave(part.block)
    for (name, axis), features in kept.items():
        _shrink(linear(layer, name), axis, features)
    if site.kind != MLP:
        output = site.sublayer.output
        groups = int(units.sum()) if site.kind == ATTENTION else site.groups
        _recount(layer.get_submodule(output.rpartition(".")[0]), linear(layer, output), groups)


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
