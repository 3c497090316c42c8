"""Layers of several sizes for llama.cpp: `deci`, its llama-like architecture that reads sizes by layer."""

import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
from safetensors import safe_open
from torch import Tensor
from transformers import PretrainedConfig

from secateurs.checkpoints.gguf_rope import FREQUENCIES, divisors, full_rope
from secateurs.errors import InputError
from secateurs.kinds.heads import head_dim

NAME = "deci"
# Families whose layers are Llama's, biases aside.
LIKE_LLAMA = frozenset({"llama", "mistral", "qwen2"})
# Those of which llama.cpp takes the queries to be as many as hidden_size.
FULL_HEADS = frozenset({"qwen2"})
ROPES = ("default", "linear", "llama3")


def needs_deci(config: PretrainedConfig) -> bool:
    """Whether a model has no place in its family's own architecture of llama.cpp.

    That is so where layers differ in size, where there are fewer queries than llama.cpp takes for granted,
    and where angles are divided as Llama 3 divides them in a family for which llama.cpp does not.
    """
    layers = list(config.per_layer_config)
    names = ("intermediate_size", "num_attention_heads", "num_key_value_heads")
    sizes = {tuple(getattr(layer, name, None) for name in names) for layer in layers}
    short = (
        config.model_type in FULL_HEADS
        and layers[0].num_attention_heads * head_dim(layers[0]) != config.hidden_size
    )
    # Only this project knows the class of a checkpoint that comes with its own code.
    own_class = hasattr(config, "auto_map")
    other_angles = full_rope(config)["rope_type"] == "llama3" and config.model_type != "llama"
    return len(sizes) > 1 or short or own_class or other_angles


def check_deci(config: PretrainedConfig) -> None:
    """Raise InputError for what llama.cpp computes otherwise, or not at all, in this architecture."""
    if config.model_type not in LIKE_LLAMA:
        raise InputError(
            f"config.json: model_type: {config.model_type}: its layers differ in size, or have fewer heads "
            "than its GGUF architecture takes, and only layers like Llama's have another one; "
            "prune.widths: uniform, without the site query_heads, leaves what can be written"
        )
    rope = full_rope(config)
    if rope["rope_type"] not in ROPES:
        raise InputError(
            f"config.json: rope_parameters: rope_type: {rope['rope_type']}: not written layer by layer; "
            f"only {', '.join(ROPES)}"
        )
    if (part := rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise InputError(
            f"config.json: rope_parameters: partial_rotary_factor: {part}: angles that turn a part of each "
            "head have no place in this GGUF architecture"
        )
    if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        raise InputError("config.json: layer_types: sliding windows have no place in this GGUF architecture")
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True):
        raise InputError(f"config.json: sliding_window: {window}: has no place in this GGUF architecture")
    if config.hidden_act != "silu":
        raise InputError(f"config.json: hidden_act: {config.hidden_act}: llama.cpp computes silu here")


def add_sizes(writer: gguf.GGUFWriter, config: PretrainedConfig) -> None:
    """Write what llama.cpp must know of a model besides its tensors and its tokenizer."""
    layers = list(config.per_layer_config)
    size = head_dim(layers[0])
    writer.add_block_count(len(layers))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_vocab_size(config.vocab_size)
    writer.add_feed_forward_length(_one_or_all([layer.intermediate_size for layer in layers]))
    writer.add_head_count(_one_or_all([layer.num_attention_heads for layer in layers]))
    writer.add_head_count_kv(_one_or_all([layer.num_key_value_heads for layer in layers]))
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(full_rope(config)["rope_theta"])
    writer.add_rope_dimension_count(size)


def _one_or_all(values: list[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else values


def tensors_of(checkpoint: Path, config: PretrainedConfig) -> Iterator[tuple[str, np.ndarray]]:
    """Each tensor of a checkpoint under its GGUF name, float32, in the order of the files."""
    if full_rope(config)["rope_type"] != "default":
        yield FREQUENCIES, divisors(config, head_dim(config.per_layer_config[0])).numpy().astype(np.float32)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.DECI, config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for file in _files(checkpoint):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                if tied and name.startswith("lm_head."):
                    continue
                found = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if found is None:
                    raise InputError(f"{file}: {name}: has no place in GGUF's architecture {NAME}")
                tensor = tensors.get_tensor(name).float()
                # llama.cpp turns neighbouring features of a head by one angle, transformers features half a
                # head apart.
                if ".layers." in name:
                    layer = config.per_layer_config[int(name.split(".layers.")[1].split(".")[0])]
                    if ".q_proj." in name:
                        tensor = _interleave(tensor, layer.num_attention_heads)
                    elif ".k_proj." in name:
                        tensor = _interleave(tensor, layer.num_key_value_heads)
                yield found, tensor.contiguous().numpy()


def _files(checkpoint: Path) -> list[Path]:
    index = checkpoint / "model.safetensors.index.json"
    if index.exists():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [checkpoint / shard for shard in sorted(set(shards))]
    return [checkpoint / "model.safetensors"]


def _interleave(tensor: Tensor, heads: int) -> Tensor:
    """Bring features i and i + half of each head next to each other; rows are a weight's or a bias's."""
    halves = tensor.view(heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)
