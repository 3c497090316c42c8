"""Whole blocks and attentions, against passes that leave them out by hand, and as the method takes them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters
from secateurs.families.hooks import hooked
from secateurs.kinds.registry import kinds
from secateurs.kinds.sites import cut, finish
from secateurs.measure.capture import capture
from secateurs.pruner import prune_model
from secateurs.settings.method import settings_of
from secateurs.settings.pruning import Capture, Prune
from secateurs.text.rows import Text
from tests.test_prune import SMALL, tokens

Make = Callable[..., LlamaForCausalLM]
IDS = torch.randint(0, 258, (4, 12), generator=torch.Generator().manual_seed(3))
GONE = torch.tensor([False])


@pytest.mark.parametrize("name", ["blocks", "attention_blocks"])
def test_influence_is_one_minus_the_cosine_of_the_stream_with_and_without(
    name: str, tiny_model: Make
) -> None:
    model = tiny_model().requires_grad_(False)
    entering: dict[int, torch.Tensor] = {}
    leaving: dict[int, torch.Tensor] = {}
    layers = model.model.layers
    with (
        torch.no_grad(),
        hooked(
            [
                (layer, lambda _, inputs, n=n: entering.update({n: inputs[0]}))
                for n, layer in enumerate(layers)
            ],
            [
                (
                    layer if name == "blocks" else layer.self_attn,
                    lambda _, __, out, n=n: leaving.update({n: out}),
                )
                for n, layer in enumerate(layers)
            ],
        ),
    ):
        model(IDS)
    sites = kinds()[name].sites(model)
    found = capture(model, sites, Text({"d": IDS}), Capture(gradients=False, batch_size=2))["d"]
    for number, h in entering.items():
        after = leaving[number] if name == "blocks" else h + leaving[number][0]
        expected = (1 - F.cosine_similarity(h, after, dim=-1)).mean()
        statistics = found.statistics[f"{number}/{name}"]
        assert float(statistics["influence"]) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("name", ["blocks", "attention_blocks"])
def test_fisher_is_the_squared_gradient_of_a_factor_on_what_is_added(name: str, tiny_model: Make) -> None:
    model = tiny_model().requires_grad_(False)
    factor = torch.ones(1, requires_grad=True)

    def scaled(_: object, inputs: tuple[torch.Tensor, ...], out: object) -> object:
        if name == "blocks":
            return inputs[0] + factor * (out - inputs[0])  # type: ignore[operator]
        return (factor * out[0], *out[1:])  # type: ignore[index]

    layer = model.model.layers[1]
    with hooked(after=[(layer if name == "blocks" else layer.self_attn, scaled)]):
        squares = [
            torch.autograd.grad(model(row[None], labels=row[None]).loss, factor)[0].square() for row in IDS
        ]
    sites = kinds()[name].sites(model)
    found = capture(model, sites, Text({"d": IDS}), Capture(batch_size=2))["d"]
    assert torch.allclose(found.statistics[f"1/{name}"]["fisher"], torch.stack(squares).mean(0), rtol=1e-3)


@pytest.mark.parametrize(
    ("sites", "layers"), [(("blocks",), 2), (("attention_blocks",), 4), (("attention_blocks", "mlp"), 4)]
)
def test_the_method_removes_the_budget_and_what_is_left_loads(
    sites: tuple[str, ...], layers: int, tiny_model: Make, tmp_path: Path
) -> None:
    dense = tiny_model(num_hidden_layers=4)
    budget = Prune(sparsity=0.3 if layers == 2 else 0.15, sites=list(sites), width_multiple=1)
    pruned = prune_model(dense, tokens("news", "code"), SMALL.changed(prune=budget))
    share = 1 - decoder_parameters(pruned.model) / decoder_parameters(dense)
    assert budget.sparsity is not None
    assert budget.sparsity <= share < budget.sparsity + 0.25
    assert share == pytest.approx(pruned.history[-1]["sparsity"])
    assert pruned.model.config.num_hidden_layers == len(pruned.model.model.layers) == layers
    save_model(pruned.model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    with torch.no_grad():
        assert torch.allclose(loaded(IDS).logits, pruned.model(IDS).logits, atol=1e-5)


def test_rounds_number_the_blocks_of_the_dense_model(tiny_model: Make) -> None:
    """A block that goes in the first round leaves the scores of the others where they were."""
    budget = Prune(sparsity=0.5, sites=["blocks"])
    settings = SMALL.changed(prune=budget, rounds={"r1": 0.5, "r2": 1.0})
    pruned = prune_model(tiny_model(num_hidden_layers=4), tokens("news"), settings)
    first, last = (entry["kept"]["blocks"] for entry in pruned.history)
    assert (sum(first), sum(last)) == (3, 2)
    assert all(before >= after for before, after in zip(first, last, strict=True))


def test_a_block_that_is_gone_is_left_out_of_every_list_of_the_config(tiny_model: Make) -> None:
    model = tiny_model(num_hidden_layers=3)
    model.config.layer_types = ["sliding_attention", "full_attention", "sliding_attention"]
    masks = {"0/blocks": GONE}
    cut(model, masks)
    finish(model, masks)
    assert model.config.layer_types == ["full_attention", "sliding_attention"]
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1]


@pytest.mark.parametrize(
    ("sites", "said"),
    [
        (("blocks", "mlp"), "a block takes them with it"),
        (("attention_blocks", "query_heads"), "an attention that goes takes its heads with it"),
    ],
)
def test_kinds_that_hold_one_another_are_refused_together(sites: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        settings_of({"prune.sites": list(sites)})


def test_a_score_that_a_kind_lacks_is_refused_with_those_that_it_has(tiny_model: Make) -> None:
    settings = settings_of({"mask.metric": "magnitude", "prune.sites": ["blocks"], "device": "cpu"})
    with pytest.raises(
        InputError, match="have no such score; choose one of fisher, taylor, influence, random"
    ):
        prune_model(tiny_model(), tokens("news"), settings)
