"""What the method needs to know, and nothing else: no model, no text, no paths."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from secateurs.settings.healing import Healing


@dataclass(frozen=True)
class Memory:
    """What all weights together may take: bytes at a precision, a key of weight_bytes.PRECISIONS."""

    bytes: int
    precision: str


@dataclass(frozen=True)
class Budget:
    """How much goes, and where from. Exactly one of the first three is a target; the others are None.

    sparsity: share of the decoder layers' parameters to remove. parameters: how many the whole model may
    have left. memory: what its weights may take. widths: one width for all layers, or each its own.
    width_multiple: kept mlp widths are multiples of it. floor: the smallest fraction of its units that a
    site keeps. sites: the kinds of site that are pruned.
    """

    sparsity: float | None = 0.2
    widths: Literal["uniform", "per_layer"] = "uniform"
    width_multiple: int = 32
    floor: float = 0.1
    sites: tuple[str, ...] = ("mlp",)
    parameters: int | None = None
    memory: Memory | None = None

    def written(self) -> dict[str, Any]:
        """The budget ready for JSON, without the targets that are not given."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return given | {"sites": list(self.sites)}


@dataclass(frozen=True)
class Capture:
    """How statistics are taken: sequences of each domain in a round, with a backward pass or without.

    checkpointing: recompute activations in the backward pass. batch_size: where the search for one that fits
    in memory starts.
    """

    sequences: int = 5
    gradients: bool = True
    checkpointing: bool = False
    batch_size: int = 2


@dataclass(frozen=True)
class Surgery:
    """How the cut model is healed, and by how many sequences of each domain, in batches of `batch_size`.

    choice_sequences: as many of each domain, after those, make the choice where healing is `auto`.
    """

    healing: Healing = field(default_factory=lambda: Healing("auto", 0.9, 0.15))
    sequences: int = 22
    choice_sequences: int = 2
    batch_size: int = 8


@dataclass(frozen=True)
class Settings:
    """All settings of a pruning; the defaults are those of params.yaml.

    mixture: how much each domain of the text counts; empty: all the same. rounds: the fraction of
    the budget's target reached after each round, by the name of the round, rising to 1. metric: a key of
    pruning.importance.METRICS; seed: of the random metric. device: as `compute.device` of params.yaml.
    """

    mixture: Mapping[str, float] = field(default_factory=dict)
    rounds: Mapping[str, float] = field(default_factory=lambda: {"r1": 0.34, "r2": 0.67, "r3": 1.0})
    metric: str = "taylor"
    seed: int = 0
    budget: Budget = field(default_factory=Budget)
    capture: Capture = field(default_factory=Capture)
    surgery: Surgery = field(default_factory=Surgery)
    device: str = "auto"
