"""Healing whole models of one family; cuts of all families are in tests/families/test_families.py."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from secateurs.errors import InputError
from secateurs.families.hooks import hooked
from secateurs.kinds.sites import all_kept_masks
from secateurs.settings.pruning import Surgery
from tests.families.test_families import half_masks
from tests.healing import IDS, error, healed
from tests.tiny import make_tiny_model


def pruned(
    model: LlamaForCausalLM, masks: dict[str, torch.Tensor], method: Any, alpha: float = 0.5, **options: int
) -> LlamaForCausalLM:
    return healed(model, masks, Surgery(heal=method, alpha=alpha, ridge=0.01), **options)[0]


@pytest.mark.parametrize("method", ["none", "least_squares", "residual"])
def test_each_refit_says_what_it_missed_before_and_after(method: Any) -> None:
    model = make_tiny_model()
    masks = half_masks(model, ("mlp", "attention"))
    refits = healed(model, masks, Surgery(heal=method, alpha=0.5, ridge=0.01))[1].refits
    kinds = [] if method == "none" else ["attention", "mlp"] * 3
    assert [one.site.rsplit("/", 1)[-1] for one in refits] == kinds
    assert all(0 < one.after < one.before for one in refits)


@pytest.mark.parametrize("method", ["least_squares", "residual"])
@pytest.mark.parametrize("kinds", [("mlp",), ("mlp", "attention")])
def test_healing_brings_the_model_nearer_to_the_dense_one(method: str, kinds: tuple[str, ...]) -> None:
    model = make_tiny_model()
    masks = half_masks(model, kinds)
    assert error(pruned(model, masks, method), model) < 0.8 * error(pruned(model, masks, "none"), model)


@pytest.mark.parametrize("method", ["none", "least_squares", "residual"])
def test_nothing_removed_leaves_every_weight_as_it_was(method: str) -> None:
    model = make_tiny_model()
    same = pruned(model, all_kept_masks(model), method)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_residual_healing_of_one_layer_is_the_regression_of_its_definition() -> None:
    """The first layer's streams enter equal, so its target is W x of the dense layer: solved by numpy."""
    model = make_tiny_model(num_hidden_layers=1)
    masks = half_masks(model, ("mlp",))
    seen: list[torch.Tensor] = []
    projection = model.model.layers[0].mlp.down_proj
    with torch.no_grad(), hooked([(projection, lambda _, inputs: seen.append(inputs[0].detach()))]):
        model(IDS)
    x = seen[0].flatten(0, 1).double()
    weight, kept = projection.weight.detach().double(), masks["0/mlp"]
    pull = (0.01 * x[:, kept].square().sum(0)).sqrt()
    stacked = torch.cat([x[:, kept], torch.diag(pull)])
    wanted = torch.cat([x @ weight.T, pull[:, None] * weight[:, kept].T])
    expected = torch.linalg.lstsq(stacked, wanted).solution.T
    found = pruned(model, masks, "residual").model.layers[0].mlp.down_proj.weight
    assert torch.allclose(found.double(), expected, atol=1e-4)


def test_alpha_draws_the_streams_together() -> None:
    model = make_tiny_model(num_hidden_layers=6)
    masks = half_masks(model, ("mlp",))
    with_term, without = (error(pruned(model, masks, "residual", alpha=alpha), model) for alpha in (0.5, 0.0))
    assert with_term < without


def test_batch_size_does_not_show() -> None:
    model = make_tiny_model()
    masks = half_masks(model, ("mlp", "attention"))
    with torch.no_grad():
        one, other = (pruned(model, masks, "residual", batch_size=size)(IDS).logits for size in (1, 4))
    assert torch.allclose(one, other, atol=1e-3)


def test_a_cut_checkpoint_loads_with_stock_classes_and_says_the_same(tmp_path: Path) -> None:
    model = make_tiny_model()
    smaller = pruned(model, half_masks(model, ("mlp", "attention")), "residual")
    smaller.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (loaded.config.intermediate_size, loaded.config.num_key_value_heads) == (24, 1)
    with torch.no_grad():
        assert torch.allclose(loaded(IDS).logits, smaller(IDS).logits, atol=1e-5)


def test_masks_of_another_model_are_refused() -> None:
    model = make_tiny_model()
    with pytest.raises(InputError, match="0/mlp"):
        pruned(model, {"0/mlp": torch.zeros(7, dtype=torch.bool)}, "none")
