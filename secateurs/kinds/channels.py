"""What kinds have in common whose units are input channels of a sublayer's output projection W.

A unit owns features of the linear modules that make the channels, and columns of W. It is observed by what
enters W, and once units are gone W is refitted. A mixture of experts must have been opened
(families/fused_experts.py), because every channel is taken to be a feature of an nn.Linear.
"""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.families.decoder import decoder_layers
from secateurs.families.family import Family, Sublayer
from secateurs.families.hooks import hooked
from secateurs.kinds.importance import METRICS, unit_scores
from secateurs.kinds.kind import Kind, Observer, Site, Statistics
from secateurs.kinds.statistics import OBSERVED, ChannelSums


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


@dataclass(frozen=True, kw_only=True)
class ChannelSite(Site):
    """A site whose units are channels of an output projection.

    sublayer: the modules around the site; those of an expert carry its number. blocks: features that one unit
    has in each of the sublayer's input modules. Modules without a number of their own (the keys and values of
    query heads) keep all their features. each: input features of the output projection that one unit has.
    """

    sublayer: Sublayer
    blocks: tuple[int, ...]
    each: int = 1

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
        return Part(self.sublayer.output, 1, self.each)

    @property
    def features(self) -> int:
        """Input channels of the output projection."""
        return self.units * self.each

    def of_features(self, units: Tensor) -> Tensor:
        """Values of units [units] -> of the channels that each unit has [channels]."""
        return units.repeat_interleave(self.output.block)

    @property
    def routed(self) -> str | None:
        """The module of an expert, called with hidden states and routing weights; None without experts."""
        return self.sublayer.output.rpartition(".")[0] if self.sublayer.routed else None

    @property
    def ends_layer(self) -> bool:
        """Whether the projection's output reaches the layer's output as it is, with nothing after it."""
        own = self.sublayer
        last = own.ends_layer and own.result == own.output and own.post_norm is None
        return last and own.gain == 1 and own.entry is not None


class ChannelKind(Kind):
    """A kind whose sites are ChannelSites."""

    metrics = METRICS
    observed = OBSERVED

    @abstractmethod
    def sites_of_layer(self, index: int, layer: nn.Module, family: Family) -> Sequence[ChannelSite]:
        """The sites of one decoder layer."""

    def weights(self, model: PreTrainedModel, site: Site) -> list[tuple[Tensor, int]]:
        """Rows of the modules that make the channels, with their biases, and columns of the projection."""
        one, layer = channel_site(site), decoder_layers(model)[site.layer]
        found: list[tuple[Tensor, int]] = []
        for part in (*one.inputs, one.output):
            module = linear(layer, part.module)
            other = module.in_features if part.axis == 0 else module.out_features
            found.append((module.weight, part.block * other))
            if part.axis == 0 and module.bias is not None:
                found.append((module.bias, part.block))
        return found

    def shortened(self, model: PreTrainedModel, site: Site) -> Tensor | None:
        """That of the output projection."""
        return output_projection(model, site).weight

    def observer(self, model: PreTrainedModel, site: Site, gradients: bool) -> Observer:
        """Sums over the input of the output projection, and over its gradient."""
        return _ChannelObserver(model, site, gradients)

    def scores(
        self, model: PreTrainedModel, site: Site, metric: str, statistics: Statistics, seed: torch.Generator
    ) -> Tensor:
        """The channels' scores (importance.METRICS), summed over those of each unit."""
        channels = METRICS[metric](output_projection(model, site).weight, statistics, seed)
        return unit_scores(channels, site.units)

    def refits(self, layer: nn.Module, site: Site) -> Sequence[ChannelSite]:
        """The site itself."""
        return [channel_site(site)]

    def masked(self, model: PreTrainedModel, site: Site, units: Tensor) -> AbstractContextManager[None]:
        """In the context the channels of the units that are False are 0."""
        kept = channel_site(site).of_features(units)
        return hooked([(output_projection(model, site), lambda _, inputs: (inputs[0] * kept,))])

    def cut(self, layer: nn.Module, site: Site, units: Tensor) -> nn.Module:
        """The layer itself, its linear modules without the features of the units that go."""
        one = channel_site(site)
        kept: dict[tuple[str, int], Tensor] = {}
        for part in (*one.inputs, one.output):
            module = linear(layer, part.module)
            size = module.out_features if part.axis == 0 else module.in_features
            features = kept.setdefault((part.module, part.axis), torch.ones(size, dtype=torch.bool))
            features[part.offset : part.offset + site.units * part.block] = units.repeat_interleave(
                part.block
            )
        for (name, axis), features in kept.items():
            _shrink(linear(layer, name), axis, features)
        return layer


class _ChannelObserver(Observer):
    def __init__(self, model: PreTrainedModel, site: Site, gradients: bool) -> None:
        self.sums = ChannelSums(site.features, gradients)
        self.before = [
            (model.get_input_embeddings(), self._enter),
            (output_projection(model, site), self._add),
        ]

    def _enter(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.sequences = len(inputs[0])

    def _add(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # Under checkpointing a layer runs twice, the first time without a graph: that one is not counted.
        if self.sums.gradients and not inputs[0].requires_grad:
            return
        # Some modules see all tokens of a batch in one row.
        shape = (self.sequences, -1, inputs[0].shape[-1])
        x = inputs[0].detach().view(shape)
        self.sums.add_activations(x)
        if self.sums.gradients:
            sums = self.sums
            # The hook must not hold its own tensor: the cycle would keep the whole graph in memory.
            inputs[0].register_hook(lambda gradient: sums.add_gradients(x, gradient.view(shape)))

    def statistics(self, tokens: int, sequences: int) -> dict[str, Tensor]:
        return self.sums.statistics(tokens, sequences)


def channel_site(site: Site) -> ChannelSite:
    """A site that must be one of channels."""
    assert isinstance(site, ChannelSite), f"{site.name} has no output projection"
    return site


def linear(layer: nn.Module, name: str) -> nn.Linear:
    """A module of a decoder layer that must be an nn.Linear."""
    module = layer.get_submodule(name)
    assert isinstance(module, nn.Linear), f"{name} is a {type(module).__name__}, not nn.Linear"
    return module


def output_projection(model: PreTrainedModel, site: Site) -> nn.Linear:
    """The module whose weight [hidden, channels] takes the site's channels back into the stream."""
    return linear(decoder_layers(model)[site.layer], channel_site(site).sublayer.output)


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
