"""Reconstruction of a pruned decoder layer: its weights trained, alone, to give what the dense layer gave.

Closed-form healing refits one projection at a time and can only mix what the kept channels already compute.
Training the whole layer against its dense original goes further, still one layer at a time and without
labels. (Block-wise reconstruction, after BRECQ, Li et al. 2021, where it serves quantisation.)
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from stages.common.errors import InputError
from stages.pruning.offloading import Offloading
from stages.pruning.optimizer import adamw, share_of_peak
from stages.pruning.parallel import size, total
from stages.pruning.precision import tensor_cores
from stages.pruning.settings import Reconstruction

# Share of the steps that lead up to the learning rate's peak.
WARMUP = 0.15


def reconstruct(
    layer: nn.Module,
    run: Callable[[Tensor], Tensor],
    inputs: Sequence[Tensor],
    targets: Sequence[Tensor],
    weights: Sequence[float],
    offloading: Offloading,
    settings: Reconstruction,
    seed: int,
) -> None:
    """Train all weights of `layer` in place so that run(input) comes near to the target.

    inputs: the pruned stream [batch, tokens, d] before the layer, targets: the dense stream after it, both
    as `offloading` stores them; run: the layer's call; weights: how much the tokens of each batch count.
    Minimised is the mean over tokens of ||run(input) - target||^2 / ||target||^2, by AdamW, with warm-up and
    cosine decay, on batches in an order that `seed` fixes. The length of its target
    divides a token's error, for a few tokens of enormous length would be all that counts otherwise.

    Weights are trained in float32, with matrices multiplied in TF32, and go back to their dtype;
    half-precision layers compute under autocast.
    In a process group gradients add up and all end with the same weights; steps are then made of other
    batches than in one process. Raises InputError where training leaves a weight that is not finite.
    """
    stored = [weight.dtype for weight in layer.parameters()]
    trained = list(layer.float().parameters())
    half = next((dtype for dtype in stored if dtype != torch.float32), None)
    # The same in every process, whatever its share of the text, and in one of them at least a batch each.
    sequences, batches = (int(count) for count in total(torch.tensor([sum(map(len, inputs)), len(inputs)])))
    steps = min(math.ceil(sequences / settings.batch_size), max(1, batches // size()))
    optimizer = adamw(trained, settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: share_of_peak(step, settings.epochs * steps, WARMUP)
    )
    order = torch.Generator().manual_seed(seed)
    casting = torch.autocast(offloading.device.type, half, enabled=half is not None)
    with torch.enable_grad(), casting, tensor_cores():
        for weight in trained:
            weight.requires_grad_(True)
        for _ in range(settings.epochs):
            drawn = torch.randperm(len(inputs), generator=order).tolist()
            rows = offloading.fetch([inputs[n] for n in drawn], [targets[n] for n in drawn])
            for numbers in _groups(drawn, steps):
                tokens = torch.zeros((), device=offloading.device)
                for number in numbers:
                    entering, target = next(rows)
                    error = _relative_error(run(entering), target).sum() * weights[number]
                    error.backward()
                    tokens += weights[number] * target[..., 0].numel()
                _step(trained, optimizer, total(tokens))
                schedule.step()
    for weight, dtype in zip(trained, stored, strict=True):
        weight.requires_grad_(False)
        weight.data = weight.data.to(dtype)
        if not bool(weight.isfinite().all()):
            raise InputError(
                f"surgery.reconstruct.learning_rate: {settings.learning_rate}: a layer's weights are not "
                "finite after training; use a lower rate"
            )


def _relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Squared error of each token beside its target's squared length, float32 [batch, tokens]."""
    wanted = target.float()
    return (output.float() - wanted).square().sum(-1) / wanted.square().sum(-1).clamp_min(1e-6)


def _groups(drawn: list[int], count: int) -> list[list[int]]:
    """`drawn` in `count` runs of nearly equal length, which may be empty."""
    bounds = [round(len(drawn) * number / count) for number in range(count + 1)]
    return [drawn[start:end] for start, end in pairwise(bounds)]


def _step(trained: list[nn.Parameter], optimizer: torch.optim.Optimizer, tokens: Tensor) -> None:
    for weight in trained:
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        weight.grad = total(gradient) / tokens
    optimizer.step()
    optimizer.zero_grad()
