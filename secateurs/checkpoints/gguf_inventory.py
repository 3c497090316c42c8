"""What a GGUF file says of its model: each key and tensor is used, is known to change nothing, or is refused.

transformers reads some keys and passes over all others, and over tensors that its model has no place for.
Here the rest is put into the config, and what cannot be is refused by name, because the model would be
another one.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import gguf
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from secateurs.checkpoints.gguf_rope import FREQUENCIES, read_rope
from secateurs.checkpoints.gguf_tokens import MISSING, check_tokenizer, ends
from secateurs.checkpoints.raw_config import check_raw
from secateurs.errors import InputError

# Keys of an architecture, without its name, and what configs call their value.
SIZES: dict[str, tuple[str, ...]] = {
    "block_count": ("num_hidden_layers",),
    "context_length": ("max_position_embeddings",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size",),
    "vocab_size": ("vocab_size",),
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
}
# Values that say of a thing that it is not there.
ABSENT: dict[str, Any] = {
    "attention.causal": True,
    "attention.clamp_kqv": 0.0,
    "attention.max_alibi_bias": 0.0,
    "expert_count": 0,
    "expert_used_count": 0,
    "expert_shared_count": 0,
    "leading_dense_block_count": 0,
    "nextn_predict_layers": 0,
    "rope.scaling.factor": 1.0,
}
# Without which llama.cpp loads no model, and transformers takes a number of its own. Of the last two, one.
NEEDED = ("context_length", "embedding_length", "block_count", "attention.head_count")
EPSILONS = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon")
HEADS = frozenset({"attention.key_length", "attention.value_length", "rope.dimension_count"})
SAID = frozenset({"rope.scaling.finetuned", "tensor_data_layout"})
# Of the whole file: where it comes from and how it was made.
PREFIXES = ("GGUF.", "general.", "quantize.", "imatrix.")
# Long, and not looked at here.
_ARRAYS = frozenset({f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type", "merges")})


def take_metadata(file: Path, config: PretrainedConfig) -> None:
    """Complete the config that transformers made of a file by what it passed over, in place.

    Raises InputError naming the key, or the tensor, that has no place in the config.
    """
    # By the module's name, under which a caller may have it parse a file once (see gguf_reading.py).
    reader = gguf.GGUFReader(str(file))
    told: dict[str, Any] = {
        name: None if name in _ARRAYS else field.contents() for name, field in reader.fields.items()
    }
    architecture = told["general.architecture"]
    _check_file(told)
    tokenizer = {key.removeprefix("tokenizer."): told[key] for key in told if key.startswith("tokenizer.")}
    check_tokenizer(tokenizer)
    config.eos_token_id = ends(tokenizer, len(reader.fields["tokenizer.ggml.tokens"].data))
    own = {
        key.removeprefix(f"{architecture}."): value
        for key, value in told.items()
        if key.startswith(f"{architecture}.")
    }
    others = [
        key for key in told if not key.startswith((*PREFIXES, "tokenizer.", "split.", f"{architecture}."))
    ]
    if others:
        raise InputError(f"{others[0]}: {told[others[0]]}: nothing here knows this key")
    try:
        _take(own, reader, config)
    except InputError as error:
        named = "" if str(error).startswith(FREQUENCIES) else f"{architecture}."
        raise InputError(f"{named}{error}") from None
    check_raw(config.to_dict())
    _check_tensors(reader, architecture, config)


def _check_file(told: Mapping[str, Any]) -> None:
    if told.get("general.type", "model") != "model":
        raise InputError(f"general.type: {told['general.type']}: holds no whole model")
    if told.get("split.count", 1) > 1:
        raise InputError(f"split.count: {told['split.count']}: only a part of a model; join the parts first")


def _take(own: dict[str, Any], reader: GGUFReader, config: PretrainedConfig) -> None:
    own = {key: _alike(key, value) for key, value in own.items()}
    _check_values(own)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    biases = {name.split(".")[2] for name in tensors if name.startswith("blk.") and name.endswith(".bias")}
    for attribute, modules in (("attention_bias", {"attn_q"}), ("mlp_bias", {"ffn_up", "ffn_down"})):
        if hasattr(config, attribute):
            setattr(config, attribute, bool(biases & modules))
    for key in SIZES.keys() & own.keys() - {key for key in own if _absent(key, own[key])}:
        names = [name for name in SIZES[key] if hasattr(config, name)]
        if not names:
            raise InputError(f"{key}: {own[key]}: {config.model_type} has no place for it in its config")
        setattr(config, names[0], own[key])
    if hasattr(config, "num_key_value_heads") and "attention.head_count_kv" not in own:
        # llama.cpp takes attention.head_count, and transformers would take the features in another order.
        raise InputError("attention.head_count_kv: not there; convert the model anew")
    _take_head_dim(own, config)
    factors = tensors[FREQUENCIES].data if FREQUENCIES in tensors else None
    used = read_rope(own, factors, config)
    for key, value in own.items():
        if not (key in SIZES or key in HEADS or key in SAID or key in used or _absent(key, value)):
            raise InputError(f"{key}: {value}: nothing here reads it, and it may change the results")


def _check_values(own: Mapping[str, Any]) -> None:
    """Raise InputError for what is missing or no number."""
    lacking = [key for key in NEEDED if key not in own]
    if not any(key in own for key in EPSILONS):
        lacking.append(EPSILONS[0])
    if lacking:
        raise InputError(f"{lacking[0]}: {MISSING}")
    for key, value in own.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{key}: {value}: not a finite number; convert the model anew")


def _alike(key: str, value: Any) -> Any:
    """A value for all layers; a list, which has one by layer, where they are the same."""
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        raise InputError(f"{key}: {value[:8]}: differs between layers, which is not read")
    return value[0]


def _absent(key: str, value: Any) -> bool:
    return key in ABSENT and bool(ABSENT[key] == value)


def _take_head_dim(own: Mapping[str, Any], config: PretrainedConfig) -> None:
    default = config.hidden_size // config.num_attention_heads
    size = own.get("attention.key_length", default)
    for key in sorted(HEADS):
        if own.get(key, size) != size:
            raise InputError(f"{key}: {own[key]}: heads are of {size} features, and the two are taken as one")
    if hasattr(config, "head_dim") or size != default:
        config.head_dim = size
    # What llama.cpp divides the scores of the largest Gemma by, whose files it knows by their layers.
    if (config.model_type, config.num_hidden_layers) in {("gemma2", 46), ("gemma3_text", 62)}:
        config.query_pre_attn_scalar = default


def _check_tensors(reader: GGUFReader, architecture: str, config: PretrainedConfig) -> None:
    # transformers itself reports tensors without a place for the architectures of its newer reader.
    if architecture in GGUF_CONFIG_ARCHS:
        return
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    make: Any = TENSOR_PROCESSORS.get(architecture, TensorProcessor)
    places: Iterable[str] = get_gguf_hf_weights_map(model, make(config=config.to_dict()))
    # Of experts, which are one tensor for all, it has the names without their ending.
    known = {FREQUENCIES, *places, *(f"{name}.weight" for name in places)}
    others = [tensor.name for tensor in reader.tensors if tensor.name not in known]
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(
            f"{others[0]}{more}: {config.model_type} has no place for this tensor, and without it would be "
            "another model"
        )
