"""The family of a model, found on its twin, held against what its class is known to do."""

from fractions import Fraction

import pytest
from transformers import AutoConfig, PretrainedConfig

from secateurs.errors import InputError
from secateurs.families.discover import family_of
from secateurs.families.examples import example_config
from secateurs.families.family import Layer, Sublayer, Width


def config(model_type: str, **changes: object) -> PretrainedConfig:
    return AutoConfig.for_model(model_type, num_hidden_layers=2, **changes)


def first(model_type: str, **changes: object) -> Layer:
    return family_of(config(model_type, **changes)).layers[0]


def test_llama_is_found_whole() -> None:
    mlp = Sublayer(
        ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.down_proj",
        (1, 1),
        "mlp.down_proj",
        entry="post_attention_layernorm",
        ends_layer=True,
        width=Width("intermediate_size"),
    )
    names = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    attention = Sublayer(names, "self_attn.o_proj", (), "self_attn.o_proj", entry="input_layernorm")
    found = family_of(config("llama", num_key_value_heads=8))
    assert found.path == "model.layers"
    assert found.layers == (Layer((mlp,), attention, heads=True),) * 2
    assert found.refused.keys() == {"experts"}


def test_a_norm_after_the_projection_is_found() -> None:
    (mlp,) = first("gemma2").mlps
    assert (mlp.entry, mlp.post_norm) == ("pre_feedforward_layernorm", "post_feedforward_layernorm")


def test_a_factor_on_what_a_sublayer_gives_is_found() -> None:
    (mlp,) = first("granite", residual_multiplier=0.22).mlps
    assert mlp.gain == pytest.approx(0.22)


def test_a_parallel_attention_is_found() -> None:
    (mlp,) = first("gpt_neox", use_parallel_residual=True).mlps
    assert (mlp.entry, mlp.added_first) == ("post_attention_layernorm", "attention.dense")
    (mlp,) = first("gpt_neox", use_parallel_residual=False).mlps
    assert (mlp.entry, mlp.added_first) == ("post_attention_layernorm", None)


def test_experts_and_what_is_shared_beside_them_have_their_own_widths() -> None:
    shared, experts = first("qwen2_moe").mlps
    assert shared.width == Width("shared_expert_intermediate_size")
    assert experts.width == Width("moe_intermediate_size")
    assert (shared.routed, experts.routed) == (False, True)


def test_shared_experts_as_wide_as_several_have_a_factor() -> None:
    family = family_of(config("deepseek_v3", n_shared_experts=2, first_k_dense_replace=1))
    dense, mixed = (layer.mlps for layer in family.layers)
    assert [mlp.width for mlp in dense] == [Width("intermediate_size")]
    assert {mlp.routed: mlp.width for mlp in mixed} == {
        False: Width("moe_intermediate_size", Fraction(2)),
        True: Width("moe_intermediate_size"),
    }


def test_a_width_listed_by_layer_is_found_where_channels_are() -> None:
    family = family_of(example_config("gemma3n_text"))
    sparse = [pattern > 0 for pattern in example_config("gemma3n_text").activation_sparsity_pattern]
    widths = [[mlp.width for mlp in layer.mlps] for layer in family.layers]
    assert widths == [[] if one else [Width("intermediate_size", listed=True)] for one in sparse]


def test_a_width_that_no_entry_of_the_config_says_is_refused_with_the_reason() -> None:
    # 9.5 times the stream's width, which nothing tells from a coincidence.
    reason = "no entry of its config says how wide ffn.proj_down is"
    assert family_of(config("xlstm", ffn_proj_factor=9.5)).refused["mlp"] == reason


def test_norms_over_all_heads_are_refused_with_the_reason() -> None:
    assert "such as a norm, mixes all heads" in family_of(config("olmo2")).refused["attention"]


def test_a_config_that_does_not_build_is_refused_with_what_its_class_says() -> None:
    with pytest.raises(InputError, match="hunyuan_v1_dense: a small model of it does not run: "):
        family_of(config("hunyuan_v1_dense", head_dim=None))
