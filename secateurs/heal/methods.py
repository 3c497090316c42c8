"""Ways of healing: what the refit of an output projection W is held against, an object for each way.

`auto` (layers.py) chooses among the METHODS registered here, by text that no refit has read.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from secateurs.heal.watching import Watched


@dataclass(frozen=True)
class Method(ABC):
    """A way of healing.

    name: as in `surgery.heal`. dense: whether the dense model's residual stream runs beside the pruned one.
    beside: whether its refit can be made from the sums of another method's, with those of what the removed
    channels gave (ridge.both_refits). alpha: the fraction of the residual stream's error that a refit
    corrects, of the methods that correct it.
    """

    name: ClassVar[str]
    dense: ClassVar[bool]
    beside: ClassVar[bool] = False
    alpha: float

    @abstractmethod
    def target(self, dense: Watched) -> Tensor:
        """What is kept of the dense stream at a sublayer, float32 [batch, tokens, d]."""

    @abstractmethod
    def goal(self, pruned: Watched, target: Tensor | None) -> Tensor:
        """What W x should be on the pruned stream, [batch, tokens, d]; target: as `target` made it."""


class LeastSquares(Method):
    """Each projection gives again what it gave on the same input before the cut: goal = W x."""

    name = "least_squares"
    dense = False
    beside = True

    def target(self, dense: Watched) -> Tensor:
        """Never asked."""
        raise AssertionError("no dense stream runs beside least squares")

    def goal(self, pruned: Watched, target: Tensor | None) -> Tensor:
        """W x, the uncut projection's own output."""
        return pruned.output


class Residual(Method):
    """Each projection also corrects a fraction of the error that the stream h has gathered.

    goal = W x_dense + alpha (h_dense - h_pruned)
    """

    name = "residual"
    dense = True

    def target(self, dense: Watched) -> Tensor:
        """result + alpha h."""
        # float32, because the difference of two streams is far smaller than either of them.
        if dense.entering is None:
            return dense.result.float()
        return dense.result.float() + self.alpha * dense.entering.float()

    def goal(self, pruned: Watched, target: Tensor | None) -> Tensor:
        """As Watched.goal has it, which divides the error of a block of experts among them."""
        assert target is not None, "residual is given the dense stream's targets"
        return pruned.goal(target, self.alpha)


METHODS: Mapping[str, type[Method]] = {method.name: method for method in (LeastSquares, Residual)}
