"""Which tensors make up a channel, per model family: the one place that knows architectures.

To add a family whose decoder layers are named like one below, add its `model_type` to FAMILIES; to add
another layout, describe its sublayers once (see `Sublayer`). tests/pruning/test_families.py runs every
entry on a tiny random model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from stages.errors import InputError

MLP = "mlp"
ATTENTION = "attention"

Masks = Mapping[str, Tensor]
"""Site name -> bool [units], True = kept."""


@dataclass(frozen=True)
class Part:
    """The features of one linear module that belong to a site's units.

    Unit u owns features `offset + u * block` to `offset + (u + 1) * block` of the module's outputs (axis 0
    of an nn.Linear's weight, and its bias) or of its inputs (axis 1).
    """

    module: str
    axis: int
    block: int = 1
    offset: int = 0


@dataclass(frozen=True)
class Site:
    """A place in one decoder layer where units (channels or KV groups) can be removed.

    `output` is the projection back into the residual stream; its inputs are the channels that statistics
    are taken of. `entry` is the module whose input is the residual stream before the sublayer.
    """

    layer: int
    kind: str
    units: int
    inputs: tuple[Part, ...]
    output: Part
    entry: str

    @property
    def name(self) -> str:
        """The key of this site in masks and statistics."""
        return f"{self.layer}/{self.kind}"

    @property
    def channels(self) -> int:
        """Input channels of the output projection."""
        return self.units * self.output.block


@dataclass(frozen=True)
class Sublayer:
    """How a family names the modules of one kind of sublayer, relative to the decoder layer.

    `inputs` are the modules that produce the channels (for attention: query, key, value). A name that
    stands several times is one fused module whose outputs follow one another in that order.
    """

    inputs: tuple[str, ...]
    output: str
    entry: str


@dataclass(frozen=True)
class Family:
    """The layout of a decoder: where its layers are and what their sublayers are called."""

    mlp: Sublayer
    attention: Sublayer
    layers: str = "layers"


_LLAMA = Family(
    mlp=Sublayer(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj", "post_attention_layernorm"),
    attention=Sublayer(
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.o_proj", "input_layernorm"
    ),
)

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "smollm3": _LLAMA,
    "phi3": Family(
        mlp=replace(_LLAMA.mlp, inputs=("mlp.gate_up_proj", "mlp.gate_up_proj")),
        attention=replace(_LLAMA.attention, inputs=("self_attn.qkv_proj",) * 3),
    ),
}


def family_of(config: PretrainedConfig) -> Family:
    """The layout of a model. Raises InputError for an architecture that is not in FAMILIES."""
    if config.model_type not in FAMILIES:
        raise InputError(
            f"config.json: model_type: {config.model_type}: cannot be pruned; supported are "
            f"{', '.join(sorted(FAMILIES))} (to add one, see stages/pruning/families.py)"
        )
    return FAMILIES[config.model_type]


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers in order."""
    layers = model.base_model.get_submodule(family_of(model.config).layers)
    assert isinstance(layers, nn.ModuleList)
    return layers


def sites_of(model: PreTrainedModel, kinds: tuple[str, ...] = (ATTENTION, MLP)) -> list[Site]:
    """All sites of the given kinds, in the order data flows through them.

    Sizes are read off the weights, not the config, so a model that was cut is described as it is.
    """
    family = family_of(model.config)
    head_dim = getattr(model.config, "head_dim", None) or (
        model.config.hidden_size // model.config.num_attention_heads
    )
    group = model.config.num_attention_heads // model.config.num_key_value_heads
    sites = []
    for index, layer in enumerate(decoder_layers(model)):
        if ATTENTION in kinds:
            names = family.attention
            units = _linear(layer, names.output).in_features // (group * head_dim)
            blocks = (group * head_dim, head_dim, head_dim)
            sites.append(_site(index, ATTENTION, units, blocks, names))
        if MLP in kinds:
            units = _linear(layer, family.mlp.output).in_features
            sites.append(_site(index, MLP, units, (1,) * len(family.mlp.inputs), family.mlp))
    return sites


def _site(layer: int, kind: str, units: int, blocks: tuple[int, ...], names: Sublayer) -> Site:
    ends: dict[str, int] = {}
    parts = []
    for module, block in zip(names.inputs, blocks, strict=True):
        parts.append(Part(module, 0, block, ends.get(module, 0)))
        ends[module] = ends.get(module, 0) + units * block
    return Site(layer, kind, units, tuple(parts), Part(names.output, 1, blocks[0]), names.entry)


def _linear(layer: nn.Module, name: str) -> nn.Linear:
    module = layer.get_submodule(name)
    assert isinstance(module, nn.Linear), f"{name} is a {type(module).__name__}, not nn.Linear"
    return module


def output_projection(model: PreTrainedModel, site: Site) -> nn.Linear:
    """The module whose weight [hidden, channels] takes the site's channels back into the stream."""
    return _linear(decoder_layers(model)[site.layer], site.output.module)


def all_kept_masks(model: PreTrainedModel) -> dict[str, Tensor]:
    """Masks that remove nothing, for every site of every kind."""
    return {site.name: torch.ones(site.units, dtype=torch.bool) for site in sites_of(model)}


def decoder_parameters(model: PreTrainedModel) -> int:
    """Parameters of the decoder layers: embeddings, final norm and head left out."""
    return sum(parameter.numel() for parameter in decoder_layers(model).parameters())


def unit_parameters(model: PreTrainedModel, site: Site) -> int:
    """Parameters that one unit of the site takes with it."""
    layer = decoder_layers(model)[site.layer]
    total = 0
    for part in (*site.inputs, site.output):
        module = _linear(layer, part.module)
        other = module.in_features if part.axis == 0 else module.out_features
        bias = part.block if part.axis == 0 and module.bias is not None else 0
        total += part.block * other + bias
    return total


def channel_mask(site: Site, units: Tensor) -> Tensor:
    """Bool over units -> bool over the channels of the output projection."""
    return units.repeat_interleave(site.output.block)


def cut_layer(layer: nn.Module, site: Site, units: Tensor) -> None:
    """Remove, in place, the units of `site` that are False in `units` from a decoder layer's modules."""
    kept: dict[tuple[str, int], Tensor] = {}
    for part in (*site.inputs, site.output):
        module = _linear(layer, part.module)
        size = module.out_features if part.axis == 0 else module.in_features
        features = kept.setdefault((part.module, part.axis), torch.ones(size, dtype=torch.bool))
        features[part.offset : part.offset + site.units * part.block] = units.repeat_interleave(part.block)
    for (name, axis), features in kept.items():
        _shrink(_linear(layer, name), axis, features)


def _shrink(module: nn.Linear, axis: int, features: Tensor) -> None:
    index = features.nonzero().squeeze(1).to(module.weight.device)
    trainable = module.weight.requires_grad
    module.weight = nn.Parameter(module.weight.detach().index_select(axis, index), requires_grad=trainable)
    if axis == 0:
        module.out_features = len(index)
        if module.bias is not None:
            module.bias = nn.Parameter(module.bias.detach()[index], requires_grad=trainable)
    else:
        module.in_features = len(index)


def cut(model: PreTrainedModel, masks: Masks) -> None:
    """Remove every masked unit of `model` in place and make its config say so."""
    layers = decoder_layers(model)
    for site in pruned_sites(model, masks):
        cut_layer(layers[site.layer], site, masks[site.name])
    resize_config(model.config, masks)


def pruned_sites(model: PreTrainedModel, masks: Masks) -> Iterator[Site]:
    """The sites of which `masks` removes something. Raises InputError where masks do not fit the model."""
    sites = {site.name: site for site in sites_of(model)}
    unknown = set(masks) - set(sites)
    if unknown:
        raise InputError(f"masks: {', '.join(sorted(unknown))}: the model has no such site")
    for name, mask in masks.items():
        if mask.shape != (sites[name].units,):
            raise InputError(
                f"masks: {name}: {tuple(mask.shape)} does not fit the model's {sites[name].units} units"
            )
    return (site for name, site in sites.items() if name in masks and not bool(masks[name].all()))


def widths(masks: Masks, kind: str) -> list[int]:
    """Units kept in each layer, in order of the layers."""
    rows = [(int(name.split("/")[0]), int(mask.sum())) for name, mask in masks.items() if name.endswith(kind)]
    return [width for _, width in sorted(rows)]


def resize_config(config: PretrainedConfig, masks: Masks) -> None:
    """Write the new sizes into a config, where one number says them for all layers.

    Widths that differ between layers go into `mlp_widths` and `kv_groups`, which stages/modelling.py reads.
    """
    mlp, attention = widths(masks, MLP), widths(masks, ATTENTION)
    if len(set(mlp)) == 1:
        config.intermediate_size = mlp[0]
    elif mlp:
        config.mlp_widths = mlp
    if not attention or all(int(n) == config.num_key_value_heads for n in attention):
        return
    group = config.num_attention_heads // config.num_key_value_heads
    # Fewer heads than hidden_size / head_dim: the size of a head can no longer be derived.
    config.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if len(set(attention)) == 1:
        config.num_key_value_heads = attention[0]
        config.num_attention_heads = attention[0] * group
    else:
        config.kv_groups = attention
