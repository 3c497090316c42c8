"""How the sizes that masks leave are written into a model's config."""

from collections.abc import Mapping

from torch import Tensor
from transformers import PretrainedConfig

from secateurs.errors import InputError
from secateurs.families.layouts import ATTENTION, MLP, QUERY_HEADS, family_of


def widths(masks: Mapping[str, Tensor], kind: str) -> list[int]:
    """Units kept at each site of a kind, in order of the layers (and of the experts in a layer)."""
    rows = [
        (int(layer), int(expert or 0), int(mask.sum()))
        for name, mask in masks.items()
        for layer, _, site in [name.partition("/")]
        for found, _, expert in [site.partition(".")]
        if found == kind
    ]
    return [width for *_, width in sorted(rows)]


def resize_config(config: PretrainedConfig, masks: Mapping[str, Tensor]) -> None:
    """Write the sizes that `masks` leave of a dense model into its config.

    Where all layers agree they are the config's own numbers, and stock classes load the result. Otherwise,
    and where the config's class refuses the new number of heads (some want it to divide hidden_size), they
    go into transformers' `per_layer_config`, next to the dense numbers; checkpoints/saving.py writes the
    class that reads it. `head_dim` becomes explicit once heads are gone, because it can no longer be
    derived.
    """
    dense = dict(_sizes(config, {}, 0))
    layers = [_sizes(config, masks, layer) for layer in range(config.num_hidden_layers)]
    if all(sizes == dense for sizes in layers):
        return
    heads_go = any(sizes.get("num_attention_heads") != dense.get("num_attention_heads") for sizes in layers)
    if heads_go:
        config.head_dim = head_dim(config)
    if all(sizes == layers[0] for sizes in layers):
        for name, value in layers[0].items():
            setattr(config, name, value)
        if _accepted(config):
            return
        for name, value in dense.items():
            setattr(config, name, value)
    # Some config classes check the number of heads when they are loaded, and may then read the dense one.
    config.allow_global_per_layer_attribute_access = heads_go
    config.per_layer_config = dict(enumerate(layers))


def head_dim(config: PretrainedConfig) -> int:
    """The size of a head: the config's own number, or hidden_size / num_attention_heads."""
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def _accepted(config: PretrainedConfig) -> bool:
    try:
        config.validate_architecture()
    except ValueError:
        return False
    return True


def _sizes(config: PretrainedConfig, masks: Mapping[str, Tensor], layer: int) -> dict[str, int]:
    """The sizes of one layer by the config's own names; of the dense one where there is no mask."""
    family = family_of(config)
    own = {name: mask for name, mask in masks.items() if name.partition("/")[0] == str(layer)}
    mlp = set(widths(own, MLP))
    if len(mlp) > 1:
        raise InputError(
            f"masks: {layer}/{MLP}: the experts of a layer must have one width, not {sorted(mlp)}"
        )
    sizes = {family.width: mlp.pop() if mlp else getattr(config, family.width)}
    if ATTENTION in family.refused:
        return sizes
    groups, heads = config.num_key_value_heads, config.num_attention_heads
    kept_groups = widths(own, ATTENTION)[0] if f"{layer}/{ATTENTION}" in own else groups
    kept_heads = widths(own, QUERY_HEADS)[0] if f"{layer}/{QUERY_HEADS}" in own else heads
    if kept_groups < groups and kept_heads < heads:
        raise InputError(
            f"masks: {layer}/{ATTENTION}, {layer}/{QUERY_HEADS}: only one of them can remove heads"
        )
    sizes["num_key_value_heads"] = kept_groups
    sizes["num_attention_heads"] = kept_heads if kept_heads < heads else heads // groups * kept_groups
    return sizes
