"""What a decoder is made of, layer by layer, as far as pruning must know it: the result of discovery."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

LINEAR_SIZES = "linear_sizes"
"""What a layer says in `per_layer_config` of linear modules that its class makes in other sizes: by their
names {"in_features": …} or {"out_features": …}."""


@dataclass(frozen=True)
class Width:
    """The entry of the decoder's config that says how many channels a sublayer has: factor * entry.

    listed: the entry is a list with a number for each layer. fixed: the entry is the width of the stream; the
    class computes the number of channels from it, so the config cannot tell another number of channels.
    """

    attribute: str
    factor: Fraction = Fraction(1)
    listed: bool = False
    fixed: bool = False


@dataclass(frozen=True)
class Sublayer:
    """The modules around the channels of one sublayer, named relative to the decoder layer.

    inputs: the modules that produce the channels (for attention: query, key, value). A name that stands
    several times is one fused module whose outputs follow one another in that order. For experts, `{expert}`
    stands for the expert's number.
    blocks: for mlps, how many neighbouring features of each of them a channel owns.
    output: the projection that takes the channels back towards the residual stream.
    result: the module whose output is all that the sublayer gives: the projection, or a block of experts.
    entry: the module whose input is the stream h before the sublayer, "" the layer itself; None where no
    stream was found that the result is added to.
    post_norm, added_first, gain: the stream goes on as h + gain * post_norm(result) + what the module
    added_first gives, which is of another sublayer that reads the same stream.
    ends_layer: that sum is the layer's output.
    width: of mlps, what the config says of the number of channels.
    routed: the sublayer is a block of routed experts.
    """

    inputs: tuple[str, ...]
    output: str
    blocks: tuple[int, ...] = ()
    result: str = ""
    entry: str | None = None
    post_norm: str | None = None
    added_first: str | None = None
    gain: float = 1.0
    ends_layer: bool = False
    width: Width | None = None
    routed: bool = False

    @property
    def block(self) -> str:
        """The module whose children the experts are."""
        return self.output.partition(".{expert}")[0]

    def of_expert(self, number: int) -> "Sublayer":
        """The same with the expert's number in the names."""
        inputs = tuple(name.format(expert=number) for name in self.inputs)
        return replace(self, inputs=inputs, output=self.output.format(expert=number))


@dataclass(frozen=True)
class Count:
    """An int of a module that follows the number n of experts, per * n + more. module: "" is the layer."""

    module: str
    attribute: str
    per: Fraction
    more: int


@dataclass(frozen=True)
class Mixture:
    """What in a layer depends on the number of its experts.

    sublayer: the block of experts. entry: of the decoder's config, how many there are. chosen: the entry that
    says how many a token is given to. groups, chosen_groups: the entries that say in how many groups of equal
    length they stand, and how many of those a token is given to; None without groups. rows: weights and
    buffers outside the block, as (module, name, axis), that have an entry for each expert along an axis;
    there may be others behind those. counts: what modules know of the number.
    """

    sublayer: Sublayer
    entry: str
    chosen: str
    groups: str | None
    chosen_groups: str | None
    rows: tuple[tuple[str, str, int], ...]
    counts: tuple[Count, ...]


@dataclass(frozen=True)
class Layer:
    """mlps: the sublayers of channels, none in a layer without; attention: None where none was found.
    mixture: of a layer whose experts can go.
    heads: whether the attention's heads can go; its inputs are known only then.
    gives: how many values the layer returns as a tuple, the stream being the first; 0 if the stream alone.
    """

    mlps: tuple[Sublayer, ...] = ()
    attention: Sublayer | None = None
    heads: bool = False
    gives: int = 0
    mixture: Mixture | None = None


@dataclass(frozen=True)
class Family:
    """The layout of a decoder.

    path: the name of the list of its layers in the model. refused: by the name of a kind, why nothing of that
    kind can be pruned. apart: whether each layer can be run by itself, as healing does; not where layers
    hand each other more than the stream.
    """

    path: str
    layers: tuple[Layer, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    apart: bool = True

    @property
    def has_experts(self) -> bool:
        """Whether any layer has a block of routed experts."""
        return any(mlp.routed for layer in self.layers for mlp in layer.mlps)
