import pytest
import torch

from secateurs.kinds.statistics import ChannelSums


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_of_half_precision_are_those_of_float64_but_for_rounding(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(3, 400, 16, generator=generator).to(dtype) for _ in range(2))
    # The gradients of a mean loss are small; float16 would lose digits of products with them.
    gradient = 2.0**-16 * gradient
    sums = ChannelSums(16, gradients=True)
    sums.add_activations(x)
    sums.add_gradients(x, gradient)
    found = sums.statistics(1200, 3)
    product = x.double() * gradient.double()
    assert torch.allclose(found["taylor"], product.square().mean((0, 1)).float(), rtol=1e-3)
    # Terms of both signs: what is lost to rounding is small against the largest sums.
    expected = product.sum(1).square().mean(0).float()
    assert torch.allclose(found["fisher"], expected, rtol=1e-2, atol=1e-2 * float(expected.mean()))
