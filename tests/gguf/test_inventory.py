"""What a GGUF file says of its model, on files that say more than transformers reads."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter

from secateurs.checkpoints.dense import load_dense
from secateurs.errors import InputError
from secateurs.gguf.copying import copy_metadata
from secateurs.settings.sources import PathModel
from stages.planning.architecture import configured_architecture
from tests.gguf.files import llama_file
from tests.project import path_model
from tests.test_export import LLAMA3, checkpoint, load

IDS = torch.arange(2, 40)[None]
ROPE = {"rope_theta": 1e4, "factor": 4.0}
YARN = {**ROPE, "rope_type": "yarn", "original_max_position_embeddings": 128}


def told(
    directory: Path,
    keys: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """The file of a checkpoint with some keys and tensors more, or other, or fewer."""
    reader, keys, target = GGUFReader(llama_file(directory)), keys or {}, directory / "told.gguf"
    writer = GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    copy_metadata(reader, writer, lambda key: key not in keys and key not in without)
    for key, value in keys.items():
        writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    held = {tensor.name: tensor.data for tensor in reader.tensors if tensor.name not in without}
    for name, tensor in (held | (tensors or {})).items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(IDS).logits
    return found


SCALED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": ({**ROPE, "rope_type": "linear"}, {"type": "linear", "factor": 4.0}),
    "yarn": (YARN, {"type": "yarn", "factor": 4.0, "original_context_length": 128}),
}


@pytest.mark.parametrize("kind", SCALED)
def test_keys_that_scale_the_angles_are_used(kind: str, tmp_path: Path) -> None:
    config, keys = SCALED[kind]
    directory = checkpoint(tmp_path, "llama", rope_parameters={"rope_type": "default", "rope_theta": 1e4})
    path = told(directory, {f"llama.rope.scaling.{key}": value for key, value in keys.items()})
    model, _ = load_dense(path_model(path))
    expected = load(directory, rope_parameters=config)
    assert torch.allclose(logits(model), logits(expected), atol=1e-5)
    assert not torch.allclose(logits(load(directory)), logits(expected), atol=1e-2)


@pytest.mark.parametrize("config", [LLAMA3, {**ROPE, "rope_type": "linear"}])
def test_divisors_of_the_frequencies_are_used(config: dict[str, Any], tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "llama", rope_parameters=config)
    model, _ = load_dense(path_model(told(directory)))
    assert torch.allclose(logits(model), logits(load(directory)), atol=1e-5)


def test_the_divisors_of_llama_3_are_told_by_its_published_numbers(tmp_path: Path) -> None:
    published = {**LLAMA3, "rope_theta": 5e5, "original_max_position_embeddings": 8192}
    directory = checkpoint(tmp_path, "llama", hidden_size=64, head_dim=128, rope_parameters=published)
    model, _ = load_dense(path_model(told(directory)))
    found = model.config.rope_parameters
    assert found == {**published, "factor": pytest.approx(8.0)}


def test_divisors_that_no_config_tells_are_refused(tmp_path: Path) -> None:
    factors = np.array([1.0, 3.0, 2.0, 7.0], dtype=np.float32)
    path = told(checkpoint(tmp_path, "llama"), tensors={"rope_freqs.weight": factors})
    with pytest.raises(
        InputError, match=r"told\.gguf: rope_freqs\.weight: divides frequencies by 1 to 7 in no"
    ):
        load_dense(path_model(path))


@pytest.mark.parametrize("kind", ["attention_bias", "mlp_bias"])
def test_biases_are_used(kind: str, tmp_path: Path) -> None:
    directory = checkpoint(
        tmp_path, "llama", attention_bias=kind == "attention_bias", mlp_bias=kind == "mlp_bias"
    )
    model, _ = load_dense(path_model(told(directory)))
    assert torch.allclose(logits(model), logits(load(directory)), atol=1e-5)


def test_the_size_of_a_head_is_that_of_its_keys(tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "llama", head_dim=8)
    model, _ = load_dense(path_model(told(directory, without=("llama.rope.dimension_count",))))
    assert model.config.head_dim == 8
    assert torch.allclose(logits(model), logits(load(directory)), atol=1e-5)


# By what is refused: keys, tensors, and the message.
Refused = tuple[dict[str, Any], dict[str, np.ndarray], str]
LAYER = {"blk.2.attn_norm.weight": np.ones(32, dtype=np.float32)}
REFUSED: dict[str, Refused] = {
    "layer": (
        {},
        LAYER,
        "blk.2.attn_norm.weight: llama has no place for this tensor, and without it would be",
    ),
    "head bias": ({}, {"output.bias": np.ones(320, dtype=np.float32)}, "output.bias: llama has no place for"),
    "some biases": ({}, {"blk.0.attn_q.bias": np.ones(32, dtype=np.float32)}, "weights are missing: model."),
    "nextn": ({"llama.nextn_predict_layers": 1}, {}, "llama.nextn_predict_layers: 1: nothing here reads it"),
    "scale": (
        {"llama.attention.scale": 0.5},
        {},
        "llama.attention.scale: 0.5: nothing here reads it, and it",
    ),
    "longrope": ({"llama.rope.scaling.type": "longrope"}, {}, "llama.rope.scaling.type: longrope: not read"),
    "no factor": ({"llama.rope.scaling.type": "yarn"}, {}, "llama.rope.scaling.factor: not there, but rope."),
    "partial": (
        {"llama.rope.dimension_count": 4},
        {},
        "llama.rope.dimension_count: 4: heads are of 8 features",
    ),
    "other": (
        {"clip.has_vision_encoder": True},
        {},
        "clip.has_vision_encoder: True: nothing here knows this",
    ),
    "part": ({"split.count": 3}, {}, "split.count: 3: only a part of a model; join the parts first"),
    "adapter": ({"general.type": "adapter"}, {}, "general.type: adapter: holds no whole model"),
    "pre": (
        {"tokenizer.ggml.pre": "own"},
        {},
        "tokenizer.ggml.pre: own: does not say how to cut text before",
    ),
    "model": (
        {"tokenizer.ggml.model": "rwkv"},
        {},
        "tokenizer.ggml.model: rwkv: only gpt2 and llama are read",
    ),
    "tokens": (
        {"tokenizer.ggml.add_sep_token": True},
        {},
        "tokenizer.ggml.add_sep_token: True: nothing here",
    ),
}


NO_NUMBER = "nan: not a finite number; convert the model anew"
MISSING = "not there, and llama.cpp reads no such file; convert the model anew"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "base": ({"llama.rope.freq_base": float("nan")}, f"llama.rope.freq_base: {NO_NUMBER}"),
    "epsilon": (
        {"llama.attention.layer_norm_rms_epsilon": float("nan")},
        f"llama.attention.layer_norm_rms_epsilon: {NO_NUMBER}",
    ),
    "no base": (
        {"llama.rope.freq_base": 0.0},
        "config.json: rope_parameters.rope_theta: 0.0: must be a number above 0; fetch it again",
    ),
    "end": (
        {"tokenizer.ggml.eos_token_id": 320},
        "tokenizer.ggml.eos_token_id: 320: the file has the tokens 0 to 319; convert the model anew",
    ),
    "beginning": (
        {"tokenizer.ggml.bos_token_id": 9999},
        "tokenizer.ggml.bos_token_id: 9999: the file has the tokens 0 to 319; convert the model anew",
    ),
    "end of a turn": (
        {"tokenizer.ggml.eot_token_id": 9999},
        "tokenizer.ggml.eot_token_id: 9999: the file has the tokens 0 to 319; convert the model anew",
    ),
    "scaled linearly": (
        {"llama.rope.scale_linear": 4.0},
        "llama.rope.scale_linear: 4.0: nothing here reads it, and it may change the results",
    ),
    "not causal": (
        {"llama.attention.causal": False},
        "llama.attention.causal: False: nothing here reads it, and it may change the results",
    ),
    "window": (
        {"llama.attention.sliding_window": 8},
        "llama.attention.sliding_window: 8: llama has no place for it in its config",
    ),
    "whitespace": (
        {"tokenizer.ggml.remove_extra_whitespaces": True},
        "tokenizer.ggml.remove_extra_whitespaces: True: nothing here reads it, and it may change the tokens",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_by_key(name: str, tmp_path: Path) -> None:
    keys, message = WRONG[name]
    path = told(checkpoint(tmp_path, "llama"), keys)
    with pytest.raises(InputError) as refused:
        load_dense(path_model(path))
    assert str(refused.value) == f"model.path: {path}: {message}"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("llama.context_length", MISSING),
        ("llama.block_count", MISSING),
        ("llama.attention.layer_norm_rms_epsilon", MISSING),
        ("tokenizer.ggml.tokens", MISSING),
        ("tokenizer.ggml.merges", MISSING),
        ("llama.attention.head_count_kv", "not there; convert the model anew"),
    ],
)
def test_a_key_that_transformers_would_make_up_is_refused(key: str, message: str, tmp_path: Path) -> None:
    path = told(checkpoint(tmp_path, "llama"), without=(key,))
    with pytest.raises(InputError) as refused:
        load_dense(path_model(path))
    assert str(refused.value) == f"model.path: {path}: {key}: {message}"


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_place_is_refused_by_name(name: str, tmp_path: Path) -> None:
    keys, tensors, message = REFUSED[name]
    kept = checkpoint(tmp_path, "llama", head_dim=8, attention_bias=False, mlp_bias=False)
    with pytest.raises(InputError, match=rf"^model\.path: .*told\.gguf: {re.escape(message)}"):
        load_dense(path_model(told(kept, keys, tensors)))


def test_a_file_that_names_no_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    path = told(checkpoint(tmp_path, "llama"), without=("tokenizer.ggml.pre",))
    with pytest.raises(InputError, match=r"tokenizer\.ggml\.pre: not there: does not say how to cut text"):
        load_dense(path_model(path))


HARMLESS: dict[str, Any] = {
    "general.license": "mit",
    "quantize.imatrix.file": "x",
    "llama.rope.scaling.type": "none",
    "llama.expert_count": 0,
    "tokenizer.ggml.eot_token_id": 1,
}


@pytest.mark.parametrize("key", HARMLESS)
def test_what_changes_nothing_is_passed_over(key: str, tmp_path: Path) -> None:
    directory = checkpoint(tmp_path, "llama")
    model, _ = load_dense(path_model(told(directory, {key: HARMLESS[key]})))
    assert torch.allclose(logits(model), logits(load(directory)), atol=1e-5)


@pytest.mark.parametrize("read", [load_dense, configured_architecture])
def test_the_plan_refuses_what_loading_would(read: Callable[[PathModel], object], here: Path) -> None:
    path = told(checkpoint(here, "llama"), {"llama.attention.scale": 0.5})
    with pytest.raises(
        InputError, match=r"model\.path: .*told\.gguf: llama\.attention\.scale: 0\.5: nothing"
    ):
        read(path_model(path))
