"""Streamed sums over the channels of a site, and the means that importance is computed from."""

import torch
from torch import Tensor

from secateurs.devices.parallel import summed

OBSERVED = frozenset({"square", "variance", "taylor", "fisher"})


def expanded(values: Tensor, kept: Tensor) -> Tensor:
    """A vector over what is left -> over everything that the dense model has: what is gone has 0.

    values: [left]; kept: bool [dense], True for what is left.
    """
    places = kept.nonzero()[:, 0]
    return torch.zeros(len(kept), dtype=values.dtype).index_copy_(0, places, values)


class ChannelSums:
    """Running sums of one site, float64 where the device has it (MPS has not), so that neither the order
    nor the size of batches shows in the result beyond float32 rounding.

    They live where the activations are, which a model spread over devices decides.
    """

    def __init__(self, channels: int, gradients: bool) -> None:
        self.sums = torch.zeros(4 if gradients else 2, channels, dtype=torch.float64)
        self.gradients = gradients

    def add_activations(self, x: Tensor) -> None:
        """x: [batch, tokens, channels]."""
        sums = self._on_device_of(x)
        # Both reductions read x once in its own dtype and add up in float32: no float32 copy is made.
        sums[0] += x.sum(dim=(0, 1), dtype=torch.float32)
        sums[1] += torch.linalg.vector_norm(x, dim=(0, 1), dtype=torch.float32).square()

    def add_gradients(self, x: Tensor, gradient: Tensor) -> None:
        """Both [batch, tokens, channels]; the gradient is that of each sequence's own mean loss.

        Products of bfloat16 values stay bfloat16, whose rounding they carry already: that halves the bytes.
        float16 lacks their range. What is added up is float32.
        """
        sums = self._on_device_of(x)
        product = (x if x.dtype == torch.bfloat16 else x.float()) * gradient
        sums[2] += torch.linalg.vector_norm(product, dim=(0, 1), dtype=torch.float32).square()
        sums[3] += product.sum(dim=1, dtype=torch.float32).square().sum(dim=0)

    def _on_device_of(self, x: Tensor) -> Tensor:
        if self.sums.device != x.device:
            wide = torch.float32 if x.device.type == "mps" else torch.float64
            self.sums = self.sums.to(x.device, wide)
        return self.sums

    def statistics(self, tokens: int, sequences: int) -> dict[str, Tensor]:
        """The means over tokens or sequences, on the CPU, float32 [channels] each.

        With x the input of the output projection and g = dL/dx of a sequence's mean token loss:
        square    mean over tokens of x^2
        variance  mean over tokens of (x - mean x)^2
        taylor    mean over tokens of (x g)^2; only with a backward pass
        fisher    mean over sequences of (sum over tokens of x g)^2; only with a backward pass

        tokens, sequences: how many were added in all processes together.
        """
        sums = summed(self.sums.cpu().double())
        mean, square = sums[0] / tokens, sums[1] / tokens
        means = {"square": square.float(), "variance": (square - mean.square()).clamp_min(0).float()}
        if self.gradients:
            means |= {"taylor": (sums[2] / tokens).float(), "fisher": (sums[3] / sequences).float()}
        return means
