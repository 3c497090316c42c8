"""RMS norms in one kernel each: the same function as the model's own code, which takes six."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

# What a norm is tried on before its code is exchanged: so many rows, and how far results may be apart,
# in units of rounding of the dtype.
ROWS, ROUNDINGS = 4, 4


@contextmanager
def fused_norms(*models: nn.Module) -> Iterator[None]:
    """In the context norms w * x / sqrt(mean(x^2) + epsilon) run as one kernel, where they are on CUDA.

    Norms are known by what they compute and not by name: of each kind of module with one vector of weights
    and an epsilon the first one is tried on random rows, and all keep their own code where the results differ
    (Gemma's multiply by 1 + w). Results differ by a rounding, because the model's code rounds before it
    multiplies by w. Elsewhere than on CUDA there is no such kernel and nothing is exchanged.
    """
    tried: dict[tuple[object, ...], bool] = {}
    exchanged = []
    for module in (module for model in models for module in model.modules() if _on_cuda(module)):
        kind = (type(module), _epsilon(module), *((one.shape, one.dtype) for one in module.parameters()))
        if kind not in tried:
            tried[kind] = is_rms_norm(module)
        if tried[kind]:
            exchanged.append(module)
    for norm in exchanged:
        norm.forward = _fused(norm)
    try:
        yield
    finally:
        for norm in exchanged:
            del norm.forward


def _fused(norm: nn.Module) -> "partial[torch.Tensor]":
    weight = norm.get_parameter("weight")
    return partial(F.rms_norm, normalized_shape=tuple(weight.shape), weight=weight, eps=_epsilon(norm))


def _epsilon(norm: nn.Module) -> float | None:
    found = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    return found if isinstance(found, float) else None


def _on_cuda(module: nn.Module) -> bool:
    """Whether a module's weights stay on CUDA: a forward of its own is accelerate's, which moves them."""
    own = list(module.parameters(recurse=False))
    return bool(own) and all(one.device.type == "cuda" for one in own) and "forward" not in vars(module)


@torch.no_grad()
def is_rms_norm(module: nn.Module) -> bool:
    """Whether a module computes w * x / sqrt(mean(x^2) + epsilon), to a few roundings on random rows."""
    weights = dict(module.named_parameters())
    if list(weights) != ["weight"] or weights["weight"].dim() != 1 or _epsilon(module) is None:
        return False
    weight = weights["weight"]
    generator = torch.Generator(weight.device).manual_seed(0)
    rows = torch.randn(ROWS, len(weight), generator=generator, device=weight.device).to(weight.dtype)
    expected, found = module(rows).float(), _fused(module)(rows).float()
    allowed = ROUNDINGS * torch.finfo(weight.dtype).eps
    return torch.allclose(found, expected, rtol=allowed, atol=allowed * float(expected.abs().mean()))
