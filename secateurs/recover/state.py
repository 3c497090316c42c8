"""What the steps of a training depend on: taken as a snapshot, and put back."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from secateurs.recover.rollouts import to_tensor
from secateurs.recover.sharding import like
from secateurs.recover.training import Answer, Course, Snapshot


def copies(weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Copies of what is trained, by name."""
    return {name: weight.detach().clone() for name, weight in weights.items()}


def take_snapshot(
    weights: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    course: Course,
    answers: Sequence[Answer],
) -> Snapshot:
    """All that the steps to come depend on; its tensors are views of what is trained."""
    tensors = {"answers": to_tensor(answers)} | {f"best/{name}": weight for name, weight in best.items()}
    for name, weight in weights.items():
        tensors[f"weight/{name}"] = weight.detach()
        tensors |= {f"{part}/{name}": mean for part, mean in _means(optimizer, weight).items()}
    return Snapshot(course, tensors)


def restore(
    weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, snapshot: Snapshot
) -> dict[str, Tensor]:
    """Put weights and optimizer back as they were; return the weights of the best check."""
    # A step at a rate of 0 without a gradient: every optimizer then has what it remembers.
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    made = len(snapshot.course.losses)
    for name, weight in weights.items():
        weight.data.copy_(like(snapshot.tensors[f"weight/{name}"], weight))
        state = optimizer.state[weight]
        state["step"] = torch.tensor(float(made)) if isinstance(state["step"], Tensor) else made
        for part, mean in _means(optimizer, weight).items():
            mean.copy_(like(snapshot.tensors[f"{part}/{name}"], weight))
    return {name: like(snapshot.tensors[f"best/{name}"], weight) for name, weight in weights.items()}


def _means(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> dict[str, Tensor]:
    """What an optimizer remembers of a weight, by its own names; not the steps, nor tables of values."""
    state = optimizer.state[weight]
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and name != "step" and not name.startswith("qmap")
    }
