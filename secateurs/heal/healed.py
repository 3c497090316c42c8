"""What healing reports, in a file of its own, so that code which only passes it on imports no more."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Refit:
    """A site and the share of its targets' energy that it misses: cut, and then refitted (ridge.missed).

    Both are of the refit alone, on the healing text; reconstruction, where it follows, goes further.
    """

    layer: int
    site: str
    before: float
    after: float


@dataclass(frozen=True)
class TokensHealed:
    """What the training did: steps, rows trained, and the loss on left-out text before and after, in nats per
    token of the cut vocabulary. Where it is not lower after, the weights are those from before."""

    steps: int
    rows: int
    before: float
    after: float


@dataclass(frozen=True)
class Healed:
    """What healing did.

    method: the one whose refits the model has. divergences: where there was a choice, of each method mean
    KL(dense || pruned) in nats per token on text left out of the refits; otherwise empty. refits: those that
    the model has, in the order of the sites. tokens: what the training of rows did, if any.
    """

    method: str
    divergences: Mapping[str, float]
    refits: tuple[Refit, ...] = field(default=(), compare=False)
    tokens: TokensHealed | None = None
