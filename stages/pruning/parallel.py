"""Data-parallel work: each process of a torchrun group takes a share of the sequences, and sums add up.

Without a group everything here is the identity, so one road serves one process and many.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def size() -> int:
    """Processes at work; 1 without a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(rows: Tensor) -> Tensor:
    """This process's rows: every `size()`-th one. Shares differ by at most one row and may be empty."""
    return rows[dist.get_rank() :: size()] if dist.is_initialized() else rows


def total(values: Tensor) -> Tensor:
    """The sum of `values` over all processes, the same bits in each of them; shape and device kept."""
    if not dist.is_initialized():
        return values
    summed = values.to(_device())
    dist.all_reduce(summed)
    return summed.to(values.device)


def from_first(values: Tensor) -> Tensor:
    """The first process's `values` in every process."""
    if not dist.is_initialized():
        return values
    shared = values.to(_device()).contiguous()
    dist.broadcast(shared, src=0)
    return shared.to(values.device)


def _device() -> torch.device:
    # NCCL only moves what is on an accelerator, Gloo what is in host memory.
    cuda = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
