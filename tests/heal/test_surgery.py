"""Cutting and healing whole models."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters
from secateurs.families.hooks import hooked
from secateurs.heal.layers import HealingText, cut_and_heal
from secateurs.kinds.channels import output_projection
from secateurs.kinds.sites import all_kept_masks, sites_of
from secateurs.settings.pruning import Surgery
from tests.tiny import make_tiny_model

CHANNELS = ("attention", "query_heads", "mlp")
IDS = torch.randint(0, 258, (6, 24), generator=torch.Generator().manual_seed(2))


def random_masks(model: LlamaForCausalLM, kinds: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Half of the units of each kind, the same number in every layer."""
    generator = torch.Generator().manual_seed(5)
    masks = all_kept_masks(model)
    for site in sites_of(model, kinds):
        masks[site.name][torch.randperm(site.units, generator=generator)[: site.units // 2]] = False
    return masks


def pruned(
    model: LlamaForCausalLM, masks: dict[str, torch.Tensor], method: Any, **changes: Any
) -> LlamaForCausalLM:
    smaller = copy.deepcopy(model).requires_grad_(False)
    options = {"alpha": 0.5, "ridge": 0.01, **changes}
    batch_size = options.pop("batch_size", 4)
    cut_and_heal(
        smaller,
        masks,
        HealingText({"text": IDS}, {"text": 1.0}),
        Surgery(heal=method, **options),
        device=torch.device("cpu"),
        batch_size=batch_size,
        on_layer=lambda: None,
    )
    return smaller


@torch.no_grad()
def masked_logits(model: LlamaForCausalLM, masks: dict[str, torch.Tensor]) -> torch.Tensor:
    """The dense model's logits with the masked channels set to zero: what a cut must compute."""

    def zeroing(kept: torch.Tensor) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], Any]:
        return lambda _, inputs: (inputs[0] * kept,)

    with hooked(
        (output_projection(model, site), zeroing(site.of_features(masks[site.name])))
        for site in sites_of(model, CHANNELS)
    ):
        logits: torch.Tensor = model(IDS).logits
    return logits


@torch.no_grad()
def error(model: LlamaForCausalLM, dense: LlamaForCausalLM) -> float:
    """Mean squared error of the last hidden state on the healing text."""
    return float((model.model(IDS).last_hidden_state - dense.model(IDS).last_hidden_state).square().mean())


@pytest.mark.parametrize("kinds", [("mlp",), ("attention",), ("mlp", "attention")])
def test_cut_equals_masked(kinds: tuple[str, ...]) -> None:
    model = make_tiny_model()
    masks = random_masks(model, kinds)
    with torch.no_grad():
        difference = (pruned(model, masks, "none")(IDS).logits - masked_logits(model, masks)).abs().max()
    assert float(difference) <= 1e-3


def test_a_cut_removes_the_parameters_it_was_counted_for() -> None:
    model = make_tiny_model()
    masks = random_masks(model, ("mlp", "attention"))
    counted = sum(
        site.kind.cost(model, site) * int((~masks[site.name]).sum()) for site in sites_of(model, CHANNELS)
    )
    assert decoder_parameters(model) - decoder_parameters(pruned(model, masks, "none")) == counted


@pytest.mark.parametrize("method", ["none", "least_squares", "residual"])
def test_each_refit_says_what_it_missed_before_and_after(method: Any) -> None:
    model = make_tiny_model().requires_grad_(False)
    healed = cut_and_heal(
        model,
        random_masks(model, ("mlp", "attention")),
        HealingText({"text": IDS}, {"text": 1.0}),
        Surgery(heal=method, alpha=0.5, ridge=0.01),
        device=torch.device("cpu"),
        batch_size=4,
        on_layer=lambda: None,
    ).refits
    kinds = [] if method == "none" else ["attention", "mlp"] * 3
    assert [one.site.rsplit("/", 1)[-1] for one in healed] == kinds
    assert all(0 < one.after < one.before for one in healed)


@pytest.mark.parametrize("method", ["least_squares", "residual"])
@pytest.mark.parametrize("kinds", [("mlp",), ("mlp", "attention")])
def test_healing_brings_the_model_nearer_to_the_dense_one(method: str, kinds: tuple[str, ...]) -> None:
    model = make_tiny_model()
    masks = random_masks(model, kinds)
    assert error(pruned(model, masks, method), model) < 0.8 * error(pruned(model, masks, "none"), model)


@pytest.mark.parametrize("method", ["none", "least_squares", "residual"])
def test_nothing_removed_leaves_every_weight_as_it_was(method: str) -> None:
    model = make_tiny_model()
    same = pruned(model, all_kept_masks(model), method)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))


def test_residual_healing_of_one_layer_is_the_regression_of_its_definition() -> None:
    """The first layer's streams enter equal, so its target is W x of the dense layer: solved by numpy."""
    model = make_tiny_model(num_hidden_layers=1)
    masks = random_masks(model, ("mlp",))
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
    healed = pruned(model, masks, "residual").model.layers[0].mlp.down_proj.weight
    assert torch.allclose(healed.double(), expected, atol=1e-4)


def test_alpha_draws_the_streams_together() -> None:
    model = make_tiny_model(num_hidden_layers=6)
    masks = random_masks(model, ("mlp",))
    with_term, without = (error(pruned(model, masks, "residual", alpha=alpha), model) for alpha in (0.5, 0.0))
    assert with_term < without


def test_batch_size_does_not_show() -> None:
    model = make_tiny_model()
    masks = random_masks(model, ("mlp", "attention"))
    with torch.no_grad():
        one, other = (pruned(model, masks, "residual", batch_size=size)(IDS).logits for size in (1, 4))
    assert torch.allclose(one, other, atol=1e-3)


def test_a_cut_checkpoint_loads_with_stock_classes_and_says_the_same(tmp_path: Path) -> None:
    model = make_tiny_model()
    smaller = pruned(model, random_masks(model, ("mlp", "attention")), "residual")
    smaller.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (loaded.config.intermediate_size, loaded.config.num_key_value_heads) == (24, 1)
    with torch.no_grad():
        assert torch.allclose(loaded(IDS).logits, smaller(IDS).logits, atol=1e-5)


def test_tied_embeddings_stay_tied() -> None:
    model = make_tiny_model()
    smaller = pruned(model, random_masks(model, ("mlp",)), "residual")
    assert smaller.lm_head.weight is smaller.model.embed_tokens.weight


def test_masks_of_another_model_are_refused() -> None:
    model = make_tiny_model()
    with pytest.raises(InputError, match="0/mlp"):
        pruned(model, {"0/mlp": torch.zeros(7, dtype=torch.bool)}, "none")
