"""Channels of the mlp: rows of what makes them (gate, up) and a column of the down projection."""

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PretrainedConfig

from secateurs.errors import InputError
from secateurs.families.layouts import Family, Sublayer, family_of
from secateurs.kinds.channels import ChannelKind, ChannelSite, linear
from secateurs.kinds.kind import Site

# transformers multiplies all experts at once and wants rows of whole 16 bytes, in half precision too.
EXPERT_MULTIPLE = 8


class Mlp(ChannelKind):
    """Channels of the mlp, or in a mixture those of each expert."""

    name = "mlp"
    unit = "channels"
    fills_up = True

    def sites_of_layer(self, index: int, layer: nn.Module, family: Family) -> Sequence[ChannelSite]:
        """One site, or one for each expert."""
        if family.mlp.moe_block is None:
            return [self._site(index, layer, family.mlp, None)]
        experts = layer.get_submodule(f"{family.mlp.moe_block}.experts").children()
        return [
            self._site(index, layer, family.mlp.of_expert(number), number) for number, _ in enumerate(experts)
        ]

    def _site(self, index: int, layer: nn.Module, sublayer: Sublayer, expert: int | None) -> ChannelSite:
        units, blocks = linear(layer, sublayer.output).in_features, (1,) * len(sublayer.inputs)
        # Neither a norm nor other experts come after the projection.
        last = sublayer.post_norm is None and expert is None
        return ChannelSite(index, self, units, 1, expert, sublayer=sublayer, blocks=blocks, ends_layer=last)

    def problem(self, sites: Sequence[Site], widths: str, multiple: int) -> str | None:
        """Experts of a layer lie in one tensor, so they have one width, which fast products restrict."""
        if all(site.number is None for site in sites):
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
        """Kept widths are multiples of `prune.width_multiple`."""
        return multiple

    def sizes(self, config: PretrainedConfig, kept: Sequence[int] | None) -> dict[str, Any]:
        """The width, by the family's own name for it."""
        name = family_of(config).width
        if kept is None:
            return {name: getattr(config, name)}
        if len(set(kept)) > 1:
            raise InputError(f"the experts of a layer must have one width, not {sorted(set(kept))}")
        return {name: kept[0]}


KIND = Mlp()
