"""Whole experts of a mixture: their weights, their rows of the router, and all else that there is for each.

Layers keep equally many, which the config says in one number. Experts that share all tokens stay, and so do
as many as a token is given to. A mixture must have been opened (families/fused_experts.py).
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PretrainedConfig, PreTrainedModel

from secateurs.families.decoder import decoder_layers, text_config
from secateurs.families.discover import family_of
from secateurs.families.family import Family, Mixture
from secateurs.families.fused_experts import OpenExperts
from secateurs.families.mixtures import knowing, number_of
from secateurs.kinds.channels import ChannelSite
from secateurs.kinds.expert_importance import METRICS, ExpertsObserver
from secateurs.kinds.kind import Kind, Observer, Site, Statistics
from secateurs.kinds.mlp import KIND as MLP

# What routers that limit groups compare groups by: the sum of the best two experts of each.
_IN_A_GROUP = 2


@dataclass(frozen=True, kw_only=True)
class ExpertsSite(Site):
    """The experts of one layer."""

    mixture: Mixture


class Experts(Kind):
    """Experts of a mixture."""

    name = "experts"
    unit = "experts"
    excludes: ClassVar[Mapping[str, str]] = {
        "mlp": "an expert that goes takes its channels with it, so that they would be counted twice; "
        "choose one of the two",
        "blocks": "a block takes its experts with it, so that they would be counted twice; choose one of the "
        "two",
    }
    # A token is given to as many as before.
    computes = False
    metrics = METRICS
    observed: ClassVar[frozenset[str]] = frozenset({"given", "routed", "taylor", "fisher"})

    def sites(self, model: PreTrainedModel) -> list[Site]:
        """One site for each layer that has experts, with what the config says of groups and of the router."""
        config = text_config(model.config)
        return [_limited(site, config) for site in super().sites(model)]

    def sites_of_layer(self, index: int, layer: nn.Module, family: Family) -> Sequence["ExpertsSite"]:
        """One site, where the layer has a mixture."""
        mixture = family.layers[index].mixture
        if mixture is None:
            return []
        count = len(list(layer.get_submodule(mixture.sublayer.block).children()))
        return [ExpertsSite(index, self, count, sized_by=mixture.entry, mixture=mixture)]

    def problem(self, sites: Sequence[Site], widths: str, multiple: int) -> str | None:
        """One entry of the config counts the experts of all layers."""
        if sites and widths == "per_layer":
            return "prune.widths: per_layer: all layers must have equally many experts; use uniform"
        return None

    def weights(self, model: PreTrainedModel, site: Site) -> list[tuple[Tensor, int]]:
        """All parameters of an expert, and an entry of each weight of the router."""
        layer, mixture = decoder_layers(model)[site.layer], experts_site(site).mixture
        expert = next(layer.get_submodule(mixture.sublayer.block).children())
        found: list[tuple[Tensor, int]] = [(weight, weight.numel()) for weight in expert.parameters()]
        for module, name, axis in mixture.rows:
            tensor = getattr(layer.get_submodule(module), name)
            if isinstance(tensor, nn.Parameter):
                found.append((tensor, tensor.numel() // tensor.shape[axis]))
        return found

    def observer(self, model: PreTrainedModel, site: Site, gradients: bool) -> Observer:
        """Sums over what each expert adds to the stream, and over its gradient."""
        block = decoder_layers(model)[site.layer].get_submodule(experts_site(site).mixture.sublayer.block)
        return ExpertsObserver(model, list(block.children()), gradients)

    def scores(
        self, model: PreTrainedModel, site: Site, metric: str, statistics: Statistics, seed: torch.Generator
    ) -> Tensor:
        """The score of METRICS, float64 [units]."""
        return METRICS[metric](site.units, statistics, seed)

    def cut(self, layer: nn.Module, site: Site, units: Tensor) -> nn.Module:
        """The layer itself, without the experts that are False and without what there is for each of them."""
        mixture, kept = experts_site(site).mixture, units.nonzero().squeeze(1)
        if len(kept) == site.units:
            return layer
        block = layer.get_submodule(mixture.sublayer.block)
        assert isinstance(block, OpenExperts), "experts are opened before they are cut"
        block.keep(kept.tolist())
        for module, name, axis in mixture.rows:
            _select(layer.get_submodule(module), name, axis, kept, site.units)
        for count in mixture.counts:
            value = int(count.per * len(kept)) + count.more
            setattr(knowing(layer.get_submodule(count.module)), count.attribute, value)
        for part in layer.modules():
            _recount(part, mixture.entry, len(kept))
        return layer

    def refits(self, layer: nn.Module, site: Site) -> Sequence[ChannelSite]:
        """The channels of the experts that the layer has; their projections make up for those that went."""
        return MLP.sites_of_sublayers(site.layer, layer, [experts_site(site).mixture.sublayer])

    def sizes(self, config: PretrainedConfig, layer: int, kept: Sequence[int] | None) -> dict[str, Any]:
        """The number of experts."""
        mixture = family_of(config).layers[layer].mixture
        if mixture is None:
            return {}
        return {mixture.entry: number_of(config, mixture.entry) if kept is None else kept[0]}

    @contextmanager
    def masked(self, model: PreTrainedModel, site: Site, units: Tensor) -> Iterator[None]:
        """In the context the router's logits of the experts that are False are minus infinity."""
        layer, gone = decoder_layers(model)[site.layer], (~units).nonzero().squeeze(1)
        tensors = [
            (getattr(layer.get_submodule(module), name), axis)
            for module, name, axis in experts_site(site).mixture.rows
        ]
        vectors = [(one, one.clone()) for one, axis in tensors if one.shape.numel() == one.shape[axis]]
        with torch.no_grad():
            for one, _ in vectors:
                one.view(-1)[gone] = -torch.inf
        try:
            with _Unrouted([one for one, axis in tensors if one.dim() == 2 and not axis], gone):
                yield
        finally:
            with torch.no_grad():
                for one, before in vectors:
                    one.copy_(before)


def experts_site(site: Site) -> ExpertsSite:
    """A site that must be one of experts."""
    assert isinstance(site, ExpertsSite), f"{site.name} has no experts"
    return site


def _limited(site: Site, config: PretrainedConfig) -> Site:
    """The site with its groups, and with the fewest experts that its router can choose among."""
    mixture = experts_site(site).mixture
    chosen = number_of(config, mixture.chosen)
    if mixture.groups is None:
        return replace(site, least=chosen)
    groups = number_of(config, mixture.groups)
    reached = groups if mixture.chosen_groups is None else number_of(config, mixture.chosen_groups)
    return replace(site, groups=groups, least=groups * max(_IN_A_GROUP, -(-chosen // reached)))


def _select(module: nn.Module, name: str, axis: int, kept: Tensor, units: int) -> None:
    """Leave in a weight or buffer the entries of the kept experts, and those that are of none."""
    tensor = getattr(module, name)
    others = torch.arange(units, tensor.shape[axis])
    left = tensor.detach().index_select(axis, torch.cat([kept.cpu(), others]).to(tensor.device))
    parameter = isinstance(tensor, nn.Parameter)
    setattr(module, name, nn.Parameter(left, requires_grad=tensor.requires_grad) if parameter else left)


def _recount(module: Any, entry: str, count: int) -> None:
    """Give a module whose config counts the experts a config of its own that says how many are left."""
    config = vars(module).get("config")
    if isinstance(config, PretrainedConfig) and hasattr(config, entry):
        module.config = copy.copy(config)
        setattr(module.config, entry, count)


class _Unrouted(TorchFunctionMode):
    """In the context, products with these weights [experts, d] are minus infinity for some experts."""

    def __init__(self, weights: Sequence[Tensor], gone: Tensor) -> None:
        super().__init__()
        self.places, self.gone = {one.data_ptr() for one in weights}, gone

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called in the place of every function of torch."""
        result = func(*args, **(kwargs or {}))
        if func in (F.linear, torch.matmul, Tensor.matmul) and args[1].data_ptr() in self.places:
            result[..., self.gone] = -torch.inf
        return result


KIND = Experts()
