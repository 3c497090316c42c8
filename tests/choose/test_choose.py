"""Scores that rank nothing choose nothing."""

import pytest
import torch
from torch import Tensor

from secateurs.choose.round import Choice, choose
from secateurs.errors import InputError
from secateurs.kinds.sites import all_kept_masks
from secateurs.measure.capture import DomainCapture
from secateurs.settings.method import Settings
from secateurs.settings.pruning import Prune
from tests.tiny import make_tiny_model

SITES = ("0/mlp", "1/mlp", "2/mlp")


def chosen(values: Tensor, mixture: dict[str, float]) -> Choice:
    """A round of the tiny model by these statistics [48], the same at every site and in every domain."""
    model = make_tiny_model()
    masks = all_kept_masks(model)
    statistics = {"taylor": values}
    captures = {name: DomainCapture(dict.fromkeys(SITES, statistics), 2.0, 1, 8, False) for name in mixture}
    settings = Settings(mixture=mixture, rounds={"r1": 1.0}, prune=Prune(sparsity=0.2, width_multiple=1))
    zeros = {name: torch.zeros(len(mask), dtype=torch.float64) for name, mask in masks.items()}
    return choose(model, captures, masks, zeros, mixture, settings, "r1")


def test_scores_that_differ_are_ranked() -> None:
    choice = chosen(torch.arange(48.0), {"a": 1.0})
    assert not choice.masks["0/mlp"][0]
    assert choice.masks["0/mlp"][47]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_scores_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"mask\.metric: taylor: the scores of site 0/mlp are not finite"):
        chosen(torch.full((48,), value), {"a": 1.0, "b": 1.0})


def test_scores_that_are_all_zero_are_refused() -> None:
    with pytest.raises(InputError, match=r"mask\.metric: taylor: all scores are 0, so they rank nothing"):
        chosen(torch.zeros(48), {"a": 1.0})
