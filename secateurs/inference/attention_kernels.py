"""Which kernels attention may run on, where its shapes keep changing."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.attention import SDPBackend, sdpa_kernel

WITHOUT_PLANS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@contextmanager
def many_shapes() -> Iterator[None]:
    """In the context attention does without cuDNN, which makes a plan for every shape that it has not seen.

    A plan takes longer than a whole step of a model that writes, and each step has another shape.
    """
    with sdpa_kernel(WITHOUT_PLANS):
        yield
