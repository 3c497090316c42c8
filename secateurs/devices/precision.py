"""Where products of float32 matrices need not be exact to the last bit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


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


def half_product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right in float32: [m, t] @ [t, n].

    On CUDA half-precision factors are read as they are, and their products, which float32 holds without loss,
    are added up in float32; that takes half the time of TF32. Elsewhere they are made float32 first.
    """
    if left.device.type == "cuda" and left.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


def product_with_half(wide: Tensor, half: Tensor) -> Tensor:
    """wide @ half in float32: float32 [m, t] @ [t, n].

    On CUDA a bfloat16 `half` is read as it is, and `wide` as the sum of two bfloat16 matrices, which hold 16
    bits of its mantissa. TF32 takes as long, holds 10 bits, and asks for a float32 copy of `half`.
    """
    if half.device.type == "cuda" and half.dtype == torch.bfloat16:
        high = wide.to(torch.bfloat16)
        low = (wide - high).to(torch.bfloat16)
        return half_product(high, half) + half_product(low, half)
    return wide @ half.float()
