"""How the sizes that masks leave are written into a model's config."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PretrainedConfig

from secateurs.errors import InputError
from secateurs.families.decoder import text_config
from secateurs.families.discover import family_of
from secateurs.families.family import LINEAR_SIZES
from secateurs.kinds.names import kept_by_layer, parse_name, pruned_kinds
from secateurs.kinds.registry import exclusions, kinds


def resize_config(config: PretrainedConfig, masks: Mapping[str, Tensor]) -> None:
    """Write the sizes that `masks` leave of a dense model into its config.

    Where all layers agree they are the config's own numbers, and stock classes load the result. Otherwise,
    where the config's class refuses the new number of heads (some want it to divide hidden_size), and where
    it makes the sizes of others, they go into transformers' `per_layer_config`, next to the dense numbers;
    checkpoints/saving.py writes the class that reads it. What could be derived from the dense numbers only
    becomes explicit (Kind.explicit).
    """
    own = text_config(config)
    dense: list[dict[str, Any]] = [{} for _ in family_of(config).layers]
    for kind in reversed(list(kinds().values())):
        for layer, sizes in enumerate(dense):
            sizes |= kind.sizes(config, layer, None)
    layers = [sizes | _sizes(config, masks, layer) for layer, sizes in enumerate(dense)]
    if layers == dense:
        return
    for name, value in _explicit(config, masks).items():
        setattr(own, name, value)
    whole: dict[str, Any] = {}
    for sizes in reversed(dense):
        whole |= sizes
    for name in [name for name in whole if isinstance(getattr(own, name), list)]:
        old = getattr(own, name)
        setattr(own, name, [sizes.pop(name, one) for sizes, one in zip(layers, old, strict=True)])
        del whole[name]
    # What layers say that have such a size at all; what dense ones do not have, all must say.
    alike = {name: value for sizes in layers for name, value in sizes.items()}
    added = alike.keys() - whole.keys()
    by_config = LINEAR_SIZES not in alike
    if by_config and all(sizes == {name: alike[name] for name in sizes.keys() | added} for sizes in layers):
        for name, value in alike.items():
            setattr(own, name, value)
        if _accepted(own):
            return
        for name, value in whole.items():
            setattr(own, name, value)
    if own is not config:
        raise InputError(
            f"config.json: model_type: {config.model_type}: a decoder inside another model cannot have "
            "layers of several sizes; use prune.widths: uniform"
        )
    # Some config classes check the number of heads when they are loaded, and may then read the dense one.
    own.allow_global_per_layer_attribute_access = bool(_explicit(config, masks))
    own.per_layer_config = dict(enumerate({**whole, **sizes} for sizes in layers))


def _explicit(config: PretrainedConfig, masks: Mapping[str, Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted(pruned_kinds(masks)):
        found |= kinds()[name].explicit(config)
    return found


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
            sizes |= kinds()[name].sizes(config, layer, kept_by_layer(own, name)[layer])
        except InputError as error:
            raise InputError(f"masks: {layer}/{name}: {error}") from None
    return sizes
