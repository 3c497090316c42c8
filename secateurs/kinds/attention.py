"""KV groups: a key head and a value head with their query heads, and those heads' columns of the output."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn

from secateurs.families.family import Family
from secateurs.kinds.channels import ChannelSite
from secateurs.kinds.heads import HeadKind, heads_of, with_heads
from secateurs.kinds.kind import Site


class Attention(HeadKind):
    """KV groups of an attention."""

    name = "attention"
    unit = "KV groups"
    excludes: ClassVar[Mapping[str, str]] = {
        "query_heads": "attention takes query heads with their KV group, query_heads takes them out of "
        "groups that stay; choose one of the two"
    }

    def sites_of_layer(self, index: int, layer: nn.Module, family: Family) -> Sequence[ChannelSite]:
        """One site, where the layer has its attention."""
        sublayer = with_heads(layer, family.layers[index])
        if sublayer is None:
            return []
        size, heads, groups = heads_of(layer, sublayer)
        blocks = (heads // groups * size, size, size)
        return [ChannelSite(index, self, groups, sublayer=sublayer, blocks=blocks, each=blocks[0])]

    def groups_left(self, site: Site, units: Tensor) -> int:
        """As many as stay."""
        return int(units.sum())

    def counts(self, groups: int, heads: int, kept: int) -> tuple[int, int]:
        """As many query heads to a group as before."""
        return kept, heads // groups * kept


KIND = Attention()
