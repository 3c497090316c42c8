"""Matrices of low rank beside a model's projections, trained in place of its weights and added to them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.families.decoder import layers_name
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.settings.recovery import LowRank


class Factored(nn.Module):
    """W x + b + second (first x): a linear module with W [outputs, inputs], first [rank, inputs] and second
    [outputs, rank]."""

    def __init__(self, linear: nn.Linear, first: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.first = nn.Parameter(first)
        self.second = nn.Parameter(first.new_zeros(linear.out_features, len(first)))

    @property
    def weight(self) -> Tensor:
        """W, which modelling code may ask for its dtype."""
        return self.linear.weight

    @property
    def bias(self) -> Tensor | None:
        """b, which modelling code may add a part of."""
        return self.linear.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs]."""
        result: Tensor = self.linear(hidden)
        return result + F.linear(F.linear(hidden, self.first), self.second)

    def merged(self) -> nn.Linear:
        """The linear module with W + second first, in a tensor of its own of W's dtype."""
        whole = self.linear.weight.float() + self.second.float() @ self.first.float()
        self.linear.weight = nn.Parameter(whole.to(self.linear.weight.dtype), requires_grad=False)
        return self.linear


@contextmanager
def low_rank(model: PreTrainedModel, settings: LowRank, seed: int) -> Iterator[dict[str, nn.Parameter]]:
    """In the context the chosen projections W of the decoder layers compute (W + second first) x.

        W <- W + second first    when the context is left

    Yields what may be trained, float32 whatever W is in, by name: `<projection>.first` [rank, inputs], normal
    with variance 1 / inputs by `seed`, and `<projection>.second` [outputs, rank], zeros. W itself is not
    written over, so that it may be another model's too. Raises SettingError for a target that is no
    projection, and for a rank that is none for one of them.
    """
    open_experts(model)
    chosen = _chosen(model, settings)
    generator = torch.Generator().manual_seed(seed)
    trained = dict[str, nn.Parameter]()
    for name, linear in chosen.items():
        first = torch.randn(settings.rank, linear.in_features, generator=generator) / linear.in_features**0.5
        module = Factored(linear, first.to(linear.weight.device))
        _put(model, name, module)
        trained |= {f"{name}.first": module.first, f"{name}.second": module.second}
    try:
        yield trained
    finally:
        merge(model)
        close_experts(model)


def merge(model: nn.Module) -> None:
    """Put linear modules in the place of all factored ones."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, Factored)}
    for name, module in found.items():
        _put(model, name, module.merged())


def _chosen(model: PreTrainedModel, settings: LowRank) -> Mapping[str, nn.Linear]:
    """The projections of the decoder layers that the settings name, by their own names."""
    layers = layers_name(model)
    there = {
        f"{layers}.{name}": module
        for name, module in model.get_submodule(layers).named_modules()
        if isinstance(module, nn.Linear)
    }
    kinds = sorted({name.rpartition(".")[2] for name in there})
    for target in settings.targets:
        if target not in kinds:
            raise SettingError(
                f"recover.low_rank.targets: {target}: no projection of the decoder layers is called so; "
                f"there are {', '.join(kinds)}"
            )
    wanted = settings.targets or kinds
    chosen = {name: module for name, module in there.items() if name.rpartition(".")[2] in wanted}
    for name, module in chosen.items():
        most = min(module.in_features, module.out_features)
        if settings.rank > most:
            raise SettingError(
                f"recover.low_rank.rank: {settings.rank}: {name} is a matrix of {module.out_features} x "
                f"{module.in_features}; at most {most}"
            )
    return chosen


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
