"""The heads of an attention in a decoder layer, found by what depends on what.

An attention's output projection reads the heads side by side. Query head h makes features of head h alone;
the key and the value head of a group make features of the heads of that group alone. Where a norm runs over
all heads, or a weight belongs to heads beside the projections, none can go.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.families.chains import Refusal, entering, gradients, other_reader, pattern
from secateurs.families.trace import Call, linear_modules, traced


@dataclass(frozen=True)
class Heads:
    """inputs: the modules that make queries, keys and values, in that order, one name several times where it
    is fused; output: the projection that reads the heads."""

    inputs: tuple[str, str, str]
    output: str


def heads_of(layer: nn.Module, call: Call) -> Heads | Refusal | None:
    """The heads of the layer's attention; None where it has none that mixes tokens by plain projections."""
    trace = traced(layer, call, leaves=True)
    refusal = None
    for output in entering(layer, trace):
        read = trace.inputs[output]
        makers = [name for name, one in gradients(trace, read.sum()) if bool(one.any())]
        size: Any = getattr(layer.get_submodule(output.rpartition(".")[0]), "head_dim", None)
        if not makers or not isinstance(size, int) or not _mixes_tokens(trace, read):
            continue
        blocks = _blocks(layer, trace, output, makers, size)
        found = blocks if isinstance(blocks, Refusal) else _in_order(blocks, output)
        if isinstance(found, Heads):
            other = next((other_reader(trace, name, output) for name in found.inputs), None)
            if other is None:
                return found
            found = Refusal(output, f"the heads are also read by {other}")
        refusal = found
    return refusal


def _mixes_tokens(trace: Any, read: Tensor) -> bool:
    """Whether the last token's features depend on what was made of others."""
    last = read.flatten(0, -2)[-1].sum()
    return any(int(one.flatten(0, -2).ne(0).any(dim=1).sum()) > 1 for _, one in gradients(trace, last))


def _blocks(
    layer: nn.Module, trace: Any, output: str, makers: list[str], size: int
) -> dict[str, Tensor] | Refusal:
    """For each maker which of its blocks of `size` features reach which heads, bool [heads, blocks]."""
    width = linear_modules(layer)[output].in_features
    found = {}
    for name, reached in pattern(layer, trace, output, makers).items():
        if width % size or reached.shape[1] % size:
            return Refusal(output, f"the features of {name} are no whole heads")
        blocks = reached.unflatten(0, (-1, size)).any(1).unflatten(1, (-1, size)).any(2)
        if bool(blocks.all()) and blocks.shape[0] > 1 and blocks.shape[1] > 1:
            return Refusal(output, f"something between {name} and {output}, such as a norm, mixes all heads")
        found[name] = blocks
    return found


def _in_order(blocks: dict[str, Tensor], output: str) -> Heads | Refusal:
    """Queries, keys and values by which heads their blocks reach."""
    heads = next(iter(blocks.values())).shape[0]
    one = torch.eye(heads, dtype=torch.bool)
    unlike = Refusal(output, "queries, keys and values do not lie head by head one after the other")
    if len(blocks) == 1:
        ((name, fused),) = blocks.items()
        groups, odd = divmod(fused.shape[1] - heads, 2)
        if odd or groups < 1 or heads % groups:
            return unlike
        shared = torch.eye(groups, dtype=torch.bool).repeat_interleave(heads // groups, 0)
        plain = torch.equal(fused, torch.cat([one, shared, shared], 1))
        return Heads((name,) * 3, output) if plain else unlike
    if len(blocks) != 3:
        return unlike
    query = max(blocks, key=lambda name: blocks[name].shape[1])
    key, value = (name for name in blocks if name != query)
    groups = blocks[key].shape[1]
    if not groups or heads % groups:
        return unlike
    shared = torch.eye(groups, dtype=torch.bool).repeat_interleave(heads // groups, 0)
    plain = torch.equal(blocks[query], one) and all(
        torch.equal(blocks[name], shared) for name in (key, value)
    )
    return Heads((query, key, value), output) if plain else unlike
