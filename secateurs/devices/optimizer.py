"""The optimizer of all training here, AdamW, and the schedule of its learning rate."""

import importlib
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from secateurs.errors import SettingError

# Decay of the running means of the gradient and of its square. The second decays faster than the usual 0.999
# because runs are short.
BETAS = (0.9, 0.95)
# A version that was tried.
EIGHT_BIT = "bitsandbytes==0.50.2"


def adamw(weights: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay, because pruned weights should not be drawn towards zero."""
    return torch.optim.AdamW(weights, lr=learning_rate, betas=BETAS, weight_decay=0.0)


def optimizer_of(name: str, weights: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """AdamW as above, its two means in float32, or in 8 bits by blocks of 256 (bitsandbytes).

    Tensors of fewer than 4,096 numbers keep means in float32. Raises SettingError as check_optimizer does.
    """
    if name == "adamw":
        return adamw(weights, learning_rate)
    check_optimizer(name)
    library: Any = importlib.import_module("bitsandbytes.optim")
    made: torch.optim.Optimizer = library.AdamW8bit(weights, lr=learning_rate, betas=BETAS, weight_decay=0.0)
    return made


def check_optimizer(name: str) -> None:
    """Raise SettingError where the library of an optimizer is missing, or does not load."""
    if name == "adamw":
        return
    try:
        importlib.import_module("bitsandbytes.optim")
    # What it loads its compiled part with says so in its own way.
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise SettingError(
            f"recover.optimizer: {name}: needs bitsandbytes, which cannot be imported ({error}); "
            f"`python -m pip install {EIGHT_BIT}`, or set it to adamw"
        ) from None


def scheduled(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> LambdaLR:
    """The schedule of learning_rate_factor, whose `step` is called after each of the optimizer's."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, warmup))


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
