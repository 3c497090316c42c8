"""What kinds have in common whose units are whole sublayers: a site in each layer, of a single unit.

A sublayer f adds f(h) to the residual stream h. Where it goes, the stream passes by: nothing is refitted.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.parallel import summed
from secateurs.families.decoder import decoder_layers
from secateurs.families.family import Family
from secateurs.kinds.importance import taken
from secateurs.kinds.kind import Gone, Kind, Metric, Observer, Site, Statistics

# Of the same sums as those of channels, with f(h) and its gradient in the place of a channel.
METRICS: Mapping[str, Metric] = {
    "fisher": lambda _, statistics, __: taken(statistics, "fisher"),
    "taylor": lambda _, statistics, __: taken(statistics, "taylor"),
    "influence": lambda _, statistics, __: taken(statistics, "influence"),
    "random": lambda _, __, generator: torch.rand(1, generator=generator, dtype=torch.float64),
}


@dataclass(frozen=True, kw_only=True)
class DepthSite(Site):
    """modules: those that go with the sublayer; the last one gives f(h), or h + f(h) if it is the layer."""

    modules: tuple[str, ...]


class DepthKind(Kind):
    """A kind whose sites are DepthSites."""

    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    observed: ClassVar[frozenset[str]] = frozenset({"influence", "taylor", "fisher"})
    pooled = True
    healed = False

    @abstractmethod
    def modules(self, family: Family, index: int) -> tuple[str, ...]:
        """The modules of a layer's sublayer, as DepthSite has them; empty where it has none."""

    def sites_of_layer(self, index: int, layer: nn.Module, family: Family) -> Sequence[DepthSite]:
        """One site of one unit; none where the sublayer is gone."""
        names = self.modules(family, index)
        gone = not names or any(isinstance(layer.get_submodule(name), Gone) for name in names)
        return [] if gone else [DepthSite(index, self, 1, modules=names)]

    def weights(self, model: PreTrainedModel, site: Site) -> list[tuple[Tensor, int]]:
        """All parameters of the sublayer's modules."""
        layer = decoder_layers(model)[site.layer]
        modules = [layer.get_submodule(name) for name in depth_site(site).modules]
        return [(weight, weight.numel()) for module in modules for weight in module.parameters()]

    def observer(self, model: PreTrainedModel, site: Site, gradients: bool) -> Observer:
        """Sums over what the sublayer adds to the stream, and over its gradient."""
        layer = decoder_layers(model)[site.layer]
        return _DepthObserver(layer, layer.get_submodule(depth_site(site).modules[-1]), gradients)

    def scores(
        self, model: PreTrainedModel, site: Site, metric: str, statistics: Statistics, seed: torch.Generator
    ) -> Tensor:
        """The score of METRICS, float64 [1]."""
        return self.metrics[metric](None, statistics, seed)


def depth_site(site: Site) -> DepthSite:
    """A site that must be one of a whole sublayer."""
    assert isinstance(site, DepthSite), f"{site.name} is no whole sublayer"
    return site


class _DepthObserver(Observer):
    """Sums over tokens of 1 - cos(h, h + f) and (f . g)^2, over sequences of (sum over tokens of f . g)^2.

    h: what enters the layer. f: what the module adds to it, [batch, tokens, d]; g: the gradient at f of each
    sequence's own mean loss. The layer itself gives h + f, any other module f.
    """

    def __init__(self, layer: nn.Module, module: nn.Module, gradients: bool) -> None:
        self.gradients, self.whole = gradients, module is layer
        self.sums = torch.zeros(3, dtype=torch.float64)
        self.entering: Tensor | None = None
        self.before = [(layer, self._enter)]
        self.after = [(module, self._leave)]

    def _enter(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.entering = inputs[0].detach()

    def _leave(self, _: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        given: Tensor = output[0] if isinstance(output, tuple) else output
        # Under checkpointing a layer runs twice, the first time without a graph: that one is not counted.
        if self.gradients and not given.requires_grad:
            return
        assert self.entering is not None, "the layer was entered before"
        h = self.entering.float()
        added = given.detach().float() - h if self.whole else given.detach().float()
        self.sums[0] += (1 - F.cosine_similarity(h, h + added, dim=-1)).double().sum().cpu()
        if self.gradients:
            given.register_hook(lambda gradient: self._add(added, gradient))

    def _add(self, added: Tensor, gradient: Tensor) -> None:
        product = (added * gradient).sum(dim=-1, dtype=torch.float32)
        self.sums[1] += product.double().square().sum().cpu()
        self.sums[2] += product.double().sum(dim=-1).square().sum().cpu()

    def statistics(self, tokens: int, sequences: int) -> dict[str, Tensor]:
        influence, taylor, fisher = summed(self.sums).split(1)
        means = {"influence": (influence / tokens).clamp_min(0).float()}
        if self.gradients:
            means |= {"taylor": (taylor / tokens).float(), "fisher": (fisher / sequences).float()}
        return means
