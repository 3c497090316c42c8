"""Where products of float32 matrices need not be exact to the last bit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tensor_cores() -> Iterator[None]:
    """Multiply float32 matrices in TF32 on CUDA: 10 bits of mantissa, several times as fast."""
    if not torch.cuda.is_available():
        # On a CPU the same setting would choose kernels that differ from one processor to another.
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
