"""Where the output of a chain joins the residual stream of its layer, found by the numbers of one pass."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.families.family import Sublayer
from secateurs.families.hooks import hooked
from secateurs.families.trace import Call

# Relative to the larger of two tensors that are held to be the same.
SAME = 1e-4
# The smallest gain that is told from none.
LEAST = 0.01


@dataclass
class _Pass:
    """Inputs and outputs of every module in one pass, [tokens, d], by name in the order of the calls."""

    order: list[str]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def entered(self, output: str, *, before: bool) -> dict[str, Tensor]:
        """What entered the modules that were called before (or after) another, where it is a stream."""
        place, shape = self.order.index(output), self.outputs[""].shape
        chosen = self.order[:place] if before else self.order[place + 1 :]
        return {
            name: self.inputs[name]
            for name in chosen
            if name in self.inputs and self.inputs[name].shape == shape
        }


def joined(layer: nn.Module, call: Call, sublayer: Sublayer) -> Sublayer:
    """The sublayer with what was found of how its result joins the stream; entry None where nothing was.

    A sum of the layer's tensors is looked for: h, what entered a module before, plus gain * n(result), plus
    what another module gives. The result is what the projection gives, or a module around it.
    """
    seen = _run(layer, call)
    stream = seen.outputs[""]
    # The last module that reads a stream outside of the sublayer's own, which is often its norm.
    own = sublayer.result.rpartition(".")[0]
    before = {
        name: one
        for name, one in reversed(seen.entered(sublayer.result, before=True).items())
        if not own or name == own or not _inside(name, own)
    }
    totals = [("", stream), *seen.entered(sublayer.result, before=False).items()]
    for result in _with_ancestors(sublayer.result):
        made = seen.outputs.get(result)
        if made is None or made.shape != stream.shape:
            continue
        for norm, given in [(None, made), *_norms_of(layer, seen, result)]:
            for added, other in [(None, torch.zeros(())), *_others(seen, result, norm)]:
                for (place, total), (entry, entered) in product(totals, before.items()):
                    gain = _gain(total - entered - other, given, total)
                    if gain is not None:
                        return replace(
                            sublayer,
                            result=result,
                            entry=entry,
                            post_norm=norm,
                            added_first=added,
                            gain=gain,
                            ends_layer=not place,
                        )
    return sublayer


def _norms_of(layer: nn.Module, seen: _Pass, result: str) -> Iterator[tuple[str, Tensor]]:
    """The modules that read just what `result` gives and are no projection, with what they give."""
    made = seen.outputs[result]
    for name, read in seen.inputs.items():
        given = seen.outputs.get(name)
        if given is None or read.shape != made.shape or given.shape != made.shape or _inside(name, result):
            continue
        if _same(read, made, made) and not isinstance(layer.get_submodule(name), nn.Linear):
            yield name, given


def _others(seen: _Pass, result: str, norm: str | None) -> Iterator[tuple[str, Tensor]]:
    """What other modules give that may be added in the same place."""
    for name, one in seen.outputs.items():
        if one.shape == seen.outputs[result].shape and name != norm and not _related(name, result):
            yield name, one


def _gain(difference: Tensor, given: Tensor, total: Tensor) -> float | None:
    """The number g with which difference = g * given, relative to the size of `total`; None without one."""
    gain = float((difference * given).sum() / given.square().sum())
    return round(gain, 5) if gain > LEAST and _same(difference, gain * given, total) else None


def _run(layer: nn.Module, call: Call) -> _Pass:
    seen = _Pass([], {}, {})
    names = {module: name for name, module in layer.named_modules()}

    def before(module: nn.Module, positional: tuple[Any, ...]) -> None:
        seen.order.append(names[module])
        if positional and _is_stream(positional[0]):
            seen.inputs.setdefault(names[module], positional[0].detach().clone().flatten(0, -2))

    def after(module: nn.Module, _: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output
        if _is_stream(first):
            seen.outputs[names[module]] = first.detach().clone().flatten(0, -2)

    modules = list(layer.modules())
    with hooked([(one, before) for one in modules], [(one, after) for one in modules]), torch.no_grad():
        call.run(layer)
    return seen


def _is_stream(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 2


def _with_ancestors(name: str) -> Iterator[str]:
    yield name
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _inside(name: str, outer: str) -> bool:
    return name == outer or name.startswith(f"{outer}.")


def _related(name: str, other: str) -> bool:
    return _inside(name, other) or _inside(other, name)


def _same(one: Tensor, other: Tensor, scale: Tensor) -> bool:
    return bool((one - other).abs().max() <= SAME * scale.abs().max())
