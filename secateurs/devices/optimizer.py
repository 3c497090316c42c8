"""The optimizer of all training here, AdamW, and the schedule of its learning rate."""

import math
from collections.abc import Iterable

import torch
from torch import nn

# Decay of the running means of the gradient and of its square. The second decays faster than the usual 0.999
# because runs are short.
BETAS = (0.9, 0.95)


def adamw(weights: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay, because pruned weights should not be drawn towards zero."""
    return torch.optim.AdamW(weights, lr=learning_rate, betas=BETAS, weight_decay=0.0)


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then cosine decay: what the peak learning rate is multiplied by at a step.

        (step + 1) / rising                                       while step < rising = round(warmup * steps)
        (1 + cos(pi * (step - rising) / (steps - rising))) / 2    after that

    step: 0, 1, ... steps - 1. warmup: the fraction of the steps over which the rate rises.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
