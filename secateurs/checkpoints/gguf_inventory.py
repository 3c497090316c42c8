"""What a GGUF file says of its model: each key and tensor is used, is known to change nothing, or is refused.

transformers reads some keys and passes over all others, and over tensors that its model has no place for.
Here the rest is put into the config, and what cannot be is refused by name, because the model would be
another one.
"""

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

from secateurs.checkpoints.gguf_pre_tokenizers import RULES
from secateurs.checkpoints.gguf_rope import FREQUENCIES, read_rope
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
HEADS = frozenset({"attention.key_length", "attention.value_length", "rope.dimension_count"})
SAID = frozenset({"rope.scaling.finetuned", "tensor_data_layout"})
# Of the tokenizer: what is read, and names of tokens that do nothing to a text's ids.
TOKENIZER = frozenset(
    {f"ggml.{name}" for name in ("model", "pre", "tokens", "scores", "token_type", "merges")}
    | {f"ggml.{name}_token_id" for name in ("bos", "eos", "unknown", "padding", "eot", "eom", "mask", "cls")}
    | {f"ggml.{name}_token_id" for name in ("seperator", "separator", "prefix", "suffix", "middle")}
    | {f"ggml.fim_{name}_token_id" for name in ("pre", "suf", "mid", "pad", "rep", "sep")}
    | {"ggml.add_bos_token", "ggml.add_eos_token", "ggml.add_space_prefix", "chat_template"}
    | {"huggingface.json"}
)
TOKENIZER_ABSENT = {"ggml.add_sep_token": False, "ggml.remove_extra_whitespaces": False}
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
    _check_tokenizer(
        {key.removeprefix("tokenizer."): told[key] for key in told if key.startswith("tokenizer.")}
    )
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
    _check_tensors(reader, architecture, config)


def _check_file(told: Mapping[str, Any]) -> None:
    if told.get("general.type", "model") != "model":
        raise InputError(f"general.type: {told['general.type']}: holds no whole model")
    if told.get("split.count", 1) > 1:
        raise InputError(f"split.count: {told['split.count']}: only a part of a model; join the parts first")


def _check_tokenizer(told: Mapping[str, Any]) -> None:
    for key, value in told.items():
        template = key.startswith("chat_template")
        if not (key in TOKENIZER or template or TOKENIZER_ABSENT.get(key) == value):
            raise InputError(f"tokenizer.{key}: {value}: nothing here reads it, and it may change the tokens")
    model = told.get("ggml.model")
    if model not in ("gpt2", "llama"):
        raise InputError(f"tokenizer.ggml.model: {model}: only gpt2 and llama are read")
    rule = told.get("ggml.pre", "not there")
    if model == "gpt2" and rule not in RULES:
        raise InputError(
            f"tokenizer.ggml.pre: {rule}: does not say how to cut text before merging; known are "
            f"{', '.join(RULES)} (secateurs/checkpoints/gguf_pre_tokenizers.py)"
        )


def _take(own: dict[str, Any], reader: GGUFReader, config: PretrainedConfig) -> None:
    own = {key: _alike(key, value) for key, value in own.items()}
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
    _take_head_dim(own, config)
    factors = tensors[FREQUENCIES].data if FREQUENCIES in tensors else None
    used = read_rope(own, factors, config)
    for key, value in own.items():
        if not (key in SIZES or key in HEADS or key in SAID or key in used or _absent(key, value)):
            raise InputError(f"{key}: {value}: nothing here reads it, and it may change the results")


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
