"""Weights that two models have in common, kept once."""

from collections.abc import Collection

import torch
from torch import nn


def share_equal(model: nn.Module, other: nn.Module, but: Collection[str] = ()) -> int:
    """Let `model` use the parameters of `other` where both have equal ones of one name; the bytes saved.

    Equal in dtype, device, shape and every value. but: names of parameters that stay its own, because they
    will be changed in place. What is tied stays tied.
    """
    theirs = dict(other.named_parameters(remove_duplicate=False))
    ours = list(model.named_parameters(remove_duplicate=False))
    kept, freed = {id(weight) for name, weight in ours if name in but}, dict[int, int]()
    for name, weight in ours:
        found = theirs.get(name)
        if id(weight) in kept or found is None or weight is found or not _equal(weight, found):
            continue
        module, _, last = name.rpartition(".")
        setattr(model.get_submodule(module), last, found)
        freed[id(weight)] = weight.nbytes
    return sum(freed.values())


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    same = (one.dtype, one.device, one.shape) == (other.dtype, other.device, other.shape)
    return same and torch.equal(one, other)
