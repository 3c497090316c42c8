"""A target of multiply-adds: what counts as one, that it is met, and what cannot meet it."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from secateurs.choose.multiply_adds import work_of
from secateurs.choose.options import options
from secateurs.choose.target import check_target
from secateurs.errors import InputError
from secateurs.evaluation.cost import macs_per_token
from secateurs.families.examples import example_config
from secateurs.families.fused_experts import open_experts
from secateurs.families.twins import twin, twin_config
from secateurs.kinds.sites import cut, sites_of
from secateurs.pruner import prune_model
from secateurs.settings.pruning import Prune
from tests.kinds.test_experts import mixture
from tests.test_prune import SMALL, tokens
from tests.tiny import make_tiny_model


def asked(multiply_adds: int, **given: Any) -> Prune:
    return Prune(multiply_adds=multiply_adds, **{"width_multiple": 1, **given})


def seen(model: PreTrainedModel) -> int:
    """Multiply-adds of the linear modules in a pass over one token."""
    counted, hooks = 0, []

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal counted
        rows = inputs[0].numel() // inputs[0].shape[-1]
        counted += rows * module.get_parameter("weight").numel()

    for module in model.modules():
        if isinstance(module, nn.Linear):
            hooks.append(module.register_forward_hook(note))
    with torch.no_grad():
        model(input_ids=torch.tensor([[5]]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return counted


def test_a_token_takes_every_weight_of_the_linear_modules_once() -> None:
    model = make_tiny_model(tie_word_embeddings=True)
    assert macs_per_token(model) == seen(model)


def test_rows_of_the_vocabulary_that_go_leave_the_head() -> None:
    model = make_tiny_model()
    assert macs_per_token(model) - macs_per_token(model, 192) == (258 - 192) * 32


def test_gpt2_has_its_multiply_adds_in_other_modules() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=96, n_positions=32))
    assert macs_per_token(model) == 2 * (3 + 1 + 4 + 4) * 32 * 32 + 96 * 32


@pytest.mark.parametrize("family", ["qwen2_moe", "gpt_oss", "ernie4_5_moe", "hunyuan_v1_moe", "jamba"])
def test_a_mixture_takes_as_much_opened_as_closed_and_by_its_units(family: str) -> None:
    model = twin(twin_config(example_config(family)))
    opened = open_experts(copy.deepcopy(model))
    assert macs_per_token(opened) == macs_per_token(model)
    work = work_of(opened, asked(1, sites=["mlp"], width_multiple=8))
    cut(opened, {site.name: torch.arange(site.units) % 2 == 0 for site in work.sites})
    gone = sum(site.units // 2 * work.each[site.name] for site in work.sites)
    assert work.whole - macs_per_token(opened) == gone


def test_of_its_experts_a_token_takes_those_that_it_is_given_to() -> None:
    model = mixture()
    # In two layers attention and two experts of three matrices; the head. The router is no linear module.
    each = 32 * 32 * 2 + 2 * 32 * 16 + 2 * 3 * 24 * 32
    assert macs_per_token(model) == 2 * each + 258 * 32


@pytest.mark.parametrize(
    ("sites", "widths"), [(["mlp"], "uniform"), (["mlp"], "per_layer"), (["mlp", "attention"], "uniform")]
)
def test_a_token_takes_no_more_than_was_asked_for(sites: list[str], widths: str) -> None:
    dense = make_tiny_model()
    aim = macs_per_token(dense) - 4000
    budget = asked(aim, sites=sites, widths=widths)
    left = macs_per_token(prune_model(dense, tokens("news"), SMALL.changed(prune=budget)).model)
    # A step is a channel, uniformly one in each of the three layers.
    assert aim - 3 * 3 * 32 < left <= aim


def shared_mixture() -> Any:
    """Routed experts, of which a token is given to 2 of 8, beside one that it always is."""
    sizes = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size")
    return mixture("qwen2_moe", **dict.fromkeys(sizes, 48))


def test_a_mixture_whose_shared_expert_counts_more_loses_no_more_than_it_must() -> None:
    dense = shared_mixture()
    whole = macs_per_token(dense)
    budget = asked(int(0.9 * whole), sites=["mlp"], width_multiple=8)
    settings = SMALL.changed(prune=budget)
    left = macs_per_token(prune_model(dense, tokens("news"), settings).model)
    # A step of 8 channels, of the shared expert and of two of the others, in each of two layers.
    assert int(0.9 * whole) - 2 * 3 * 3 * 8 * 32 < left <= int(0.9 * whole)


def test_blocks_meet_a_target_too() -> None:
    dense = make_tiny_model()
    block = sum(one.weight.numel() for one in dense.model.layers[0].modules() if isinstance(one, nn.Linear))
    mask = SMALL.mask.changed(metric="influence")
    settings = SMALL.changed(prune=asked(macs_per_token(dense) - block, sites=["blocks"]), mask=mask)
    pruned = prune_model(dense, tokens("news"), settings).model
    assert len(pruned.model.layers) == 2
    assert macs_per_token(dense) - macs_per_token(pruned) == block


def test_the_nearest_target_that_is_named_can_be_met() -> None:
    for model, multiple in ((make_tiny_model(), 1), (open_experts(shared_mixture()), 8)):
        with pytest.raises(InputError, match=r"the nearest that can be met is prune\.multiply_adds") as error:
            check_target(model, asked(9, sites=["mlp"], width_multiple=multiple))
        nearest = int(re.findall(r"multiply_adds: (\d+)", str(error.value))[-1])
        check_target(model, asked(nearest, sites=["mlp"], width_multiple=multiple))
        with pytest.raises(InputError):
            check_target(model, asked(nearest - 1, sites=["mlp"], width_multiple=multiple))


@pytest.mark.parametrize(
    ("aim", "sites", "said"),
    [
        (
            10**9,
            ["mlp"],
            "prune.multiply_adds: 1000000000: the dense model has no more than {} multiply-adds a token",
        ),
        (
            9,
            ["experts"],
            "prune.multiply_adds: 9: prune.sites: experts: no multiply-adds of a token go with experts; "
            "leave them out, or ask for prune.parameters",
        ),
    ],
)
def test_what_cannot_be_met_is_refused(aim: int, sites: list[str], said: str) -> None:
    model = open_experts(mixture())
    said = said.format(f"{macs_per_token(model):,}")
    with pytest.raises(InputError, match=re.escape(said)):
        check_target(model, asked(aim, sites=sites, width_multiple=8))


def test_trials_remove_parts_of_the_multiply_adds_and_none_of_them_whole_experts() -> None:
    model = open_experts(mixture())
    whole = macs_per_token(model)
    budget = Prune(multiply_adds=int(0.8 * whole), sites="auto", width_multiple=8)
    found = options(model, budget, "taylor", 64)
    assert found.target == whole - int(0.8 * whole)
    assert "no multiply-adds of a token go" in found.unused["experts"]
    assert set(found.decoder) >= {"mlp", "attention"}
    # The last of the trials takes the whole target by itself where it can.
    assert (258 - found.rows[-1]) * 32 <= found.target + 64 * 32
    for one in found.decoder["attention"]:
        assert one.multiply_adds is None
        assert one.sparsity is not None


def test_units_of_all_kinds_take_what_their_weights_do() -> None:
    model = make_tiny_model()
    work = work_of(model, asked(1, sites=["mlp", "attention"]))
    assert {site.name for site in work.sites} == {site.name for site in sites_of(model, ["mlp", "attention"])}
    assert work.each["0/mlp"] == 3 * 32
