"""Ridge regression that refits the kept columns of an output projection. No biases: shapes stay standard."""

import copy
import math
from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor

from stages.common.errors import InputError
from stages.pruning.parallel import from_owners, own_rows, summed
from stages.pruning.precision import half_product, tensor_cores

# A Gram matrix is summed in about this many strips of columns, none narrower than this.
STRIPS, NARROWEST = 16, 256


class Moments:
    """Weighted sums over tokens of x x^T [k, k], target x^T [d, k] and ||target||^2, float64 in sum.

    Of the symmetric Gram matrix the lower triangle is complete, and so are blocks on its diagonal (see
    `strips`); what is above them is not. Each batch is multiplied in float32. Float64 only where the device
    has it; MPS accumulates in float32. With
    `others` there is a cross with other targets too.
    """

    def __init__(self, channels: int, outputs: int, device: torch.device, *, others: bool = False) -> None:
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.gram = torch.zeros(channels, channels, dtype=wide, device=device)
        self.cross = torch.zeros(outputs, channels, dtype=wide, device=device)
        self.energy = torch.zeros((), dtype=wide, device=device)
        self.others = torch.zeros_like(self.cross) if others else None

    def add(
        self,
        x: Tensor,
        target: Tensor,
        weight: float,
        token_weights: Tensor | None = None,
        other: Tensor | None = None,
    ) -> None:
        """Add a batch: x [batch, tokens, k], target and, optional, other target [batch, tokens, d].

        A token counts `weight`, times its own of `token_weights` (float32 [batch, tokens]) where given; with
        the other target it counts `weight`.
        Products of half-precision x with itself are summed in float32, and those with targets in TF32, whose
        10 bits of mantissa hold x without loss; x in float32 is multiplied in float32.
        """
        half = x.flatten(0, 1)
        rows, targets = half.float(), target.flatten(0, 1).float()
        if token_weights is not None:
            root = token_weights.reshape(-1, 1).sqrt()
            half = rows = rows * root
            targets = targets * root
        with tensor_cores() if x.dtype in (torch.bfloat16, torch.float16) else nullcontext():
            # Half of all products would come out twice.
            for start, end in self.strips():
                product = half_product(half[:, start:].T, half[:, start:end])
                self.gram[start:, start:end].add_(product, alpha=weight)
            self.cross.add_(targets.T @ rows, alpha=weight)
            if other is not None:
                self._others().add_(other.flatten(0, 1).float().T @ rows, alpha=weight)
        self.energy.add_(targets.square().sum(dtype=self.energy.dtype), alpha=weight)

    def _others(self) -> Tensor:
        assert self.others is not None, "made without other targets"
        return self.others

    def strips(self) -> Iterator[tuple[int, int]]:
        """The columns, from and to, of each strip in which the Gram matrix is summed from its start down."""
        width = max(NARROWEST, math.ceil(len(self.gram) / STRIPS))
        for start in range(0, len(self.gram), width):
            yield start, min(start + width, len(self.gram))

    def of_others(self) -> "Moments":
        """The moments of the same inputs and the other targets; the Gram matrix is shared, not copied."""
        others = copy.copy(self)
        others.cross, others.energy = self._others(), torch.full_like(self.energy, torch.nan)
        return others

    def over_processes(self) -> "Moments":
        """These sums, added up in place over all processes of a group."""
        self.gram, self.cross = summed(self.gram), summed(self.cross)
        self.energy = summed(self.energy)
        self.others = None if self.others is None else summed(self.others)
        return self


def missed(moments: Moments, weight: Tensor) -> float:
    """The share of its targets' energy that a weight [d, k] misses.

    sum_t w_t ||target_t - W x_t||^2 / sum_t w_t ||target_t||^2, by the moments alone:
    (energy - 2 tr(W cross^T) + tr(W Gram W^T)) / energy. 0 where there is nothing to meet. In a process group
    each process adds up its own of the d outputs.
    """
    wide, cross = own_rows(weight).to(moments.gram.dtype), own_rows(moments.cross)
    squared = torch.zeros_like(moments.energy)
    for start, end in moments.strips():
        # The block on the diagonal counts once, what is below it stands for what is above too.
        strip = wide[:, start:end] @ moments.gram[start:end, start:end]
        strip += 2 * wide[:, end:] @ moments.gram[end:, start:end]
        squared += (strip * wide[:, start:end]).sum()
    met, squared = summed(torch.stack([(wide * cross).sum(), squared]))
    error = moments.energy - 2 * met + squared
    return float(error / moments.energy) if float(moments.energy) > 0 else 0.0


def ridge_refit(moments: Moments, anchor: Tensor, ridge: float) -> Tensor:
    """The weight that fits the targets best while staying near `anchor`.

    argmin over W of sum_t w_t ||target_t - W x_t||^2 + ridge * sum_j Gram_jj ||W_j - anchor_j||^2, solved
    in float64 by Cholesky: W = (cross + anchor R) (gram + R)^-1 with R = ridge * diag(Gram).

    Each column is held in proportion to its own channel's energy. One strength for all columns (the mean of
    the diagonal) holds quiet channels too hard and loud ones too little when healing tokens are few.

    anchor: [d, k]; returns the same shape, dtype and device. `moments` is changed and then put right, because
    a Gram of 22,000 channels is 4 GB and a copy as much again. In a process group, where all have the same
    moments, each process solves for its own of the d outputs, and all get the whole. Raises InputError where
    the Gram is not finite or not positive definite.
    """
    gram = _wide(moments.gram)
    diagonal = gram.diagonal()
    # A channel that was silent on all healing text has no energy: a trace of the mean keeps it at its anchor,
    # and where all were silent (an expert that no token chose) anything positive does.
    strength = ridge * diagonal.clamp_min(max(1e-6 * float(diagonal.mean()), 1e-30))
    right = _wide(own_rows(moments.cross)) + _wide(own_rows(anchor)) * strength
    gram.diagonal().add_(strength)
    # Reads the lower triangle alone.
    factor, failed = torch.linalg.cholesky_ex(gram)
    gram.diagonal().sub_(strength)
    if int(failed) or not bool(torch.isfinite(right).all()):
        raise InputError(
            f"surgery.ridge: {ridge}: the Gram matrix of {len(gram)} channels cannot be solved "
            "(activations not finite); raise surgery.ridge or use compute.dtype: float32"
        )
    solution: Tensor = torch.cholesky_solve(right.T, factor).T
    return from_owners(solution.to(anchor.device, anchor.dtype).contiguous(), len(anchor))


def _wide(values: Tensor) -> Tensor:
    """In float64 where it is, and in host memory where the device (MPS) has no float64."""
    return (values.cpu() if values.device.type == "mps" else values).double()
