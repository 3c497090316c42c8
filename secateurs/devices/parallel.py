"""Data-parallel work: each process of a torchrun group reads some of the sequences; sums are over all.

Without a group everything here is the identity, so the same code serves one process and many.
"""

import math
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes are at work; 1 without a group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_rows(rows: Tensor) -> Tensor:
    """The rows that this process reads: with n processes, every n-th row from its own number on.

    Processes differ by at most one row, and one may have none.
    """
    return rows[dist.get_rank() :: processes()] if dist.is_initialized() else rows


def summed(values: Tensor) -> Tensor:
    """The sum of `values` over all processes, the same bits in each of them; shape and device kept."""
    return summing(values)()


def summing(values: Tensor) -> Callable[[], Tensor]:
    """Begin to sum `values` over all processes; the result waits for the sum and returns it.

    In the meantime this process goes on. `values` may hold anything from now on.
    """
    if not dist.is_initialized():
        return lambda: values
    reduced = values.to(_device())
    work = dist.all_reduce(reduced, async_op=True)

    def whole() -> Tensor:
        work.wait()
        return reduced.to(values.device)

    return whole


def from_owners(rows: Tensor, count: int) -> Tensor:
    """The rows of all processes, `count` in all, each where own_rows took it from; the same in each process.

    rows: [own, n]; the result is [count, n].
    """
    if not dist.is_initialized():
        return rows
    most = math.ceil(count / processes())
    own = rows.to(_device()).contiguous()
    if len(own) < most:
        own = torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])
    shares = own.new_empty(processes(), *own.shape)
    dist.all_gather(list(shares), own)
    return shares.transpose(0, 1).flatten(0, 1)[:count].to(rows.device)


def _device() -> torch.device:
    # NCCL only moves what is on an accelerator, Gloo what is in host memory.
    cuda = dist.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
