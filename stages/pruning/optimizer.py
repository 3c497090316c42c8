"""How weights are trained where they are trained at all: AdamW, and the course of its learning rate."""

import math
from collections.abc import Iterable

import torch
from torch import nn

# Of the running means of the gradient and its square. The second forgets faster than usual: runs are short.
BETAS = (0.9, 0.95)


def adamw(weights: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """Without weight decay, for zero is not where the weights of a pruned model should be drawn to."""
    return torch.optim.AdamW(weights, lr=learning_rate, betas=BETAS, weight_decay=0.0)


def share_of_peak(step: int, steps: int, warmup: float) -> float:
    """The learning rate at step 0, 1, ... of `steps`, as a share of its peak.

    A straight line up to the peak over the share `warmup` of the steps, then half a cosine to nearly zero.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
