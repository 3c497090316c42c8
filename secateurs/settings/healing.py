"""The settings of healing and what it reports, in a file of their own, so that code which only passes them on
imports no more."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Reconstruction:
    """The training of each layer against its dense original.

    epochs: passes over the healing text for each layer. learning_rate: at its peak. batch_size: sequences of
    a step, which is made of whole batches of the surgery.
    """

    epochs: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True)
class Healing:
    """How the output projections of cut sites are refitted.

    method: `none`, one of heal.methods.METHODS, or `auto`, which chooses among those. alpha: the fraction of
    the residual stream's error that a refit corrects. ridge: see ridge.ridge_refit. reconstruction: optional
    training of each cut layer after its refits, which needs the method `residual`.
    """

    method: str
    alpha: float
    ridge: float
    reconstruction: Reconstruction | None = None


@dataclass(frozen=True)
class Refit:
    """A site and the share of its targets' energy that it misses: cut, and then refitted (healing.missed).

    Both are of the refit alone, on the healing text; reconstruction, where it follows, goes further.
    """

    layer: int
    site: str
    before: float
    after: float


@dataclass(frozen=True)
class Healed:
    """What healing did.

    method: the one whose refits the model has. divergences: where there was a choice, of each method mean
    KL(dense || pruned) in nats per token on text left out of the refits; otherwise empty. refits: those that
    the model has, in the order of the sites.
    """

    method: str
    divergences: Mapping[str, float]
    refits: tuple[Refit, ...] = field(default=(), compare=False)
