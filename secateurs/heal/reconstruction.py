"""Reconstruction of a pruned decoder layer: it is trained, alone, to give what the dense layer gave.

Closed-form healing refits one projection at a time and can only mix what the kept channels already compute.
Training the whole layer against its dense original goes further, still one layer at a time and without
labels. (Block-wise reconstruction, after BRECQ, Li et al. 2021, where it serves quantisation.)
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from secateurs.devices.offloading import Offloading
from secateurs.devices.optimizer import adamw, scheduled
from secateurs.devices.parallel import processes, summed
from secateurs.devices.precision import tensor_cores
from secateurs.errors import InputError
from secateurs.heal.residual_streams import Streams
from secateurs.settings.pruning import Reconstruct

# Fraction of the steps over which the learning rate rises to its peak.
WARMUP = 0.15


def reconstruct(
    layer: nn.Module,
    run: Callable[[Tensor], Tensor],
    streams: Streams,
    offloading: Offloading,
    settings: Reconstruct,
    seed: int,
) -> None:
    """Train all weights of `layer` in place: from the pruned stream it shall give what the dense layer gave.

        loss = sum_t w_t ||run(pruned_t) - dense_t||^2 / ||dense_t||^2  /  sum_t w_t,  over a step's tokens t

    run: the layer's call, [batch, tokens, d] -> [batch, tokens, d]. streams: the pruned stream before the
    layer, the dense stream after it, and the weight w of each batch's tokens. Errors are relative to the
    length of the target, because otherwise a few tokens of enormous length would be all that counts.

    The optimizer is AdamW, with warm-up and cosine decay, on batches in an order that `seed` fixes. Weights
    are trained in float32, with matrices multiplied in TF32, and go back to their dtype; half-precision
    layers compute under autocast. In a process group gradients are summed and all processes end with the
    same weights, though not with those of one process, because steps are made of other batches. Raises
    InputError where training leaves a weight that is not finite.
    """
    inputs, targets = streams.pruned, streams.dense
    stored = [weight.dtype for weight in layer.parameters()]
    trained = list(layer.float().parameters())
    half = next((dtype for dtype in stored if dtype != torch.float32), None)
    # The same number in every process, however much text it reads; with one process a batch a step at least.
    sequences, batches = (int(count) for count in summed(torch.tensor([sum(map(len, inputs)), len(inputs)])))
    steps = min(math.ceil(sequences / settings.batch_size), max(1, batches // processes()))
    optimizer = adamw(trained, settings.learning_rate)
    schedule = scheduled(optimizer, settings.epochs * steps, WARMUP)
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
                    error = _relative_error(run(entering), target).sum() * streams.weights[number]
                    error.backward()
                    tokens += streams.weights[number] * target[..., 0].numel()
                _step(trained, optimizer, summed(tokens))
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
    """||output - target||^2 / ||target||^2 of each token, float32 [batch, tokens]."""
    dense = target.float()
    return (output.float() - dense).square().sum(-1) / dense.square().sum(-1).clamp_min(1e-6)


def _groups(drawn: list[int], count: int) -> list[list[int]]:
    """`drawn` cut into `count` consecutive parts of nearly equal length, which may be empty."""
    bounds = [round(len(drawn) * number / count) for number in range(count + 1)]
    return [drawn[start:end] for start, end in pairwise(bounds)]


def _step(trained: list[nn.Parameter], optimizer: torch.optim.Optimizer, tokens: Tensor) -> None:
    for weight in trained:
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        weight.grad = summed(gradient) / tokens
    optimizer.step()
    optimizer.zero_grad()
