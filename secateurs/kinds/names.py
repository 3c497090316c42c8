"""The names of sites, `<layer>/<kind>` or `<layer>/<kind>.<number>`, as masks and statistics have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, order=True)
class SiteName:
    """A site's name, taken apart; number: 0 where a layer has one site of the kind."""

    layer: int
    kind: str
    number: int


def parse_name(name: str) -> SiteName:
    """The parts of a site's name."""
    layer, _, rest = name.partition("/")
    kind, _, number = rest.partition(".")
    return SiteName(int(layer), kind, int(number or 0))


def kept_by_layer(masks: "Mapping[str, Tensor]", kind: str) -> dict[int, list[int]]:
    """Units kept at each site of a kind, by layer, in the order of the sites in the layer."""
    found: dict[int, list[int]] = {}
    for name in sorted((one for one in masks if parse_name(one).kind == kind), key=parse_name):
        found.setdefault(parse_name(name).layer, []).append(int(masks[name].sum()))
    return found


def widths(masks: "Mapping[str, Tensor]", kind: str) -> list[int]:
    """Units kept of a kind, layer by layer; where a layer has several sites, those of each in turn.

    Sites of a layer that keep equally many, as the experts of a layer do, count once.
    """
    return [
        width
        for kept in kept_by_layer(masks, kind).values()
        for width in (kept[:1] if len(set(kept)) == 1 else kept)
    ]


def pruned_kinds(masks: "Mapping[str, Tensor]") -> set[str]:
    """The kinds of which masks remove something."""
    return {parse_name(name).kind for name, mask in masks.items() if not bool(mask.all())}
