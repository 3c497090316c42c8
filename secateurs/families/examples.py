"""A config of every model_type that transformers makes causal language models of.

Mostly the defaults of its class. Some defaults cannot be built or run, or leave out what published models of
the type have (layers of a second kind, experts, groups of them); those entries are set here.
"""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig

_OWN: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"num_hidden_layers": 6, "attn_layer_indices": [2, 5]},
    "codegen": {"rotary_dim": 8},
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1, "n_group": 4, "topk_group": 2,
                    "topk_method": "group_limited_greedy"},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1,
              "num_experts_per_tok": 2},
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"num_hidden_layers": 4, "layer_types": ["mamba", "attention"] * 2},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128, "num_experts": 8, "moe_topk": 2},
    "lfm2_moe": {"num_hidden_layers": 4, "layer_types": ["conv", "conv", "full_attention", "conv"]},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "xmod": {"default_language": "en_XX", "is_decoder": True},
    "blenderbot": {"encoder_layers": 8},
}  # fmt: skip
# Encoders that are decoders where their config says so.
_ENCODERS = {
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
    "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip


# Enough for each kind of layer that a type has; and types whose defaults do not go with so few.
_LAYERS = 8
_DEEP = {"gemma3n_text", "gpt_neo", "qwen4_exp_text", "zamba2"}


def example_config(model_type: str) -> PretrainedConfig:
    """A config of the type whose model can be built and run. Raises what its class raises."""
    own: dict[str, Any] = {"is_decoder": True} if model_type in _ENCODERS else {**_OWN.get(model_type, {})}
    made: PretrainedConfig = AutoConfig.for_model(model_type, **own)
    layers = getattr(made, "num_hidden_layers", None)
    whole = made.get_text_config(decoder=True) is made and model_type not in _DEEP
    if whole and isinstance(layers, int) and layers > _LAYERS:
        made = AutoConfig.for_model(model_type, **{"num_hidden_layers": _LAYERS, **own})
    return made
