"""The choice between ways of healing, against divergences from both models' whole logits."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.errors import InputError
from secateurs.heal.healed import Healed
from secateurs.heal.layers import HealingText
from secateurs.kinds.sites import all_kept_masks
from secateurs.settings.pruning import Surgery
from tests import healing
from tests.families.test_families import FAMILIES, IDS, half_masks, opened, tiny
from tests.tiny import make_tiny_model

GENERATOR = torch.Generator().manual_seed(9)
LEFT_OUT = {
    name: torch.randint(3, 96, (count, 20), generator=GENERATOR) for name, count in (("a", 3), ("b", 2))
}
MIXTURE = {"a": 1.0, "b": 2.5}
TEXT = {"a": IDS[:4], "b": IDS[4:]}


def healed(
    model: PreTrainedModel,
    method: Any,
    masks: dict[str, Tensor] | None = None,
    text: Mapping[str, Tensor] = TEXT,
) -> tuple[PreTrainedModel, Healed]:
    masks = half_masks(opened(model), ("mlp",)) if masks is None else masks
    surgery = Surgery(heal=method, alpha=0.5, ridge=0.01)
    return healing.healed(model, masks, surgery, HealingText(text, MIXTURE, LEFT_OUT), batch_size=2)


@torch.no_grad()
def reference(student: PreTrainedModel, teacher: PreTrainedModel) -> float:
    """The mean over tokens of KL(teacher || student), a token of domain d counting MIXTURE[d]."""
    total = count = 0.0
    for domain, ids in LEFT_OUT.items():
        log_q, log_p = (F.log_softmax(model(ids).logits, dim=-1) for model in (student, teacher))
        total += MIXTURE[domain] * float(F.kl_div(log_q, log_p, reduction="sum", log_target=True))
        count += MIXTURE[domain] * ids.numel()
    return total / count


@pytest.mark.parametrize("family", FAMILIES)
def test_auto_is_the_method_that_ends_nearer_to_the_dense_model(family: str) -> None:
    model = tiny(family)
    tried = {method: healed(model, method)[0] for method in ("least_squares", "residual")}
    found, done = healed(model, "auto")
    expected = {method: reference(one, model) for method, one in tried.items()}
    assert done.divergences["residual"] == pytest.approx(expected["residual"], rel=1e-3)
    # Refits of least squares on the stream that residual left are nearly those on its own.
    assert done.divergences["least_squares"] == pytest.approx(expected["least_squares"], rel=0.1)
    assert done.method == min(expected, key=lambda method: expected[method])
    ours, theirs = found.state_dict(), tried[done.method].state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())


def test_each_method_is_chosen_where_it_is_better() -> None:
    """With little text the residual term fits noise, with more it helps."""
    model = make_tiny_model(num_hidden_layers=6)
    rows = torch.randint(3, 96, (120, 20), generator=torch.Generator().manual_seed(3))
    chosen = {count: healed(model, "auto", text={"a": rows[:count]})[1].method for count in (6, 120)}
    assert chosen == {6: "least_squares", 120: "residual"}


def test_layers_behind_the_last_cut_count_too() -> None:
    model = make_tiny_model()
    masks = all_kept_masks(model)
    masks["0/mlp"][::2] = False
    found, done = healed(model, "auto", masks=masks)
    assert done.divergences[done.method] == pytest.approx(reference(found, model), rel=1e-3)


def test_nothing_removed_leaves_nothing_to_choose() -> None:
    model = make_tiny_model()
    same, done = healed(model, "auto", masks=all_kept_masks(model))
    assert done == Healed("none", {})
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_a_method_that_is_named_is_not_compared() -> None:
    assert healed(make_tiny_model(), "least_squares")[1] == Healed("least_squares", {})


def test_a_divergence_that_is_not_finite_is_one_message() -> None:
    model = copy.deepcopy(make_tiny_model())
    model.model.norm.weight.data[0] = torch.nan
    with pytest.raises(InputError, match=r"surgery.heal: auto: healed by least_squares, .* is nan"):
        healed(model, "auto")
