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
        state = optimizer.state[weight]
        tensors[f"weight/{name}"] = weight.detach()
        tensors[f"first/{name}"], tensors[f"second/{name}"] = state["exp_avg"], state["exp_avg_sq"]
    return Snapshot(course, tensors)


def restore(
    weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, snapshot: Snapshot
) -> dict[str, Tensor]:
    """Put weights and optimizer back as they were; return the weights of the best check."""
    state = {}
    for number, (name, weight) in enumerate(weights.items()):
        weight.data.copy_(like(snapshot.tensors[f"weight/{name}"], weight))
        state[number] = {
            "step": torch.tensor(float(len(snapshot.course.losses))),
            "exp_avg": like(snapshot.tensors[f"first/{name}"], weight),
            "exp_avg_sq": like(snapshot.tensors[f"second/{name}"], weight),
        }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return {name: like(snapshot.tensors[f"best/{name}"], weight) for name, weight in weights.items()}
