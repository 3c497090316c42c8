"""Channels of the mlp: rows of what makes them (gate, up) and a column of the down projection."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from torch import nn
from transformers import PretrainedConfig

from secateurs.errors import InputError
from secateurs.families.decoder import text_config
from secateurs.families.discover import family_of
from secateurs.families.family import LINEAR_SIZES, Family, Layer, Sublayer, Width
from secateurs.kinds.channels import ChannelKind, ChannelSite, channel_site, linear
from secateurs.kinds.kind import Site

# transformers multiplies all experts at once and wants rows of whole 16 bytes, in half precision too.
EXPERT_MULTIPLE = 8


class Mlp(ChannelKind):
    """Channels of the mlp, or in a mixture those of each expert."""

    name = "mlp"
    unit = "channels"
    fills_up = True

    def sites_of_layer(self, index: int, layer: nn.Module, family: Family) -> Sequence[ChannelSite]:
        """One site; in a mixture one for each expert, and then those of what is shared beside them."""
        return self.sites_of_sublayers(index, layer, _in_order(family.layers[index]))

    def sites_of_sublayers(
        self, index: int, layer: nn.Module, sublayers: Sequence[Sublayer]
    ) -> Sequence[ChannelSite]:
        """The sites of some mlps of a layer, one for each expert of a block."""
        own = [one for mlp in sublayers for one in _single(layer, mlp)]
        return [
            self._site(index, layer, one, number if len(own) > 1 else None) for number, one in enumerate(own)
        ]

    def _site(self, index: int, layer: nn.Module, sublayer: Sublayer, number: int | None) -> ChannelSite:
        return ChannelSite(
            index,
            self,
            linear(layer, sublayer.output).in_features,
            1,
            number,
            sublayer=sublayer,
            blocks=sublayer.blocks,
            sized_by="" if sublayer.width is None else sublayer.width.attribute,
        )

    def problem(self, sites: Sequence[Site], widths: str, multiple: int) -> str | None:
        """Experts of a layer lie in one tensor, so they have one width, which fast products restrict."""
        if not any(channel_site(site).sublayer.routed for site in sites):
            return None
        if widths == "per_layer":
            return "prune.widths: per_layer: the experts of a layer must have one width; use uniform"
        if multiple % EXPERT_MULTIPLE:
            return (
                f"prune.width_multiple: {multiple}: widths of experts must be multiples of "
                f"{EXPERT_MULTIPLE}, for grouped matrix products"
            )
        return None

    def step(self, site: Site, multiple: int) -> int:
        """The entry of the config that sizes the site is a multiple of `prune.width_multiple`."""
        width = width_of(site)
        return multiple if width.fixed else max(1, int(multiple * width.factor))

    def sizes(self, config: PretrainedConfig, layer: int, kept: Sequence[int] | None) -> dict[str, Any]:
        """The widths, by the config's own names for them."""
        mlps = _in_order(family_of(config).layers[layer])
        if kept is None:
            names = [mlp.width.attribute for mlp in mlps if mlp.width is not None and not mlp.width.fixed]
            dense = {name: getattr(text_config(config), name) for name in names}
            return {name: one[layer] if isinstance(one, list) else one for name, one in dense.items()}
        found: dict[str, set[Fraction]] = {}
        # Experts are counted from the first; what is shared has a number each behind them.
        experts = len(kept) - sum(not mlp.routed for mlp in mlps)
        left = iter(kept)
        modules: dict[str, dict[str, int]] = {}
        for mlp in mlps:
            assert mlp.width is not None, f"{mlp.output} has a width"
            if mlp.width.fixed:
                channels = next(left)
                if channels != mlp.width.factor * getattr(text_config(config), mlp.width.attribute):
                    modules |= _modules(mlp, channels)
                continue
            own = found.setdefault(mlp.width.attribute, set())
            own |= {next(left) / mlp.width.factor for _ in range(experts if mlp.routed else 1)}
        for name, values in found.items():
            if len(values) > 1 or max(values).denominator > 1:
                shown = sorted(map(str, values))
                raise InputError(f"{name} sizes several mlps of a layer, which need one width, not {shown}")
        sizes: dict[str, Any] = {name: int(max(values)) for name, values in found.items()}
        return sizes | ({LINEAR_SIZES: modules} if modules else {})

    def explicit(self, config: PretrainedConfig) -> dict[str, Any]:
        """That a layer which does not say so has its class's modules, where some may have others."""
        mlps = [mlp for layer in family_of(config).layers for mlp in layer.mlps]
        return {LINEAR_SIZES: {}} if any(mlp.width and mlp.width.fixed for mlp in mlps) else {}


def width_of(site: Site) -> Width:
    """What the config says of the site's width."""
    width = channel_site(site).sublayer.width
    assert width is not None, f"{site.name} has a width"
    return width


def _modules(mlp: Sublayer, channels: int) -> dict[str, dict[str, int]]:
    """The sizes of the linear modules around so many channels."""
    made: dict[str, int] = {}
    for name, block in zip(mlp.inputs, mlp.blocks, strict=True):
        made[name] = made.get(name, 0) + channels * block
    sizes = {name: {"out_features": features} for name, features in made.items()}
    return sizes | {mlp.output: {"in_features": channels}}


def _in_order(layer: Layer) -> list[Sublayer]:
    """The mlps of a layer, experts first: their numbers are those that the router gives them."""
    return sorted(layer.mlps, key=lambda mlp: not mlp.routed)


def _single(layer: nn.Module, mlp: Sublayer) -> Iterator[Sublayer]:
    """The mlp itself, or one for each of its experts."""
    if not mlp.routed:
        yield mlp
        return
    count = len(list(layer.get_submodule(mlp.block).children()))
    yield from (mlp.of_expert(number) for number in range(count))


KIND = Mlp()
