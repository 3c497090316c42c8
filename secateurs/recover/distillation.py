"""Recovery of a pruned model: a short distillation from the dense one."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.optimizer import adamw, learning_rate_factor
from secateurs.devices.precision import tensor_cores
from secateurs.errors import InputError, SettingError
from secateurs.inference.divergence import divergences
from secateurs.recover.scales import scaled
from secateurs.recover.training import Check, Course, Snapshot, Texts
from secateurs.settings.recovery import Training


def recover(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    texts: Texts,
    training: Training,
    *,
    autocast: torch.dtype | None,
    snapshot: Snapshot | None,
    on_step: Callable[[Callable[[], Snapshot]], object],
) -> Course:
    """Train `student` (float32) in place to give the next-token distributions of `teacher`.

        loss = KL(teacher || student), the mean over a step's tokens, minimised by AdamW

    Every `training.check_every` steps, and at the last, the same divergence is taken of the left-out texts,
    a domain counting its part of the mixture; the student ends with the weights of the check where it was
    lowest, which are its first ones where no training lowered it.

    Both models are on one device, in evaluation mode (no dropout). `autocast` is the dtype in which the
    student multiplies matrices, None for float32 (TF32 on CUDA). With a `snapshot` of the same run, the run
    goes on from there, on the CPU to the same bits as without the stop. `on_step` is called after each step
    with a function that takes a snapshot. Raises InputError where a divergence is not finite.
    """
    counts = {domain: len(rows) for domain, rows in texts.trained.items()}
    mixture = texts.mixture
    drawn = draws(counts, mixture, training.steps * training.batch_size, training.seed)

    def check(steps: int) -> Check:
        found = left_out_divergences(student, teacher, texts.left_out, training.micro_batch_size, autocast)
        whole = sum(mixture[domain] for domain in found)
        mean = sum(mixture[domain] * value for domain, value in found.items()) / whole
        return Check(steps, mean, found)

    with _trained(student, training.weights) as weights:
        optimizer = adamw(weights.values(), training.learning_rate)
        if snapshot is None:
            course, best = Course((), (check(0),)), _copies(weights)
            if not math.isfinite(course.best.divergence):
                raise InputError(
                    f"recover: the divergence from the dense model is {course.best.divergence} before any "
                    "training; use compute.dtype: float32"
                )
        else:
            course, best = snapshot.course, _restore(weights, optimizer, snapshot)
        while not course.ended(training):
            step = len(course.losses)
            chosen = drawn[step * training.batch_size : (step + 1) * training.batch_size]
            batch = torch.stack([texts.trained[domain][row] for domain, row in chosen]).to(student.device)
            loss = _backward(student, teacher, batch, training.micro_batch_size, autocast)
            _check_finite(loss, step, training)
            nn.utils.clip_grad_norm_(weights.values(), training.clip)
            for group in optimizer.param_groups:
                factor = learning_rate_factor(step, training.steps, training.warmup)
                group["lr"] = training.learning_rate * factor
            optimizer.step()
            optimizer.zero_grad()
            course = replace(course, losses=(*course.losses, loss))
            if (step + 1) % training.check_every == 0 or step + 1 == training.steps:
                course = replace(course, checks=(*course.checks, check(step + 1)))
                _check_finite(course.checks[-1].divergence, step, training)
                if course.best.steps == step + 1:
                    best = _copies(weights)
            on_step(partial(_snapshot, weights, best, optimizer, course))
        for name, weight in weights.items():
            weight.data.copy_(best[name])
    return course


@torch.no_grad()
def left_out_divergences(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    sequences: Mapping[str, Tensor],
    batch_size: int,
    autocast: torch.dtype | None,
) -> dict[str, float]:
    """Mean KL(teacher || student) in nats per token, by domain.

    sequences: int64 [count, tokens] by domain. Computed as in training: see `recover`.
    """
    found = {}
    with tensor_cores(), _casting(student.device, autocast):
        for domain, rows in sequences.items():
            parts = [
                divergences(student, teacher, part.to(student.device)) for part in rows.split(batch_size)
            ]
            found[domain] = float(torch.cat(parts).mean())
    return found


@contextmanager
def _trained(model: PreTrainedModel, which: str) -> Iterator[dict[str, nn.Parameter]]:
    """In the context the chosen parameters ask for gradients; scales are folded in when it is left."""
    with scaled(model) if which == "scales" else nullcontext(trainable(model)) as weights:
        for weight in weights.values():
            weight.requires_grad_(True)
        try:
            yield weights
        finally:
            for weight in weights.values():
                weight.requires_grad_(False)


def _check_finite(value: float, step: int, training: Training) -> None:
    if not math.isfinite(value):
        raise SettingError(
            f"recover.learning_rate: {training.learning_rate:g}: the loss is {value} "
            f"at step {step + 1}; choose a smaller one"
        )


def trainable(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name: the decoder layers' and the final norm's.

    Embeddings and head stay as they are. Pruning left them alone, so they still are the dense model's; and
    the calibration text holds a small part of the vocabulary, while AdamW would move the rows of all
    other tokens as fast, on hardly any gradient. Where the two are tied, they stay so.
    """
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    frozen = {id(parameter) for module in ends for parameter in module.parameters()}
    return {name: one for name, one in model.named_parameters() if id(one) not in frozen}


def trained_parameters(model: PreTrainedModel, which: str) -> int:
    """How many parameters a recovery trains of a model, which stays as it is."""
    with _trained(model, which) as weights:
        return sum(weight.numel() for weight in weights.values())


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


def _copies(weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _snapshot(
    weights: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    course: Course,
) -> Snapshot:
    tensors = {f"best/{name}": weight for name, weight in best.items()}
    for name, weight in weights.items():
        state = optimizer.state[weight]
        tensors[f"weight/{name}"] = weight.detach()
        tensors[f"first/{name}"], tensors[f"second/{name}"] = state["exp_avg"], state["exp_avg_sq"]
    return Snapshot(course, tensors)


def _restore(
    weights: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, snapshot: Snapshot
) -> dict[str, Tensor]:
    """Put weights and optimizer back as they were; return the weights of the best check."""
    state = {}
    for number, (name, weight) in enumerate(weights.items()):
        weight.data.copy_(snapshot.tensors[f"weight/{name}"])
        state[number] = {
            "step": torch.tensor(float(len(snapshot.course.losses))),
            "exp_avg": snapshot.tensors[f"first/{name}"],
            "exp_avg_sq": snapshot.tensors[f"second/{name}"],
        }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return {name: snapshot.tensors[f"best/{name}"].to(weight.device) for name, weight in weights.items()}
