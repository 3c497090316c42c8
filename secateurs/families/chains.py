"""The chains of an mlp in a decoder layer, found by what depends on what.

A chain is a linear module, the output, each of whose input features is made of one feature, or of as many
neighbouring or equally spaced ones, of other linear modules; by the same token's features alone; and those
features are read by nothing else. Such an input feature is a channel: it can go, with what makes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateurs.families.trace import Call, Trace, linear_modules, traced


@dataclass(frozen=True)
class Chain:
    """inputs: the modules that make the channels, one name for each block of features that follow one
    another; blocks: how many features of each a channel owns; output: the module that reads the channels."""

    inputs: tuple[str, ...]
    blocks: tuple[int, ...]
    output: str


@dataclass(frozen=True)
class Refusal:
    """A module whose input features do not make channels that can go, and why."""

    output: str
    reason: str


def chains_of(layer: nn.Module, call: Call) -> tuple[list[Chain], list[Refusal]]:
    """The chains of a decoder layer that is called so, and what looks like one and is none."""
    trace = traced(layer, call, leaves=True)
    found = [_chain(layer, trace, name) for name in entering(layer, trace)]
    return (
        [one for one in found if isinstance(one, Chain)],
        [one for one in found if isinstance(one, Refusal)],
    )


def entering(layer: nn.Module, trace: Trace) -> list[str]:
    """The linear modules whose output the layer's result holds, and not only what others make of it."""
    hidden = {result.shape[-1] for result in trace.result}
    modules = linear_modules(layer)
    return [
        name
        for name in trace.inputs
        if modules[name].out_features in hidden and any(_reaches(trace, one, name) for one in trace.result)
    ]


def pattern(layer: nn.Module, trace: Trace, output: str, makers: list[str]) -> dict[str, Tensor]:
    """Which features of each maker reach which input features of a module, bool [read, made]."""
    modules, read = linear_modules(layer), trace.inputs[output]
    rows = read.flatten(0, -2)
    columns = [dict(gradients(trace, rows[:, feature].sum())) for feature in range(rows.shape[1])]
    found = {}
    for name in makers:
        none = torch.zeros(modules[name].out_features, dtype=torch.bool)
        found[name] = torch.stack(
            [one[name].flatten(0, -2).ne(0).any(dim=0) if name in one else none for one in columns]
        )
    return found


def _chain(layer: nn.Module, trace: Trace, output: str) -> Chain | Refusal | None:
    """The chain that ends in the module; None where it reads no other module's features token by token."""
    read = trace.inputs[output]
    makers = [name for name, one in gradients(trace, read.sum()) if bool(one.any())]
    rows = read.flatten(0, -2)
    if not makers or any(trace.outputs[name][..., 0].numel() != len(rows) for name in makers):
        return None
    for _, gradient in gradients(trace, rows[-1].sum()):
        if int(gradient.flatten(0, -2).ne(0).any(dim=1).sum()) > 1:
            return None
    for name in makers:
        if trace.calls[name] > 1 or trace.calls[output] > 1:
            return Refusal(output, f"{name} or {output} runs more than once in a layer")
        if torch.equal(read, trace.outputs[name]):
            return Refusal(output, f"nothing stands between {name} and {output}, a matrix of low rank")
    inputs: list[str] = []
    blocks: list[int] = []
    for name, reached in pattern(layer, trace, output, makers).items():
        layout = _layout(reached)
        if layout is None and bool(reached.sum(dim=1).gt(len(reached) // 2).any()):
            return Refusal(output, f"something between {name} and {output}, such as a norm, mixes channels")
        if layout is None:
            return Refusal(output, f"the features of {name} do not belong to single channels of {output}")
        inputs += [name] * len(layout)
        blocks += layout
        other = other_reader(trace, name, output)
        if other is not None:
            return Refusal(output, f"the features of {name} are also read by {other}")
    return Chain(tuple(inputs), tuple(blocks), output)


def _layout(reached: Tensor) -> list[int] | None:
    """The blocks in which a channel owns features, of bool [channels, features]; None for another order."""
    channels, features = reached.shape
    each = features // channels
    if features != each * channels or each == 0:
        return None
    one = torch.eye(channels, dtype=torch.bool)
    if torch.equal(reached, one.repeat(1, each)):
        return [1] * each
    if torch.equal(reached, one.repeat_interleave(each, dim=1)):
        return [each]
    return None


def other_reader(trace: Trace, name: str, output: str) -> str | None:
    """What reads a module's features besides `output`: another module, or what follows the layer."""
    for other, read in trace.inputs.items():
        if other not in (name, output) and _reaches(trace, read, name):
            return other
    if any(_reaches(trace, result, name) for result in trace.result):
        return "what follows the layer"
    return None


def gradients(trace: Trace, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The gradient of a value with respect to the output of each linear module that it depends on."""
    if not value.requires_grad:
        return
    leaves = trace.outputs
    found = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, allow_unused=True)
    yield from ((name, one) for name, one in zip(leaves, found, strict=True) if one is not None)


def _reaches(trace: Trace, value: Tensor, name: str) -> bool:
    found = dict(gradients(trace, value.sum()))
    return name in found and bool(found[name].any())
