"""One decoder layer run by itself: what it was called with, and what each of its linear modules hands on.

In a pass with `leaves` every linear module's output is cut off from what made it, so that gradients show what
depends on it directly: without another linear module in between.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.families.hooks import hooked


@dataclass(frozen=True)
class Call:
    """The arguments of a layer in one forward pass of the model."""

    positional: tuple[Any, ...]
    named: dict[str, Any]

    @property
    def hidden(self) -> Tensor:
        """The hidden states that the layer is called with."""
        found: Tensor = self.positional[0] if self.positional else self.named["hidden_states"]
        return found

    def run(self, layer: nn.Module, hidden: Tensor | None = None) -> Any:
        """What the layer gives, of these hidden states or of its own."""
        named = {name: value for name, value in self.named.items() if name != "hidden_states"}
        return layer(self.hidden if hidden is None else hidden, *self.positional[1:], **named)


@dataclass(frozen=True)
class Trace:
    """One run of a layer. inputs, outputs: by the name of the linear module; result: what the layer gave.

    calls: how often each linear module ran.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    calls: dict[str, int]
    result: tuple[Tensor, ...]


def linear_modules(layer: nn.Module) -> dict[str, nn.Linear]:
    """The linear modules of a layer by name."""
    return {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}


def calls_of(model: PreTrainedModel, layers: nn.ModuleList, input_ids: Tensor) -> list[Call | None]:
    """What each layer is called with where the model reads input_ids [batch, tokens]; None: it is not called,
    or more than once."""
    found: dict[int, list[Call]] = {}
    handles = []
    for index, layer in enumerate(layers):

        def note(_: nn.Module, positional: Any, named: Any, index: int = index) -> None:
            copied = tuple(one.clone() if isinstance(one, Tensor) else one for one in positional)
            found.setdefault(index, []).append(
                Call(copied, {name: _copied(one) for name, one in named.items()})
            )

        handles.append(layer.register_forward_pre_hook(note, with_kwargs=True))
    try:
        with torch.no_grad():
            model(input_ids=input_ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    lists = [found.get(index, []) for index in range(len(layers))]
    return [calls[0] if len(calls) == 1 else None for calls in lists]


def traced(layer: nn.Module, call: Call, *, leaves: bool) -> Trace:
    """Run the layer on its call."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    generator = torch.Generator().manual_seed(0)
    modules = linear_modules(layer)
    names = {module: name for name, module in modules.items()}

    def after(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Tensor | None:
        name = names[module]  # type: ignore[index]
        # A router may be an nn.Linear that gives more than a product.
        if not isinstance(output, Tensor):
            return None
        calls[name] = calls.get(name, 0) + 1
        inputs[name] = arguments[0]
        # Random numbers, because what a small model makes may be negative for all tokens, which would hide a
        # feature behind a gate that is 0 there.
        random = torch.empty_like(output).normal_(generator=generator)
        outputs[name] = random.requires_grad_() if leaves else output
        # A layer may change what it got in place, which a leaf does not allow.
        return outputs[name].clone() if leaves else None

    with hooked(after=[(module, after) for module in modules.values()]), torch.set_grad_enabled(leaves):
        result = list(_tensors(call.run(layer)))
    # Attention weights and router logits may be given beside the stream.
    streams = tuple(one for one in result if one.shape == result[0].shape)
    return Trace(inputs, outputs, calls, streams)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
