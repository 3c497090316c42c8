"""What a kind of thing that can go must answer; each kind is one file beside this one, named in registry.py.

Masks, budgets, rounds, capture, surgery, plans, figures and cards loop over kinds and know none by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from secateurs.families.decoder import decoder_layers
from secateurs.families.discover import family_of
from secateurs.families.family import Family
from secateurs.families.hooks import After, Before

Masks = Mapping[str, Tensor]
"""Site name -> bool [units], True = kept. A site of a single unit that has no mask is kept."""

Statistics = Mapping[str, Tensor]
"""One domain's means at one site by the statistic's name, each float32 [features of the site]."""

Metric = Callable[[Any, Statistics, torch.Generator], Tensor]
"""(what the kind scores by, statistics, generator) -> float64 score [features], larger matters more."""


class Observer(ABC):
    """Sums of what one site shows in a pass. `before` and `after` are the hooks that add to them."""

    before: Sequence[Before] = ()
    after: Sequence[After] = ()

    @abstractmethod
    def statistics(self, tokens: int, sequences: int) -> dict[str, Tensor]:
        """The means, on the CPU. tokens, sequences: how many were added in all processes together."""


@dataclass(frozen=True)
class Site:
    """A place in one decoder layer where units of one kind can be removed.

    units: how many there are. groups: they stand in this many groups of equal length, each of which must keep
    equally many. number: of this site, where a layer has several of the kind (its experts). sized_by: the
    entry of the config that counts the units, where sites of the kind have several. least: the fewest units
    that it can keep, whatever the settings allow.
    """

    layer: int
    kind: "Kind"
    units: int
    groups: int = 1
    number: int | None = None
    sized_by: str = ""
    least: int = 0

    @property
    def name(self) -> str:
        """The key of this site in masks and statistics: `<layer>/<kind>`, or `<layer>/<kind>.<number>`."""
        return f"{self.layer}/{self.kind.name}{'' if self.number is None else f'.{self.number}'}"

    @property
    def features(self) -> int:
        """How many features statistics are taken of."""
        return self.units

    def of_features(self, units: Tensor) -> Tensor:
        """Values of units [units] -> of the features that each unit has [features]."""
        return units


class Gone(nn.Module):
    """What stands in the place of a sublayer or a layer that is gone."""


class Kind(ABC):
    """A kind of thing that can go.

    name: as in `prune.sites` and in the names of sites. unit: several of its units, for figures and messages.
    excludes: other kinds that cannot go with it, each with the reason; one of two that exclude each other
    says so. pooled: any of its sites may lose units; of others every layer loses as many under uniform
    widths. fills_up: it has units enough to make up what other kinds leave of a budget. computes: fewer of
    its units are fewer multiply-adds of a token. healed: projections are refitted after the cut (refits).
    metrics: its scores by name. observed: the names of its statistics.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    excludes: ClassVar[Mapping[str, str]] = {}
    pooled: ClassVar[bool] = False
    fills_up: ClassVar[bool] = False
    computes: ClassVar[bool] = True
    healed: ClassVar[bool] = True
    metrics: ClassVar[Mapping[str, Metric]]
    observed: ClassVar[frozenset[str]]

    def refusal(self, config: PretrainedConfig) -> str | None:
        """Why no unit of this kind can go from a model with this config; None where they can."""
        return family_of(config).refused.get(self.name)

    def sites(self, model: PreTrainedModel) -> list[Site]:
        """The sites of a model, its experts opened, in the order of its layers.

        Sizes are read off the weights, not the config, so a model that was cut is described as it is.
        """
        family = family_of(model.config)
        return [
            site
            for index, layer in enumerate(decoder_layers(model))
            if not isinstance(layer, Gone)
            for site in self.sites_of_layer(index, layer, family)
        ]

    @abstractmethod
    def sites_of_layer(self, index: int, layer: nn.Module, family: Family) -> Sequence[Site]:
        """The sites of one decoder layer."""

    def problem(self, sites: Sequence[Site], widths: str, multiple: int) -> str | None:
        """What the settings ask of these sites that they cannot do, as `key: value: reason`; None if nothing.

        widths, multiple: `prune.widths` and `prune.width_multiple`.
        """
        return None

    @abstractmethod
    def weights(self, model: PreTrainedModel, site: Site) -> list[tuple[Tensor, int]]:
        """The weights of which one unit of the site takes a part with it, and how many parameters of each."""

    def cost(self, model: PreTrainedModel, site: Site) -> int:
        """Parameters that one unit of the site takes with it."""
        return sum(count for _, count in self.weights(model, site))

    def shortened(self, model: PreTrainedModel, site: Site) -> Tensor | None:
        """The weight whose rows have the site's features, so that they get shorter; None without one."""
        return None

    def step(self, site: Site, multiple: int) -> int:
        """The units by which the site's width changes; multiple: `prune.width_multiple`."""
        return site.groups

    @abstractmethod
    def observer(self, model: PreTrainedModel, site: Site, gradients: bool) -> Observer:
        """What adds up the site's statistics in a pass, with a backward pass or without."""

    @abstractmethod
    def scores(
        self, model: PreTrainedModel, site: Site, metric: str, statistics: Statistics, seed: torch.Generator
    ) -> Tensor:
        """How much each unit matters by a metric of `metrics`, float64 [units]; larger matters more."""

    @abstractmethod
    def cut(self, layer: nn.Module, site: Site, units: Tensor) -> nn.Module:
        """The decoder layer without the units that are False: the same module, changed, or another."""

    def refits(self, layer: nn.Module, site: Site) -> Sequence[Any]:
        """The ChannelSites whose projections heal what goes from the site, in a layer that is cut or whole.

        The site itself where it is one of channels, which are cut only after they have been observed.
        """
        return []

    def masked(self, model: PreTrainedModel, site: Site, units: Tensor) -> AbstractContextManager[None]:
        """In the context the whole model computes what it does without the units that are False: the
        reference of a cut (checkpoints/family_proof.py)."""
        raise NotImplementedError(f"{self.name} is not proved by masking")

    def sizes(self, config: PretrainedConfig, layer: int, kept: Sequence[int] | None) -> dict[str, Any]:
        """The sizes of one layer by the names that the config of the decoder has for them.

        kept: the units left at each of the layer's sites; None: all, so that these are the dense sizes.
        Raises InputError for sizes that the layer cannot have.
        """
        return {}

    def explicit(self, config: PretrainedConfig) -> dict[str, Any]:
        """What a config must say once units are gone, because it can no longer be derived."""
        return {}

    def finish(self, model: PreTrainedModel) -> None:
        """Bring a model to the form in which it is saved, once all layers are cut and healed."""
        return
