"""The routers of a mixture, trained alone: its experts and all other weights stay as they are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.families.decoder import layers_name
from secateurs.families.discover import family_of

# What a router makes its logits of. Biases of other names (e_score_correction_bias) only choose among the
# experts, so that a loss has no gradient with respect to them.
_LOGITS = ("weight", "bias")


@contextmanager
def routers(model: PreTrainedModel) -> Iterator[dict[str, nn.Parameter]]:
    """In the context the routers' logits are made of float32 copies of their weights.

        logits = W x + b    W [experts, d], b [experts] where a router has one

    Yields these, by the weights' names. When the context is left they are the model's, in tensors of their
    own of the dtype that the weights had, so that what was there may be another model's too. Raises
    SettingError for a model without routers whose experts can go.
    """
    before = router_weights(model)
    trained = {
        name: nn.Parameter(weight.detach().to(torch.float32, copy=True)) for name, weight in before.items()
    }
    for name, weight in trained.items():
        _put(model, name, weight)
    try:
        yield trained
    finally:
        for name, weight in trained.items():
            _put(model, name, weight.detach().to(before[name].dtype))


def router_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """What every router makes its logits of, by name; the model may be on the meta device."""
    layers = layers_name(model)
    names = [
        ".".join(filter(None, (layers, str(index), module, name)))
        for index, layer in enumerate(family_of(model.config).layers)
        if layer.mixture is not None
        for module, name, _ in layer.mixture.rows
        if name in _LOGITS
    ]
    if not names:
        refused = family_of(model.config).refused.get("experts", "its routers are not known")
        raise SettingError(
            f"recover.weights: routers: not for {model.config.model_type}: {refused}; choose scales, "
            "low_rank or all"
        )
    return {name: model.get_parameter(name) for name in names}


def _put(model: PreTrainedModel, name: str, weight: Tensor) -> None:
    module, _, last = name.rpartition(".")
    own = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight, requires_grad=False)
    setattr(model.get_submodule(module), last, own)
