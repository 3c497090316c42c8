"""Fused experts opened into linear modules, so that their channels can be seen and cut.

transformers keeps the weights of all experts of a layer in a few tensors, and says on the module how they lie
(transposed, interleaved, with biases, without gates). `open_experts` puts in the place of such a module one
that computes the same with an nn.Linear for every projection, and `close_experts` puts the stock module back
in the size that is left. GPT-2's Conv1D, a linear module that holds its matrix transposed, is treated alike.
Both only move weights: none changes. Router and shared experts stay as they are.
"""

import re
from collections.abc import Iterator, Sequence
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers.integrations.moe import _default_apply_gate
from transformers.pytorch_utils import Conv1D

M = TypeVar("M", bound=nn.Module)

# What transformers says of a fused module, and of classes for which it says nothing.
_FLAGS = {"has_gate": True, "has_bias": False, "is_transposed": False, "is_concatenated": True}
_UNSAID = {"Llama4TextExperts": _FLAGS | {"is_transposed": True}}
# What fused experts call the number of their channels, for themselves.
_WIDTH = re.compile(r"intermediate|expert_dim|ffn_hidden")


class Expert(nn.Module):
    """One expert; its channels carry the routing weight, so they are 0 for tokens of other experts.

    gate: None where experts have none. stock: the fused module, whose activation makes the channels.
    """

    def __init__(self, gate: nn.Linear | None, up: nn.Linear, down: nn.Linear, stock: Any) -> None:
        super().__init__()
        if gate is not None:
            self.gate_proj = gate
        self.up_proj, self.down_proj = up, down
        # In a tuple, because as a module it would be a part of every expert.
        self._stock = (stock,)

    def forward(self, hidden: Tensor, routing: Tensor) -> Tensor:
        """hidden [tokens, d], routing [tokens] (0: not chosen) -> [tokens, d].

        Gate and up run on the chosen tokens only. The routing weight goes in before the output projection,
        which being linear gives what the stock module gives by weighting its output; so does its bias.
        """
        # Some routers give float32 whatever the model's dtype.
        weights = routing.to(hidden.dtype)
        rows = weights.nonzero().squeeze(1)
        active = self._active(hidden[rows]) * weights[rows, None]
        channels = active.new_zeros(len(hidden), active.shape[1]).index_copy(0, rows, active)
        result: Tensor = self.down_proj(channels)
        if self.down_proj.bias is not None:
            result = result + (weights[:, None] - 1) * self.down_proj.bias
        return result

    def _active(self, hidden: Tensor) -> Tensor:
        (stock,) = self._stock
        up = self.up_proj(hidden)
        if not stock.has_gate:
            active: Tensor = stock.act_fn(up)
            return active
        pair = [self.gate_proj(hidden), up]
        made = torch.cat(pair, -1) if stock.is_concatenated else torch.stack(pair, -1).flatten(-2)
        gated: Tensor = stock._apply_gate(made)
        return gated


class OpenExperts(nn.Module):
    """Routed experts, each a module named by its number; stock: the fused module, without weights."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        for number, expert in enumerate(_experts(stock)):
            self.add_module(str(number), expert)
        for name in [name for name, _ in stock.named_parameters(recurse=False)]:
            setattr(stock, name, None)
        self._stock = (stock,)

    @property
    def stock(self) -> nn.Module:
        """The fused module, which knows how many experts there are."""
        (module,) = self._stock
        found: nn.Module = module
        return found

    def keep(self, numbers: Sequence[int]) -> None:
        """Let the experts of these numbers stay, numbered anew in this order."""
        kept = [self.get_submodule(str(number)) for number in numbers]
        self._modules.clear()
        for number, expert in enumerate(kept):
            self.add_module(str(number), expert)

    def forward(self, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """hidden [..., d], the numbers of the chosen experts [tokens, k] and their weights -> [..., d]."""
        experts = list(self.children())
        flat = hidden.reshape(-1, hidden.shape[-1])
        # A number beyond the last expert stands for none.
        routing = torch.zeros(len(flat), len(experts) + 1, dtype=weights.dtype, device=weights.device)
        routing = routing.scatter_add(1, chosen.clamp_max(len(experts)), weights)
        result = torch.zeros_like(flat)
        for number, expert in enumerate(experts):
            result = result + expert(flat, routing[:, number])
        return result.view_as(hidden)

    def closed(self) -> nn.Module:
        """The stock module with these weights."""
        (stock,) = self._stock
        experts: list[Any] = list(self.children())
        pairs = [[one.gate_proj, one.up_proj] if stock.has_gate else [one.up_proj] for one in experts]
        first = "gate_up_proj" if stock.has_gate else "up_proj"
        join = torch.cat if stock.is_concatenated else _interleaved
        made = torch.stack([join([one.weight for one in pair]) for pair in pairs])
        down = torch.stack([one.down_proj.weight for one in experts])
        for name, weight in ((first, made), ("down_proj", down)):
            turned = weight.transpose(1, 2).contiguous() if stock.is_transposed else weight
            setattr(stock, name, _parameter(turned))
        if stock.has_bias:
            biases = torch.stack([join([one.bias for one in pair]) for pair in pairs])
            setattr(stock, f"{first}_bias", _parameter(biases))
            stock.down_proj_bias = _parameter(torch.stack([one.down_proj.bias for one in experts]))
        for name in [name for name in vars(stock) if _WIDTH.search(name)]:
            setattr(stock, name, down.shape[2])
        module: nn.Module = stock
        return module


class SortedExperts(OpenExperts):
    """Experts that are called with the hidden states of every expert's tokens, one after the other."""

    def forward(self, hidden: Tensor) -> Tensor:  # type: ignore[override]
        """hidden [experts * tokens, d], times the routing weight (0: not chosen) -> the same shape."""
        own = zip(self.children(), hidden.chunk(len(list(self.children()))), strict=True)
        return torch.cat([expert(one, one.ne(0).any(-1).to(one.dtype)) for expert, one in own])


class Turned(nn.Linear):
    """What was a Conv1D."""

    def __init__(self, stock: Conv1D) -> None:
        super().__init__(stock.nx, stock.nf, device="meta")
        self.weight, self.bias = _parameter(stock.weight.T), stock.bias

    def closed(self) -> nn.Module:
        """The Conv1D with this weight."""
        with torch.device("meta"):
            stock = Conv1D(*self.weight.shape)
        stock.weight, stock.bias = _parameter(self.weight.T.contiguous()), self.bias
        return stock


@torch.no_grad()
def open_experts(model: M) -> M:
    """Open all fused experts (and turn every Conv1D) inside a model or a layer, in place. Returns it.

    Weights are shared with the fused tensors, which go when nothing else holds them.
    """
    for name, module in list(model.named_modules()):
        if _is_fused(module):
            model.set_submodule(name, _opened(module).train(module.training))
        elif isinstance(module, Conv1D):
            model.set_submodule(name, Turned(module).train(module.training))
    return model


@torch.no_grad()
def close_experts(model: M) -> M:
    """Put the stock modules back, in place. Returns the model or layer."""
    for name, module in list(model.named_modules()):
        if isinstance(module, OpenExperts | Turned):
            model.set_submodule(name, module.closed().train(module.training))
    return model


def _is_fused(module: nn.Module) -> bool:
    """Whether a module is experts fused in a layout that can be opened."""
    if type(module).__name__ in _UNSAID:
        return True
    return all(hasattr(module, flag) for flag in _FLAGS) and not getattr(
        module, "has_post_expert_norm", False
    )


def _opened(module: Any) -> OpenExperts:
    unsaid = _UNSAID.get(type(module).__name__)
    if unsaid is None:
        return OpenExperts(module)
    for name, value in unsaid.items():
        setattr(module, name, value)
    module._apply_gate = MethodType(_default_apply_gate, module)
    return SortedExperts(module)


def _experts(stock: Any) -> Iterator[Expert]:
    first = "gate_up_proj" if stock.has_gate else "up_proj"
    biases = getattr(stock, f"{first}_bias") if stock.has_bias else [None] * len(stock.down_proj)
    down_biases = stock.down_proj_bias if stock.has_bias else biases
    for made, down, bias, down_bias in zip(
        getattr(stock, first), stock.down_proj, biases, down_biases, strict=True
    ):
        if stock.is_transposed:
            made, down = made.T, down.T
        projection = _linear(down, down_bias)
        if not stock.has_gate:
            yield Expert(None, _linear(made, bias), projection, stock)
            continue
        weights = made.chunk(2) if stock.is_concatenated else (made[::2], made[1::2])
        parts: Any = (None, None)
        if bias is not None:
            parts = bias.chunk(2) if stock.is_concatenated else (bias[::2], bias[1::2])
        gate, up = map(_linear, weights, parts)
        yield Expert(gate, up, projection, stock)


def _interleaved(pair: list[Tensor]) -> Tensor:
    return torch.stack(pair, 1).flatten(0, 1)


class _Projection(nn.Linear):
    """A linear module that is given its weights as soon as it is there."""

    def reset_parameters(self) -> None:
        """Draw none: for the experts of a large mixture that takes most of the time of opening them."""


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    outputs, inputs = weight.shape
    linear = _Projection(inputs, outputs, bias=bias is not None, device="meta")
    linear.weight = _parameter(weight)
    if bias is not None:
        linear.bias = _parameter(bias)
    return linear


def _parameter(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)
