"""What the modules of each model family are called: the one place that knows architectures.

A family whose decoder layers are laid out like one below is one line in FAMILIES, keyed by the `model_type`
of its config; another layout is described once, as a Family. Everything else (sizes, heads, biases) is read
off the model. tests/families/test_families.py then runs it on a tiny random model: give it a config there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from transformers import PretrainedConfig

from secateurs.errors import InputError


@dataclass(frozen=True)
class Sublayer:
    """How a family names the modules of one kind of sublayer, relative to the decoder layer.

    inputs: the modules that produce the channels (for attention: query, key, value). A name that stands
    several times is one fused module whose outputs follow one another in that order. Inside a mixture of
    experts, `{expert}` stands for the expert's number.
    output: the projection that takes the channels back towards the residual stream.
    entry: the module whose input is the residual stream before the sublayer; "" is the layer itself.
    post_norm: optional, the norm between the projection and the residual addition.
    added_first: optional, where attention and mlp read the same stream: the projection of the other sublayer,
    whose output is added to the stream before this sublayer's is.
    moe_block: optional, the module that routes tokens to experts and adds up what they give (see
    pruning/experts.py).
    """

    inputs: tuple[str, ...]
    output: str
    entry: str
    post_norm: str | None = None
    added_first: str | None = None
    moe_block: str | None = None

    @property
    def result(self) -> str:
        """The module whose output is all that the sublayer gives: the block of experts, or the projection."""
        return self.moe_block or self.output

    def of_expert(self, number: int) -> "Sublayer":
        """The same with the expert's number in the names."""
        inputs = tuple(name.format(expert=number) for name in self.inputs)
        return replace(self, inputs=inputs, output=self.output.format(expert=number))


@dataclass(frozen=True)
class Gguf:
    """What llama.cpp calls an architecture, and what it does otherwise than transformers.

    interleaved: it turns neighbouring features of a head by one angle, transformers features half a head
    apart. full_heads: it takes the queries to be as many as hidden_size.
    """

    name: str
    interleaved: bool = False
    full_heads: bool = False


@dataclass(frozen=True)
class Family:
    """The layout of a decoder.

    width: the config's name for the number of mlp channels. refused: kinds that cannot be pruned, with the
    reason. gguf: optional, the architecture in llama.cpp; without it the family cannot be exported.
    """

    mlp: Sublayer
    attention: Sublayer
    width: str = "intermediate_size"
    refused: Mapping[str, str] = field(default_factory=dict)
    gguf: Gguf | None = None


_LLAMA = Family(
    mlp=Sublayer(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "post_attention_layernorm"),
    attention=Sublayer(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.o_proj", "input_layernorm"
    ),
)

_PHI3 = replace(
    _LLAMA,
    mlp=replace(_LLAMA.mlp, inputs=("mlp.gate_up_proj",) * 2),
    attention=replace(_LLAMA.attention, inputs=("self_attn.qkv_proj",) * 3),
)

_GEMMA = replace(
    _LLAMA,
    mlp=replace(_LLAMA.mlp, entry="pre_feedforward_layernorm", post_norm="post_feedforward_layernorm"),
    attention=replace(_LLAMA.attention, post_norm="post_attention_layernorm"),
)

# Norms after the sublayers only, so each sublayer reads the stream itself.
_OLMO2_ATTENTION = "the query and key norms run over all heads at once, so removing some changes the others"
_OLMO2 = replace(
    _LLAMA,
    mlp=replace(_LLAMA.mlp, entry="mlp", post_norm="post_feedforward_layernorm"),
    attention=replace(_LLAMA.attention, entry="", post_norm="post_attention_layernorm"),
    refused={"attention": _OLMO2_ATTENTION, "query_heads": _OLMO2_ATTENTION},
)

_MIXTRAL = replace(
    _LLAMA,
    mlp=replace(
        _LLAMA.mlp,
        inputs=("mlp.experts.{expert}.gate_proj", "mlp.experts.{expert}.up_proj"),
        output="mlp.experts.{expert}.down_proj",
        moe_block="mlp",
    ),
)


def _gpt_neox(config: PretrainedConfig) -> Family:
    refusal = "the size of a head is hidden_size / num_attention_heads, so a head cannot go"
    return Family(
        mlp=Sublayer(
            ("mlp.dense_h_to_4h",),
            "mlp.dense_4h_to_h",
            "post_attention_layernorm",
            added_first="attention.dense" if config.use_parallel_residual else None,
        ),
        attention=Sublayer(("attention.query_key_value",), "attention.dense", "input_layernorm"),
        refused={"attention": refusal, "query_heads": refusal},
    )


def _qwen3_moe(config: PretrainedConfig) -> Family:
    if config.mlp_only_layers or config.decoder_sparse_step != 1:
        raise InputError(
            "config.json: mlp_only_layers, decoder_sparse_step: layers without experts among layers with "
            "experts cannot be pruned: they have no width in common"
        )
    return replace(_MIXTRAL, width="moe_intermediate_size")


FAMILIES: Mapping[str, Family | Callable[[PretrainedConfig], Family]] = {
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "gpt_neox": _gpt_neox,
    "llama": replace(_LLAMA, gguf=Gguf("llama", interleaved=True)),
    "mistral": _LLAMA,
    "mixtral": _MIXTRAL,
    "olmo2": _OLMO2,
    "phi3": _PHI3,
    "qwen2": replace(_LLAMA, gguf=Gguf("qwen2", full_heads=True)),
    "qwen3": _LLAMA,
    "qwen3_moe": _qwen3_moe,
    "smollm3": _LLAMA,
}


def family_of(config: PretrainedConfig) -> Family:
    """The layout of a model. Raises InputError for an architecture that is not in FAMILIES."""
    if config.model_type not in FAMILIES:
        text = config.get_text_config(decoder=True).model_type
        instead = (
            f"supported are {', '.join(sorted(FAMILIES))} (to add one, see secateurs/families/layouts.py)"
        )
        if text in FAMILIES:
            instead = f"its text model, {text}, can, as a checkpoint of its own"
        raise InputError(f"config.json: model_type: {config.model_type}: cannot be pruned; {instead}")
    found = FAMILIES[config.model_type]
    return found if isinstance(found, Family) else found(config)
