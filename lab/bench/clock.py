"""Seconds and peak memory of a piece of work, and the speed that the machine could have at best."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.benchmark import Timer
from transformers import PreTrainedModel

from lab.bench.shapes import head_weights
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.decoder import decoder_layers

GIB = 2**30


@dataclass(frozen=True)
class Timing:
    """seconds of wall time; peak_gib: the most that the accelerator's allocator held, 0 on a CPU."""

    seconds: float
    peak_gib: float


def timed(device: torch.device, work: Callable[[], object]) -> Timing:
    """Run once, from an idle device to an idle device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
    return Timing(time.perf_counter() - start, peak)


def matmul_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large square matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    timer = Timer("left @ right", globals={"left": left, "right": right}, num_threads=torch.get_num_threads())
    return 2.0 * n**3 / timer.blocked_autorange(min_run_time=1.0).median


def forward_operations(model: PreTrainedModel, tokens: int, head: float = 1.0) -> float:
    """Operations per token of a forward pass over sequences of `tokens`, causal attention counted half.

    head: the fraction of the tokens that the head runs on.
    """
    unused = (1 - head) * head_weights(model)
    return 2 * (macs_per_token(model) - unused) + _attention(model, tokens)


def backward_operations(model: PreTrainedModel, tokens: int) -> float:
    """The same of forward and backward with frozen weights: linear layers twice, attention 3.5 times."""
    return 2 * forward_operations(model, tokens) + 1.5 * _attention(model, tokens)


def _attention(model: PreTrainedModel, tokens: int) -> float:
    config = model.config
    width: int = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    return 2.0 * tokens * width * len(decoder_layers(model))
