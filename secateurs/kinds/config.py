"""How the sizes that masks leave are written into a model's config."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PretrainedConfig

from secateurs.errors import InputError
from secateurs.kinds.names import kept_by_layer, parse_name, pruned_kinds
from secateurs.kinds.registry import exclusions, kinds


def resize_config(config: PretrainedConfig, masks: Mapping[str, Tensor]) -> None:
    """Write the sizes that `masks` leave of a dense model into its config.

    Where all layers agree they are the config's own numbers, and stock classes load the result. Otherwise,
    and where the config's class refuses the new number of heads (some want it to divide hidden_size), they
    go into transformers' `per_layer_config`, next to the dense numbers; checkpoints/saving.py writes the
    class that reads it. What could be derived from the dense numbers only becomes explicit (Kind.explicit).
    """
    dense: dict[str, Any] = {}
    for kind in reversed(list(kinds().values())):
        dense |= kind.sizes(config, None)
    layers = [dense | _sizes(config, masks, layer) for layer in range(config.num_hidden_layers)]
    if all(sizes == dense for sizes in layers):
        return
    explicit: dict[str, Any] = {}
    for name in sorted(pruned_kinds(masks)):
        explicit |= kinds()[name].explicit(config)
    for name, value in explicit.items():
        setattr(config, name, value)
    if all(sizes == layers[0] for sizes in layers):
        for name, value in layers[0].items():
            setattr(config, name, value)
        if _accepted(config):
            return
        for name, value in dense.items():
            setattr(config, name, value)
    # Some config classes check the number of heads when they are loaded, and may then read the dense one.
    config.allow_global_per_layer_attribute_access = bool(explicit)
    config.per_layer_config = dict(enumerate(layers))


def _accepted(config: PretrainedConfig) -> bool:
    try:
        config.validate_architecture()
    except ValueError:
        return False
    return True


def _sizes(config: PretrainedConfig, masks: Mapping[str, Tensor], layer: int) -> dict[str, Any]:
    """The sizes of one layer that its masks change, by the config's own names."""
    own = {name: mask for name, mask in masks.items() if parse_name(name).layer == layer}
    cut = pruned_kinds(own)
    for _ in exclusions(cut):
        names = ", ".join(f"{layer}/{name}" for name in kinds() if name in cut)
        raise InputError(f"masks: {names}: only one of them can lose units")
    sizes: dict[str, Any] = {}
    for name in (one for one in kinds() if one in cut):
        try:
            sizes |= kinds()[name].sizes(config, kept_by_layer(own, name)[layer])
        except InputError as error:
            raise InputError(f"masks: {layer}/{name}: {error}") from None
    return sizes
