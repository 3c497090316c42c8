"""What is observed of each expert of a mixture, and the scores that come of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.parallel import summed
from secateurs.kinds.importance import taken
from secateurs.kinds.kind import Metric, Observer, Statistics


def _per_routed_token(_: int, statistics: Statistics, __: torch.Generator) -> Tensor:
    """mean over the tokens routed to expert j of g_j ||f_j(x)||_2: REAP (arXiv 2510.13999); 0 without any.

    g: the gate as the model applies it, f_j(x): what the expert gives.
    """
    share = statistics["routed"].double()
    return torch.where(share > 0, statistics["given"].double() / share, 0.0)


METRICS: Mapping[str, Metric] = {
    "reap": _per_routed_token,
    "frequency": lambda _, statistics, __: statistics["routed"].double(),
    "fisher": lambda _, statistics, __: taken(statistics, "fisher"),
    "taylor": lambda _, statistics, __: taken(statistics, "taylor"),
    "random": lambda units, _, generator: torch.rand(units, generator=generator, dtype=torch.float64),
}


class ExpertsObserver(Observer):
    """Sums over tokens of ||y_j||, of whether they are routed to j, and of (y_j . g)^2, and over sequences of
    (sum over tokens of y_j . g)^2.

    y_j: what expert j adds to the stream, its gate in it, [tokens, d]; g: the gradient at y_j of each
    sequence's own mean loss.
    """

    def __init__(self, model: PreTrainedModel, experts: Sequence[nn.Module], gradients: bool) -> None:
        self.gradients, self.sequences = gradients, 1
        self.sums = torch.zeros(4 if gradients else 2, len(experts), dtype=torch.float64)
        self.before = [(model.get_input_embeddings(), self._enter)]
        self.after = [(expert, self._adding(number)) for number, expert in enumerate(experts)]

    def _enter(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.sequences = len(inputs[0])

    def _adding(self, number: int) -> Any:
        def add(_: nn.Module, inputs: tuple[Tensor, Tensor], given: Tensor) -> None:
            # Under checkpointing a layer runs twice, the first time without a graph: it is not counted.
            if self.gradients and not given.requires_grad:
                return
            added, sums = given.detach(), self._on_device_of(given)
            sums[0, number] += torch.linalg.vector_norm(added, dim=-1, dtype=torch.float32).sum()
            sums[1, number] += inputs[1].ne(0).sum()
            if self.gradients:
                given.register_hook(lambda gradient: self._add(number, added, gradient))

        return add

    def _add(self, number: int, added: Tensor, gradient: Tensor) -> None:
        product, sums = (added.float() * gradient).sum(dim=-1), self._on_device_of(added)
        sums[2, number] += product.square().sum()
        sums[3, number] += product.view(self.sequences, -1).sum(dim=1).square().sum()

    def _on_device_of(self, x: Tensor) -> Tensor:
        """The sums where they are added to, so that no batch waits for the host; MPS has no float64."""
        if self.sums.device != x.device:
            self.sums = self.sums.to(x.device, torch.float32 if x.device.type == "mps" else torch.float64)
        return self.sums

    def statistics(self, tokens: int, sequences: int) -> dict[str, Tensor]:
        """Means over tokens, and of `fisher` over sequences, float32 [experts]."""
        given, routed, *others = summed(self.sums.cpu().double())
        means = {"given": (given / tokens).float(), "routed": (routed / tokens).float()}
        if self.gradients:
            means |= {"taylor": (others[0] / tokens).float(), "fisher": (others[1] / sequences).float()}
        return means
