"""Channels of an mlp, found in layers built by hand, whose channels are known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from secateurs.families.chains import Chain, Refusal, chains_of
from secateurs.families.fused_experts import open_experts
from secateurs.families.trace import Call

HIDDEN, WIDTH = 6, 8


class Layer(nn.Module):
    """A residual layer around a function of its modules."""

    def __init__(self, mlp: Callable[["Layer", Tensor], Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [batch, tokens, d] -> the same shape."""
        return hidden + self.mlp(self, hidden)


def linear(inputs: int = HIDDEN, outputs: int = WIDTH) -> nn.Linear:
    return nn.Linear(inputs, outputs)


def found(layer: nn.Module) -> tuple[list[Chain], list[Refusal]]:
    torch.manual_seed(0)
    return chains_of(open_experts(layer), Call((torch.randn(2, 5, HIDDEN),), {}))


DOWN = {"down": linear(WIDTH, HIDDEN)}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            Layer(lambda m, x: m.down(m.gate(x).sigmoid() * m.up(x)), gate=linear(), up=linear(), **DOWN),
            Chain(("gate", "up"), (1, 1), "down"),
        ),
        (
            Layer(lambda m, x: m.fc2(m.fc1(x).relu()), fc1=Conv1D(WIDTH, HIDDEN), fc2=Conv1D(HIDDEN, WIDTH)),
            Chain(("fc1",), (1,), "fc2"),
        ),
        (
            Layer(lambda m, x: m.down(nn.functional.glu(m.both(x))), both=linear(HIDDEN, 2 * WIDTH), **DOWN),
            Chain(("both", "both"), (1, 1), "down"),
        ),
    ],
    ids=["gated", "transposed", "fused"],
)
def test_the_modules_that_make_channels_are_found(layer: Layer, expected: Chain) -> None:
    assert found(layer) == ([expected], [])


def test_fused_gates_that_alternate_are_blocks_of_two() -> None:
    def mlp(m: Layer, x: Tensor) -> Tensor:
        made = m.both(x)
        return m.down(made[..., ::2].sigmoid() * made[..., 1::2])

    chains, _ = found(Layer(mlp, both=linear(HIDDEN, 2 * WIDTH), **DOWN))
    assert chains == [Chain(("both",), (2,), "down")]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            Layer(lambda m, x: m.down(m.norm(m.up(x))), up=linear(), norm=nn.LayerNorm(WIDTH), **DOWN),
            "mixes channels",
        ),
        (Layer(lambda m, x: m.down(m.up(x)), up=linear(), **DOWN), "a matrix of low rank"),
        (
            Layer(lambda m, x: m.down((up := m.up(x)).relu()) + up[..., :HIDDEN], up=linear(), **DOWN),
            "also read by what follows the layer",
        ),
        (
            Layer(lambda m, x: m.down(m.up(x).relu()) + m.down(m.up(-x).relu()), up=linear(), **DOWN),
            "more than once",
        ),
    ],
    ids=["norm", "low rank", "read elsewhere", "called twice"],
)
def test_channels_that_cannot_go_are_refused_with_the_reason(layer: Layer, reason: str) -> None:
    chains, refusals = found(layer)
    assert chains == []
    assert [reason in one.reason for one in refusals] == [True]


def test_what_mixes_tokens_is_no_mlp() -> None:
    layer = Layer(lambda m, x: m.down(m.up(x).relu().cumsum(1)), up=linear(), **DOWN)
    assert found(layer) == ([], [])
