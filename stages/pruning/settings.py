"""The settings of surgery, apart from its code: whoever only passes them on depends on nothing else."""

from dataclasses import dataclass
from typing import Literal

Heal = Literal["none", "least_squares", "residual"]


@dataclass(frozen=True)
class Reconstruction:
    """The training of each layer against its dense original.

    epochs: passes over the healing text for each layer. learning_rate: the peak. batch_size: sequences of a
    step, in whole batches of the surgery.
    """

    epochs: int
    learning_rate: float
    batch_size: int


@dataclass(frozen=True)
class Healing:
    """How the output projections of cut sites are refitted.

    method: see surgery.prune. alpha: share of the stream's error that a refit makes up. ridge: see
    healing.ridge_refit. reconstruction: training of each cut layer after its refits (it needs `residual`),
    None for none.
    """

    method: Heal
    alpha: float
    ridge: float
    reconstruction: Reconstruction | None = None
