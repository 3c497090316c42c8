"""Ridge regression that refits the kept columns of an output projection. No biases: shapes stay standard."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from secateurs.devices.parallel import from_owners, own_rows, processes, summed, summing
from secateurs.devices.precision import half_product, product_with_half, tensor_cores
from secateurs.errors import InputError
from secateurs.heal.symmetric import solve, strips


class Moments:
    """Weighted sums over tokens of x x^T [k, k], target x^T [d, k] and ||target||^2, float64 in sum.

    Of the symmetric Gram matrix the lower triangle is complete, and so are blocks on its diagonal
    (symmetric.strips); what is above them is not. Each batch is multiplied in float32. Float64 only where
    the device has it; MPS accumulates in float32. With `removed` channels there is sum x_removed x^T
    [removed, k] too.
    """

    def __init__(self, channels: int, outputs: int, device: torch.device, *, removed: int = 0) -> None:
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.gram = torch.zeros(channels, channels, dtype=wide, device=device)
        self.cross = torch.zeros(outputs, channels, dtype=wide, device=device)
        self.energy = torch.zeros((), dtype=wide, device=device)
        self.removed = torch.zeros(removed, channels, dtype=wide, device=device)

    def add(
        self,
        x: Tensor,
        target: Tensor,
        weight: float,
        token_weights: Tensor | None = None,
        removed: Tensor | None = None,
    ) -> None:
        """Add a batch: x [batch, tokens, k], target [batch, tokens, d], x_removed [batch, tokens, removed].

        A token counts `weight`, times its own of `token_weights` (float32 [batch, tokens]) where given, which
        it is not together with `removed`.
        Products of half-precision x are summed in float32 (secateurs/devices/precision.py says how); x in
        float32 is multiplied in float32.
        """
        rows, targets = x.flatten(0, 1), target.flatten(0, 1).float()
        if token_weights is not None:
            root = token_weights.reshape(-1, 1).sqrt()
            rows, targets = rows.float() * root, targets * root
        with tensor_cores() if x.dtype in (torch.bfloat16, torch.float16) else nullcontext():
            # Half of all products would come out twice.
            for start, end in strips(len(self.gram)):
                product = half_product(rows[:, start:].T, rows[:, start:end])
                self.gram[start:, start:end].add_(product, alpha=weight)
            self.cross.add_(product_with_half(targets.T, rows), alpha=weight)
            if removed is not None:
                self.removed.add_(half_product(removed.flatten(0, 1).T, rows), alpha=weight)
        self.energy.add_(targets.square().sum(dtype=self.energy.dtype), alpha=weight)

    def over_processes(self) -> Callable[[], "Moments"]:
        """Begin to add these sums up, in place, over all processes of a group; the result waits for them."""
        if processes() == 1:
            return lambda: self
        # Strip by strip, because what is above them, nearly half of all, is not read.
        parts = [self.gram[start:, start:end] for start, end in strips(len(self.gram))]
        parts += [self.cross, self.energy, *([self.removed] if len(self.removed) else [])]
        sums = [summing(part.contiguous()) for part in parts]

        def whole() -> "Moments":
            for part, added_up in zip(parts, sums, strict=True):
                part.copy_(added_up())
            return self

        return whole


def missed(moments: Moments, weight: Tensor) -> float:
    """The share of its targets' energy that a weight [d, k] misses.

    sum_t w_t ||target_t - W x_t||^2 / sum_t w_t ||target_t||^2, by the moments alone:
    (energy - 2 tr(W cross^T) + tr(W Gram W^T)) / energy. 0 where there is nothing to meet. In a process group
    each process adds up its own of the d outputs.
    """
    wide, cross = own_rows(weight).to(moments.gram.dtype), own_rows(moments.cross)
    squared = torch.zeros_like(moments.energy)
    for start, end in strips(len(moments.gram)):
        # The block on the diagonal counts once, what is below it stands for what is above too.
        strip = wide[:, start:end] @ moments.gram[start:end, start:end]
        strip += 2 * wide[:, end:] @ moments.gram[end:, start:end]
        squared += (strip * wide[:, start:end]).sum()
    met, squared = summed(torch.stack([(wide * cross).sum(), squared]))
    return _share_of_energy(moments, moments.energy - 2 * met + squared)


def missed_by_refit(moments: Moments, weight: Tensor, anchor: Tensor, ridge: float) -> float:
    """What `missed` gives for the weight that ridge_refit made, without its product with the Gram matrix.

    For that weight W (Gram + R) = cross + anchor R, so that
    tr(W Gram W^T) = tr(W cross^T) + tr(W R (anchor - W)^T).
    """
    wide, cross, held = (own_rows(part).to(moments.gram.dtype) for part in (weight, moments.cross, anchor))
    pull = wide * (held - wide) * _strength(moments.gram, ridge)
    return _share_of_energy(moments, moments.energy + summed((pull - wide * cross).sum()))


def _share_of_energy(moments: Moments, error: Tensor) -> float:
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
    return _whole(_solved(moments, _fitted(moments, anchor, ridge), ridge), anchor)


def both_refits(moments: Moments, anchor: Tensor, removed: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """What ridge_refit gives, and what it would give where the targets are what the uncut projection itself
    makes of the same inputs; the Gram matrix is factorised once for both.

    Of such a target, W x = anchor x_kept + removed x_removed, the anchor meets its own part, so that what the
    removed columns gave is all there is to fit: W' = anchor + removed (sum x_removed x_kept^T) (gram + R)^-1.
    W x itself is not needed.

    anchor: [d, k], the kept columns of W; removed: [d, removed], the others.
    """
    given = _wide(own_rows(removed)) @ _wide(moments.removed)
    right = torch.cat([_fitted(moments, anchor, ridge), given])
    solution = _solved(moments, right, ridge)
    refit, change = solution[: len(given)], solution[len(given) :]
    return _whole(refit, anchor), _whole(_wide(own_rows(anchor)) + change, anchor)


def _fitted(moments: Moments, anchor: Tensor, ridge: float) -> Tensor:
    """This process's own rows of cross + anchor R."""
    held = _wide(own_rows(anchor)) * _wide(_strength(moments.gram, ridge))
    return _wide(own_rows(moments.cross)) + held


def _solved(moments: Moments, right: Tensor, ridge: float) -> Tensor:
    """right (gram + R)^-1, [rows, k], of this process's own rows."""
    gram = _wide(moments.gram)
    diagonal, strength = gram.diagonal(), _strength(gram, ridge)
    diagonal.add_(strength)
    try:
        return solve(gram, right)
    except ValueError as error:
        raise InputError(
            f"surgery.ridge: {ridge}: the Gram matrix of {len(gram)} channels cannot be solved "
            "(activations not finite); raise surgery.ridge or use compute.dtype: float32"
        ) from error
    finally:
        diagonal.sub_(strength)


def _strength(gram: Tensor, ridge: float) -> Tensor:
    """The diagonal of R = ridge * diag(Gram), [k]."""
    diagonal = gram.diagonal()
    # A channel that was silent on all healing text has no energy: a trace of the mean keeps it at its anchor,
    # and where all were silent (an expert that no token chose) anything positive does.
    return ridge * torch.maximum(diagonal, (1e-6 * diagonal.mean()).clamp_min(1e-30))


def _whole(own: Tensor, anchor: Tensor) -> Tensor:
    """The weight of which each process of a group has its own rows, like `anchor`."""
    return from_owners(own.to(anchor.device, anchor.dtype).contiguous(), len(anchor))


def _wide(values: Tensor) -> Tensor:
    """In float64 where it is, and in host memory where the device (MPS) has no float64."""
    return (values.cpu() if values.device.type == "mps" else values).double()
