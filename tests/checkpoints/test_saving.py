"""What is saved is read alike by transformers 4, which knows other names, and by the one installed."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.errors import InputError
from secateurs.families.old_names import old_names
from tests.families.test_families import IDS, logits, opened, pruned, tiny, uneven_masks
from tests.tiny import make_tiny_tokenizer

THETA = {"rope_type": "default", "rope_theta": 500000.0}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LOCAL = {
    "full_attention": {"rope_type": "linear", "rope_theta": 500000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 20000.0},
}
LONG = {"short_factor": [1.0, 1.5], "long_factor": [2.0, 3.0]}


def read(directory: Path, name: str = "config.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / name).read_text())
    return found


def uneven(family: str) -> PreTrainedModel:
    """The first layer whole, the second cut by half."""
    model = tiny(family)
    return pruned(model, uneven_masks(opened(model)))


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "changes", "old"),
    [
        ("llama", {"rope_parameters": THETA}, {"rope_theta": 500000.0}),
        (
            "llama",
            {"rope_parameters": {**THETA, "rope_type": "llama3", **LLAMA3}},
            {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        ),
        ("qwen3_moe", {"rope_parameters": THETA}, {"rope_theta": 500000.0, "num_experts": 4}),
        (
            "gemma3_text",
            {"rope_parameters": LOCAL},
            {
                "rope_theta": 500000.0,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "rope_local_base_freq": 20000.0,
            },
        ),
        (
            "gpt_neox",
            {"rope_parameters": {**THETA, "partial_rotary_factor": 0.5}},
            {"rotary_emb_base": 500000.0, "rotary_pct": 0.5},
        ),
        (
            "phi3",
            {
                "head_dim": 4,
                "original_max_position_embeddings": 16,
                "rope_parameters": {**THETA, "rope_type": "longrope", **LONG},
            },
            {
                "rope_theta": 500000.0,
                "partial_rotary_factor": 1.0,
                "rope_scaling": {"type": "longrope", **LONG},
            },
        ),
    ],
)
def test_names_of_transformers_4_are_written_and_change_nothing_here(
    family: str, changes: dict[str, Any], old: dict[str, Any], tmp_path: Path
) -> None:
    model = tiny(family, **copy.deepcopy(changes))
    save_model(model, tmp_path / "once")
    config = read(tmp_path / "once")
    assert old_names(config) == old
    assert config == config | old
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "once")
    assert torch.equal(logits(loaded), logits(model))
    loaded.save_pretrained(tmp_path / "twice")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "twice")), logits(model))


@torch.no_grad()
def test_a_model_converted_in_memory_computes_what_is_loaded(tmp_path: Path) -> None:
    model = in_precision(tiny("phi3"), torch.bfloat16)
    save_model(model, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == model.dtype == torch.bfloat16
    assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize(
    ("name", "value", "dtype", "shown"),
    [
        ("model.norm.weight", 70_000.0, torch.float16, "float16"),
        ("model.layers.1.mlp.up_proj.weight", 3.4e38, torch.bfloat16, "bfloat16"),
        ("model.embed_tokens.weight", float("nan"), torch.float32, "float32"),
        ("model.layers.0.self_attn.q_proj.bias", float("-inf"), torch.float32, "float32"),
    ],
)
def test_weights_that_are_not_finite_are_not_saved(
    name: str, value: float, dtype: torch.dtype, shown: str, tmp_path: Path
) -> None:
    model = tiny("llama")
    model.get_parameter(name).data.view(-1)[3] = value
    in_precision(model, dtype)
    with pytest.raises(InputError) as refused:
        save_model(model, tmp_path)
    assert str(refused.value) == (
        f"weights of the result are not finite in {shown}: {name}; give the dense model in bfloat16 or "
        "float32, which hold larger numbers, or heal by another method (surgery.heal)"
    )
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_is_saved_by_names_of_transformers_4(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    save_tokenizer(tokenizer, tmp_path)
    config = read(tmp_path, "tokenizer_config.json")
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["additional_special_tokens"] == ["<|im_start|>", "<|im_end|>"]
    assert "extra_special_tokens" not in config
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.extra_special_tokens == ["<|im_start|>", "<|im_end|>"]
    text = "<|im_start|>Naïve<|im_end|>"
    assert loaded(text).input_ids == tokenizer(text).input_ids


@torch.no_grad()
def test_layers_of_different_size_load_where_the_config_knows_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To transformers before 5.14, `per_layer_config` is an entry of the config like any other."""
    model = uneven("llama")
    expected = model(IDS, use_cache=False).logits
    save_model(model, tmp_path)
    monkeypatch.setattr(transformers.PretrainedConfig, "per_layer_config", None, raising=False)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    assert not loaded.config.is_heterogeneous
    assert loaded.config.per_layer_config == {1: {"intermediate_size": 12}}
    assert torch.equal(loaded(IDS, use_cache=False).logits, expected)


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt_neox", "qwen3_moe"])
def test_the_model_without_its_head_has_layers_of_different_size_too(family: str, tmp_path: Path) -> None:
    """vLLM's Transformers backend builds that one, by AutoModel."""
    model = uneven(family)
    save_model(model, tmp_path)
    body = AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(body).__name__ == f"Pruned{type(model.base_model).__name__}"
    assert torch.equal(body(IDS).last_hidden_state, model.base_model(IDS).last_hidden_state)


def test_the_config_names_the_class_that_loads_it(tmp_path: Path) -> None:
    """A runtime with a class of its own for the stock name would build layers of one size."""
    save_model(tiny("llama"), tmp_path / "even")
    assert read(tmp_path / "even")["architectures"] == ["LlamaForCausalLM"]
    save_model(uneven("llama"), tmp_path / "uneven")
    assert read(tmp_path / "uneven")["architectures"] == ["PrunedLlamaForCausalLM"]


@torch.no_grad()
def test_layers_are_found_where_the_stock_class_calls_its_body_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In transformers 4 the prefix of Gemma3ForCausalLM is that of the model with pictures."""
    model = uneven("gemma3_text")
    expected = logits(model)
    save_model(model, tmp_path)
    monkeypatch.setattr(transformers.Gemma3ForCausalLM, "base_model_prefix", "language_model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    assert loaded.base_model is loaded
    assert torch.equal(logits(loaded), expected)


def test_a_class_of_its_own_makes_no_weights_up(tmp_path: Path) -> None:
    save_model(uneven("gpt_neox"), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    # What the head is called has changed with transformers.
    (head,) = {name for name in weights if name in {"lm_head.weight", "embed_out.weight"}}
    weights["head.weight"] = weights.pop(head)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    version = transformers.__version__
    with pytest.raises(RuntimeError, match=rf"misses {head} .* saved by transformers {version}; use that"):
        AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)


@torch.no_grad()
def test_a_model_of_an_own_class_is_saved_again_with_it(tmp_path: Path) -> None:
    model = uneven("llama")
    save_model(model, tmp_path / "once")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "once", trust_remote_code=True)
    save_model(loaded, tmp_path / "twice")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "twice", trust_remote_code=True)
    assert torch.equal(logits(again), logits(model))
    assert read(tmp_path / "twice")["rope_theta"] == 10000.0
    assert read(tmp_path / "twice")["auto_map"] == read(tmp_path / "once")["auto_map"]
    first, second = (tmp_path / one / "modeling_pruned.py" for one in ("once", "twice"))
    assert second.read_text() == first.read_text()


def test_other_users_can_read_what_is_saved(tmp_path: Path) -> None:
    save_model(tiny("llama"), tmp_path / "saved")
    (tmp_path / "plain").touch()
    files = list((tmp_path / "saved").iterdir())
    assert {file.stat().st_mode for file in files} == {(tmp_path / "plain").stat().st_mode}
