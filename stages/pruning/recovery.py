"""Recovery of a pruned model: a short distillation from the dense one, over the calibration text."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.common.errors import InputError
from stages.pruning.divergence import divergences
from stages.pruning.optimizer import adamw, learning_rate_factor
from stages.pruning.precision import tensor_cores


@dataclass(frozen=True)
class Training:
    """The settings of a recovery.

    steps: updates of the weights. batch_size: sequences of a step. micro_batch_size: how many of them run at
    once; their gradients are added up. learning_rate: at its peak. warmup: the fraction of the steps over
    which it rises to the peak. clip: the largest norm of a gradient. seed: of the order of the sequences.
    """

    steps: int
    batch_size: int
    micro_batch_size: int
    learning_rate: float
    warmup: float
    clip: float
    seed: int


@dataclass(frozen=True)
class Snapshot:
    """Everything that the steps after a point depend on.

    losses: the mean divergence of each step so far. tensors: float32 by `<part>/<parameter>`: its weight and
    both running means of the optimizer. The order of the sequences and the learning rate are not in it,
    because they follow from the settings and the number of the step.
    """

    losses: tuple[float, ...]
    tensors: Mapping[str, Tensor]


def recover(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    sequences: Mapping[str, Tensor],
    mixture: Mapping[str, float],
    training: Training,
    *,
    autocast: torch.dtype | None,
    snapshot: Snapshot | None,
    on_step: Callable[[Callable[[], Snapshot]], object],
) -> list[float]:
    """Train `student` (float32) in place to give the next-token distributions of `teacher`.

        loss = KL(teacher || student), the mean over a step's tokens, minimised by AdamW

    sequences: int64 [count, tokens] by domain, drawn in the proportions of `mixture`. Both models are on one
    device, in evaluation mode (no dropout). `autocast` is the dtype in which the student multiplies matrices,
    None for float32 (TF32 on CUDA). With a `snapshot` of the same run, the run goes on from there, on the CPU
    to the same bits as without the stop. `on_step` is called after each step with a function that takes a
    snapshot.

    Returns the mean divergence of every step, in nats. Raises InputError when it is not finite.
    """
    weights = trainable(student)
    optimizer = adamw(weights.values(), training.learning_rate)
    losses = list(snapshot.losses) if snapshot is not None else []
    if snapshot is not None:
        _restore(weights, optimizer, snapshot)
    counts = {domain: len(rows) for domain, rows in sequences.items()}
    drawn = draws(counts, mixture, training.steps * training.batch_size, training.seed)
    for weight in weights.values():
        weight.requires_grad_(True)
    try:
        for step in range(len(losses), training.steps):
            chosen = drawn[step * training.batch_size : (step + 1) * training.batch_size]
            batch = torch.stack([sequences[domain][row] for domain, row in chosen]).to(student.device)
            loss = _backward(student, teacher, batch, training.micro_batch_size, autocast)
            if not math.isfinite(loss):
                raise InputError(
                    f"params.yaml: recover.learning_rate: {training.learning_rate:g}: the loss is {loss} "
                    f"at step {step + 1}; choose a smaller one"
                )
            nn.utils.clip_grad_norm_(weights.values(), training.clip)
            for group in optimizer.param_groups:
                factor = learning_rate_factor(step, training.steps, training.warmup)
                group["lr"] = training.learning_rate * factor
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss)
            on_step(lambda: _snapshot(weights, optimizer, losses))
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
    return losses


def trainable(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name: the decoder layers' and the final norm's.

    Embeddings and head stay as they are. Pruning left them alone, so they still are the dense model's; and
    the calibration text holds a small part of the vocabulary, while AdamW would move the rows of all
    other tokens as fast, on hardly any gradient. Where the two are tied, they stay so.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    frozen = {id(parameter) for module in ends for parameter in module.parameters()}
    return {name: one for name, one in model.named_parameters() if id(one) not in frozen}


def draws(
    counts: Mapping[str, int], mixture: Mapping[str, float], total: int, seed: int
) -> list[tuple[str, int]]:
    """`total` sequences in the order in which they are trained on: (domain, row).

    counts: how many sequences each domain has. After any number of draws each domain was drawn in proportion
    to `mixture`, to within one sequence. Its rows are shuffled again each time all were drawn. The same seed
    gives the same order.
    """
    weight = {domain: mixture[domain] for domain in counts if mixture[domain] > 0}
    whole = sum(weight.values())
    generator = torch.Generator().manual_seed(seed)
    taken = dict.fromkeys(weight, 0)
    waiting: dict[str, list[int]] = {domain: [] for domain in weight}
    order = []
    for number in range(1, total + 1):
        # The domain that is furthest behind its proportion.
        domain = max(weight, key=lambda name: number * weight[name] / whole - taken[name])
        if not waiting[domain]:
            waiting[domain] = torch.randperm(counts[domain], generator=generator).tolist()
        order.append((domain, waiting[domain].pop()))
        taken[domain] += 1
    return order


def _backward(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batch: Tensor,
    micro_batch_size: int,
    autocast: torch.dtype | None,
) -> float:
    """Add the gradient of the batch's mean divergence to the student's; return that mean."""
    total = torch.zeros((), device=batch.device)
    with tensor_cores():
        for part in batch.split(micro_batch_size):
            with _casting(batch.device, autocast):
                loss = divergences(student, teacher, part).sum() / len(batch)
            loss.backward()
            total += loss.detach()
    return float(total)


def _casting(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _snapshot(
    weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, losses: list[float]
) -> Snapshot:
    tensors = {}
    for name, weight in weights.items():
        state = optimizer.state[weight]
        tensors[f"weight/{name}"] = weight.detach()
        tensors[f"first/{name}"], tensors[f"second/{name}"] = state["exp_avg"], state["exp_avg_sq"]
    return Snapshot(tuple(losses), tensors)


def _restore(
    weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, snapshot: Snapshot
) -> None:
    state = {}
    for number, (name, weight) in enumerate(weights.items()):
        weight.data.copy_(snapshot.tensors[f"weight/{name}"])
        state[number] = {
            "step": torch.tensor(float(len(snapshot.losses))),
            "exp_avg": snapshot.tensors[f"first/{name}"],
            "exp_avg_sq": snapshot.tensors[f"second/{name}"],
        }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
