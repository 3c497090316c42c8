"""Whole experts: scores against loops over tokens, cuts against routers whose logits are minus infinity."""

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from secateurs.checkpoints.family_proof import unproved
from secateurs.checkpoints.proof import load_afresh
from secateurs.checkpoints.saving import save_model
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_parameters
from secateurs.families.examples import example_config
from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.families.twins import twin
from secateurs.kinds.experts import KIND
from secateurs.kinds.kind import Masks
from secateurs.kinds.sites import cut, finish
from secateurs.measure.capture import capture
from secateurs.pruner import prune_model
from secateurs.recover.distillation import recover
from secateurs.recover.training import Texts
from secateurs.settings.method import settings_of
from secateurs.settings.pruning import Capture
from secateurs.text.rows import Text
from stages.planning.found import found_lines
from tests.recover.test_distillation import LEFT_OUT, SEQUENCES, TRAINING
from tests.test_prune import tokens

# Softmax and top-k renormalised; a bias in the logits; sigmoid, correction bias and groups; sorted experts.
FAMILIES = ("qwen3_moe", "gpt_oss", "deepseek_v3", "llama4_text", "jamba")
OWN = {
    "prune.sites": ["experts"],
    "mask.metric": "reap",
    "capture.sequences": 1,
    "surgery.sequences": 2,
    "surgery.choice_sequences": 1,
    "device": "cpu",
}
IDS = torch.randint(2, 258, (3, 12), generator=torch.Generator().manual_seed(3))


def mixture(model_type: str = "qwen3_moe", **changes: Any) -> Any:
    """A random mixture of 8 experts in each layer, of which a token is given to 2."""
    fields: dict[str, Any] = {
        "vocab_size": 258, "hidden_size": 32, "intermediate_size": 24, "moe_intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True, "max_position_embeddings": 64,
        "initializer_range": 0.2, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    seed = changes.pop("seed", 0)
    return twin(AutoConfig.for_model(model_type, **{**fields, **changes}), seed)


def half(model: Any) -> dict[str, Tensor]:
    """Masks of the experts with odd numbers, all of the first layer with one more that goes."""
    masks = {}
    for site in KIND.sites(model):
        masks[site.name] = torch.arange(site.units) % 2 == 0
    return masks


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def with_logits_of_minus_infinity(model: Any, masks: Masks) -> Tensor:
    """The stock model's logits where the rows of the dropped experts in the router give minus infinity."""
    handles = []
    for name, mask in masks.items():
        router = model.model.layers[int(name.partition("/")[0])].mlp.gate

        def forward(hidden: Tensor, router: Any = router, mask: Tensor = mask) -> Any:
            given = F.linear(hidden.reshape(-1, hidden.shape[-1]), router.weight)
            values, chosen = given.masked_fill(~mask, -torch.inf).softmax(-1).topk(router.top_k, dim=-1)
            return given, values / values.sum(-1, keepdim=True), chosen

        handles.append((router, router.forward))
        router.forward = forward
    found = logits(model)
    for router, stock in handles:
        router.forward = stock
    return found


def test_a_cut_model_equals_the_whole_one_whose_dropped_logits_are_minus_infinity() -> None:
    model = mixture()
    masks = half(open_experts(model))
    close_experts(model)
    expected = with_logits_of_minus_infinity(model, masks)
    assert not torch.allclose(expected, logits(model), atol=0.1)
    cut(open_experts(model), masks)
    finish(close_experts(model), masks)
    assert torch.allclose(logits(model), expected, atol=1e-5)
    assert model.config.num_experts == model.model.layers[0].mlp.gate.num_experts == 4
    assert model.model.layers[1].mlp.experts.down_proj.shape == (4, 32, 24)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_lose_experts_as_their_proof_shows(family: str) -> None:
    assert unproved(example_config(family), "experts") is None


@pytest.mark.parametrize(
    ("family", "reason"),
    [("llama", "no layer has experts that a router chooses among")],
)
def test_what_has_no_experts_is_refused_with_its_reason(family: str, reason: str) -> None:
    assert unproved(example_config(family), "experts") == reason


def test_a_cut_checkpoint_is_loaded_by_the_stock_class_in_a_fresh_process(tmp_path: Path) -> None:
    model = mixture()
    masks = half(open_experts(model))
    cut(model, masks)
    finish(close_experts(model), masks)
    save_model(model, tmp_path)
    found = load_afresh(tmp_path, IDS, torch.float32, tmp_path)
    assert found.name == "Qwen3MoeForCausalLM"
    assert torch.allclose(found.logits, logits(model), atol=1e-5)


def loop(model: Any, ids: Tensor) -> dict[str, Tensor]:
    """The mean over the tokens routed to expert j of g_j ||f_j(x)||, token by token, in float64."""
    scores = {}
    for index, layer in enumerate(model.model.layers):
        seen: list[Tensor] = []
        handle = layer.mlp.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        with torch.no_grad():
            model(input_ids=ids)
        handle.remove()
        experts, router = layer.mlp.experts.double(), layer.mlp.gate.weight.double()
        sums, counts = torch.zeros(8, dtype=torch.float64), torch.zeros(8)
        for x in seen[0].flatten(0, 1).double():
            gates, chosen = (router @ x).softmax(0).topk(2)
            for gate, number in zip(gates / gates.sum(), chosen, strict=True):
                first, second = (experts.gate_up_proj[number] @ x).chunk(2)
                given = experts.down_proj[number] @ (F.silu(first) * second)
                sums[number] += gate * given.norm()
                counts[number] += 1
        layer.mlp.experts.float()
        scores[f"{index}/experts"] = sums / counts.clamp_min(1)
    return scores


def scores(model: Any, metric: str = "reap", ids: Tensor = IDS) -> dict[str, Tensor]:
    sites = KIND.sites(model)
    settings = Capture(gradients=metric in ("taylor", "fisher"), batch_size=2)
    found = capture(model, sites, Text({"d": ids}), settings)["d"].statistics
    generator = torch.Generator().manual_seed(0)
    return {site.name: KIND.scores(model, site, metric, found[site.name], generator) for site in sites}


def test_the_score_is_the_mean_over_routed_tokens_of_gate_times_norm() -> None:
    found = scores(open_experts(mixture()))
    expected = loop(mixture(), IDS)
    for name, values in expected.items():
        assert torch.allclose(found[name], values, rtol=1e-4)
        assert bool(values.gt(0).any())


def test_frequency_is_the_share_of_tokens_routed_to_an_expert() -> None:
    for values in scores(open_experts(mixture()), "frequency").values():
        assert float(values.sum()) == pytest.approx(2, rel=1e-6)
        assert torch.allclose(values * IDS.numel(), (values * IDS.numel()).round(), atol=1e-4)


def test_fisher_is_the_squared_gradient_of_a_factor_on_what_an_expert_adds() -> None:
    model = open_experts(mixture())
    factor = torch.ones(1, requires_grad=True)
    expert = model.model.layers[1].mlp.experts.get_submodule("3")
    handle = expert.register_forward_hook(lambda _, __, given: factor * given)
    squares = [
        torch.autograd.grad(model(row[None], labels=row[None]).loss, factor)[0].square() for row in IDS
    ]
    handle.remove()
    found = scores(model, "fisher")["1/experts"][3]
    assert float(found) == pytest.approx(float(torch.stack(squares).mean()), rel=1e-3)


def test_an_expert_that_no_token_reaches_scores_0_and_changes_no_other_score() -> None:
    whole, lonely = open_experts(mixture()), open_experts(mixture())
    stays = torch.arange(8) != 5
    with torch.no_grad(), ExitStack() as masked:
        for site in KIND.sites(lonely):
            masked.enter_context(KIND.masked(lonely, site, stays))
        found = scores(lonely)
    cut(whole, dict.fromkeys(found, stays))
    others = scores(whole)
    for name, values in found.items():
        assert float(values[5]) == 0
        assert torch.allclose(values[stays], others[name], rtol=1e-4)


@pytest.mark.parametrize("heal", ["none", "auto", "residual", "least_squares"])
def test_the_method_removes_the_budget_and_what_is_left_loads(heal: str, tmp_path: Path) -> None:
    dense = mixture()
    given = {**OWN, "prune.sparsity": 0.4, "surgery.heal": heal}
    pruned = prune_model(dense, tokens("news", "code"), settings_of(given))
    left = pruned.model.config.num_experts
    assert left == 8 - -(-0.4 * 8 // (decoder_share(dense)))
    assert {len(layer.mlp.experts.down_proj) for layer in pruned.model.model.layers} == {left}
    assert 1 - decoder_parameters(pruned.model) / decoder_parameters(dense) == pytest.approx(
        pruned.history[-1]["sparsity"]
    )
    save_model(pruned.model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits(loaded), logits(pruned.model), atol=1e-5)


def decoder_share(model: Any) -> float:
    """The share of the decoder's parameters that its experts and their rows of the router hold."""
    own = sum(
        one.numel() for name, one in model.named_parameters() if ".experts." in name or ".gate." in name
    )
    return own / decoder_parameters(model)


def grouped() -> Any:
    """A mixture whose router gives a token to 2 experts of one of two groups of 4, with a correction bias."""
    own = {"n_routed_experts": 8, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1}
    sizes = dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "kv_lora_rank"), 8)
    return mixture("deepseek_v3", num_key_value_heads=4, q_lora_rank=None, **own, **sizes)


def test_groups_keep_equally_many_and_a_dense_first_layer_is_left_alone() -> None:
    dense = grouped()
    pruned = prune_model(dense, tokens("news"), settings_of({**OWN, "prune.sparsity": 0.2}))
    mask = pruned.masks["1/experts"].view(2, 4).sum(1)
    assert "0/experts" not in pruned.masks
    assert mask.tolist() == [pruned.model.config.n_routed_experts // 2] * 2 != [4, 4]
    router, before = pruned.model.model.layers[1].mlp.gate, dense.model.layers[1].mlp.gate
    kept = pruned.masks["1/experts"]
    assert torch.equal(router.weight, before.weight[kept])
    assert torch.equal(router.e_score_correction_bias, before.e_score_correction_bias[kept])
    assert (
        pruned.model.model.layers[0].mlp.up_proj.out_features
        == dense.model.layers[0].mlp.up_proj.out_features
    )
    shared = pruned.model.model.layers[1].mlp.shared_experts.up_proj
    assert torch.equal(shared.weight, dense.model.layers[1].mlp.shared_experts.up_proj.weight)


@pytest.mark.parametrize(("model", "least"), [(mixture, 2), (grouped, 4)])
def test_no_budget_takes_experts_that_the_router_needs(model: Any, least: int) -> None:
    """Two are chosen; of each of two groups the router compares the best two."""
    asked = {**OWN, "prune.sparsity": 0.95, "prune.floor": 0.01}
    with pytest.raises(InputError, match="leave at most ") as refused:
        prune_model(model(), tokens("news"), settings_of(asked))
    most = int(re.search("at most ([0-9,]+) to", str(refused.value))[1].replace(",", ""))  # type: ignore[index]
    opened = open_experts(model())
    sites = KIND.sites(opened)
    assert most == sum((8 - least) * KIND.cost(opened, site) for site in sites)


def test_a_unit_costs_what_goes_with_it() -> None:
    model = open_experts(mixture())
    before = decoder_parameters(model)
    cost = sum(KIND.cost(model, site) for site in KIND.sites(model))
    cut(model, {site.name: torch.arange(8) != 3 for site in KIND.sites(model)})
    assert before - decoder_parameters(model) == cost


def test_weights_in_bfloat16_are_cut_bit_for_bit() -> None:
    model = mixture().to(torch.bfloat16)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    masks = half(open_experts(model))
    cut(model, masks)
    after = close_experts(model).state_dict()
    for name, weight in after.items():
        whole = before[name]
        expected = whole[::2] if ".experts." in name or ".gate." in name else whole
        assert torch.equal(weight, expected)


def test_healing_brings_the_blocks_of_experts_nearer_to_the_dense_ones() -> None:
    dense, rows = mixture(), torch.randint(2, 258, (24, 24), generator=torch.Generator().manual_seed(7))
    text = Text({"news": rows})
    given = {
        **OWN,
        "prune.sparsity": 0.3,
        "capture.sequences": 2,
        "surgery.sequences": 16,
        "rounds": {"r1": 1.0},
    }
    expected, apart = logits(dense), {}
    for heal in ("none", "least_squares", "residual"):
        pruned = prune_model(dense, text, settings_of({**given, "surgery.heal": heal}))
        apart[heal] = float((logits(pruned.model) - expected).square().mean())
    assert apart["residual"] < 0.9 * apart["none"]
    # The kept experts already give on the pruned stream what they give.
    assert apart["least_squares"] == pytest.approx(apart["none"], rel=1e-3)


def test_a_recovery_of_all_weights_trains_the_router() -> None:
    student = mixture().requires_grad_(False)
    before = student.model.layers[0].mlp.gate.weight.clone()
    recover(
        student,
        mixture(seed=1),
        Texts(SEQUENCES, LEFT_OUT, {"news": 1.0, "self": 1.0}),
        TRAINING,
        autocast=None,
        snapshot=None,
        on_step=lambda _: None,
    )
    assert not torch.equal(student.model.layers[0].mlp.gate.weight, before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prune.sites": ["experts", "mlp"]}, "an expert that goes takes its channels with it"),
        ({"prune.sites": ["experts", "blocks"]}, "a block takes its experts with it"),
        (
            {"mask.metric": "wanda"},
            "experts have no such score; choose one of reap, frequency",
        ),
        ({"prune.widths": "per_layer"}, "prune.widths: per_layer: all layers must have equally many experts"),
    ],
)
def test_what_experts_cannot_do_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        prune_model(mixture(), tokens("news"), settings_of({**OWN, **changes}))


def test_a_dense_model_has_no_experts_to_lose(tiny_model: Any) -> None:
    with pytest.raises(InputError, match="experts: no layer has experts that a router chooses among"):
        prune_model(tiny_model(), tokens("news"), settings_of(OWN))


def test_the_plan_says_how_many_experts_there_are() -> None:
    lines = found_lines(grouped().config, ("experts",))
    said = "8 experts counted by n_routed_experts, of which a token is given to 2 (num_experts_per_tok)"
    assert f"  1 x mlp.experts, {said}, in 2 groups (n_group)" in lines
