"""A tiny random twin of any model: the same class and the same layers one by one, in small sizes.

What a decoder is made of does not depend on how wide it is. A twin has as many layers as the model, of the
same types in the same order, and every flag of its config; hidden size, heads, experts, vocabulary, states
and windows are shrunk. It is built and run in a fraction of a second.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
)

VOCABULARY = 96
HEAD, HEADS, GROUPS = 16, 4, 2
HIDDEN = HEAD * HEADS
# Each width of a config gets a size of its own, by which a module tells what it was sized by.
WIDTHS = range(72, 72 + 8 * 16, 8)
# With the stock 0.02 so small a model is nearly linear; wider weights make its channels differ.
DEVIATION = 0.1
NOISE = 0.1
# What configs call the number of experts, how many of them a token is given to, in how many groups they
# stand, and to how many groups a token is given.
EXPERTS = r"^(num_local|num|n_routed|moe_num)_experts$"
CHOSEN = r"^(num_experts_per_tok(en)?|moe_k|moe_topk|top_k_experts)$"
EXPERT_GROUPS = r"^(n_group|num_expert_group)$"
CHOSEN_GROUPS = r"^topk_group$"


def _at_most(most: int, value: int) -> int:
    return min(value, most)


# What a name means, and the size that it gets. The first pattern that a name matches counts.
_SIZES: tuple[tuple[str, Callable[[int], int | float]], ...] = (
    (r"_token_id$|^pad_idx$", partial(_at_most, 2)),
    (r"^(unpadded_)?vocab_size(_per_layer_input)?$", lambda _: VOCABULARY),
    (r"^(initializer_range|init_std)$", lambda _: DEVIATION),
    (r"^(max_position_embeddings|n_positions|n_ctx|max_seq_len|model_max_length|context_length)$",
     partial(_at_most, 128)),
    (r"window(_size)?$|^(local_attention|attention_chunk_size)$", partial(_at_most, 8)),
    # Half of them, in each of two groups, are as many as a token is given to and more.
    (EXPERTS, partial(_at_most, 8)),
    (CHOSEN, partial(_at_most, 2)),
    (EXPERT_GROUPS, partial(_at_most, 2)),
    (CHOSEN_GROUPS, partial(_at_most, 1)),
    (r"^(mamba_n_heads|n_mamba_heads|mamba_num_heads)$", lambda _: 2 * HIDDEN // HEAD),
    (r"^mamba_d_ssm$|^lru_width$", lambda _: 2 * HIDDEN),
    (r"^attention_hidden_size$", lambda _: 2 * HIDDEN),
    (r"^attention_head_dim$", lambda _: 2 * HEAD),
    (r"^linear_num_key_heads$", partial(_at_most, GROUPS)),
    (r"^(linear_num_value_heads|linear_num_heads)$", partial(_at_most, HEADS)),
    (r"^qk_head_dim$", lambda _: 2 * HEAD),
    (r"head_dim$|^(d_kv|dim_head|d_head|kv_channels|attention_head_size|mamba_d_head|mamba_headdim)$",
     lambda _: HEAD),
    (r"num_key_value_heads$|^num_kv_heads$|^num_query_groups$|^num_global_key_value_heads$",
     partial(_at_most, GROUPS)),
    (r"(num_attention_heads|^n_heads?|^num_heads|^index_n_heads|coder_attention_heads|^attention_heads)$",
     partial(_at_most, HEADS)),
    (r"^(hidden_size|d_model|n_embd|emb_dim|word_embed_proj_dim|embedding_dim|embed_dim|out_hidden_size)$",
     lambda _: HIDDEN),
    (r"(^|_)(d_state|state_size|lora_rank|dt_rank|time_step_rank|chunk_size|index_topk|laurel_rank)$",
     partial(_at_most, 8)),
    (r"^hidden_size_per_layer_input$", partial(_at_most, 8)),
)  # fmt: skip
# Switches by which a class takes a width otherwise than as its config has it.
AS_WRITTEN = {"block_auto_adjust_ff_dim": False}
_WIDTH = re.compile(
    r"intermediate_size|ffn_(hidden_size|dim)$|^(feed_forward_size|dff|dim_ff|n_inner|d_inner|ff_dim|mlp_dim)$"
)


def auto_class(config: PretrainedConfig) -> Any:
    """What builds and loads a model of this config: the class of language models, or that of pictures too."""
    language = type(config) in AutoModelForCausalLM._model_mapping
    return AutoModelForCausalLM if language else AutoModelForImageTextToText


def shapes_of(config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """A model of this config without weights, on the meta device; options: of `from_config`."""
    with torch.device("meta"):
        model: PreTrainedModel = auto_class(config).from_config(config, **options)
    return model


def is_width(name: str) -> bool:
    """Whether an entry of a config with this name says how many channels an mlp has."""
    return _WIDTH.search(name) is not None


def twin_config(config: PretrainedConfig) -> PretrainedConfig:
    """The config of a tiny model of the same class with the same layers.

    Raises what the class raises where it refuses the small sizes.
    """
    widths = iter(WIDTHS)
    known: dict[str, int] = {}

    def width(name: str) -> int:
        if name not in known:
            known[name] = next(widths)
        return known[name]

    made: PretrainedConfig = type(config).from_dict(_shrunk(config.to_dict(), width))
    return made


def twin(config: PretrainedConfig, seed: int = 0) -> PreTrainedModel:
    """A random float32 model of `config`, weights frozen; norms, biases and saved buffers are random too."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: PreTrainedModel = auto_class(config).from_config(config)
        model = model.float().eval().requires_grad_(False)
        for weight in model.parameters():
            if weight.dim() < 2:
                weight.add_(torch.randn_like(weight), alpha=NOISE)
        # Buffers that are not saved are made anew where a model is loaded.
        saved = model.state_dict()
        for name, buffer in model.named_buffers():
            if name not in saved or not buffer.is_floating_point():
                continue
            if buffer.numel() == 1:
                buffer.mul_(1 + NOISE)
            elif buffer.numel() == max(buffer.shape):  # a number for each expert
                buffer.add_(torch.randn_like(buffer), alpha=NOISE)
    return model


def _shrunk(entries: Mapping[str, Any], width: Callable[[str], int]) -> dict[str, Any]:
    """The entries of a config, or of one inside it, with small sizes; width: the size of a named width."""
    new = {name: _sized(name, value, width) for name, value in sorted(entries.items())}
    new |= {name: value for name, value in AS_WRITTEN.items() if name in new}
    heads, groups = (
        next((name for name in names if isinstance(entries.get(name), int)), None)
        for names in (("num_attention_heads", "n_head"), ("num_key_value_heads", "num_kv_heads"))
    )
    if heads and groups and entries[heads] == entries[groups]:
        new[groups] = new[heads]
    rope = new.get("rope_parameters")
    if isinstance(rope, dict):
        size = new.get("qk_rope_head_dim") or new.get("head_dim") or (HIDDEN // new[heads] if heads else HEAD)
        new["rope_parameters"] = _rope(rope, size)
    return new


def _sized(name: str, value: Any, width: Callable[[str], int]) -> Any:
    if isinstance(value, dict):
        return _shrunk(value, width) if name != "id2label" and name != "label2id" else value
    if isinstance(value, list) and (is_width(name) or re.search(CHOSEN, name)):
        return [_sized(name, one, width) for one in value]
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return value
    if isinstance(value, int) and is_width(name):
        return width(name)
    return next((size(int(value)) for pattern, size in _SIZES if re.search(pattern, name)), value)


def _rope(rope: dict[str, Any], head: int) -> dict[str, Any]:
    """The parameters of a rotary embedding with as many factors and sections as a head of this size has."""
    if any(isinstance(one, dict) for one in rope.values()):
        return {name: _rope(one, head) if isinstance(one, dict) else one for name, one in rope.items()}
    pairs = int(head * rope.get("partial_rotary_factor", 1.0)) // 2
    new = dict(rope)
    for name in ("short_factor", "long_factor"):
        if name in rope:
            new[name] = rope[name][:pairs]
    if rope.get("mrope_section"):
        first = pairs - pairs // 4 * 2
        new["mrope_section"] = [first, pairs // 4, pairs // 4]
    return new
