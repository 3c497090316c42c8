"""Query heads, equally many out of each KV group; keys and values stay."""

from collections.abc import Sequence

from torch import Tensor, nn

from secateurs.families.family import Family
from secateurs.kinds.channels import ChannelSite
from secateurs.kinds.heads import HeadKind, heads_of, with_heads
from secateurs.kinds.kind import Site


class QueryHeads(HeadKind):
    """Query heads of an attention."""

    name = "query_heads"
    unit = "query heads"

    def sites_of_layer(self, index: int, layer: nn.Module, family: Family) -> Sequence[ChannelSite]:
        """One site, where the layer has its attention."""
        sublayer = with_heads(layer, family.layers[index])
        if sublayer is None:
            return []
        size, heads, groups = heads_of(layer, sublayer)
        return [ChannelSite(index, self, heads, groups, sublayer=sublayer, blocks=(size,), each=size)]

    def groups_left(self, site: Site, units: Tensor) -> int:
        """All of them."""
        return site.groups

    def counts(self, groups: int, heads: int, kept: int) -> tuple[int, int]:
        """Fewer query heads to as many groups."""
        return groups, kept


KIND = QueryHeads()
