"""Factors on a model's channels, trained in place of its weights and folded into them afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.families.fused_experts import close_experts, open_experts
from secateurs.families.hooks import hooked
from secateurs.kinds.channels import ChannelSite, output_projection
from secateurs.kinds.sites import sites_of


@contextmanager
def scaled(model: PreTrainedModel) -> Iterator[dict[str, nn.Parameter]]:
    """In the context every output projection W of attention and mlp computes W (s * x).

        W <- W diag(s)    when the context is left: shapes and what the model computes stay

    Yields what may be trained, by name: `<projection>.scale`, the s of its inputs [channels], ones at first,
    of W's dtype and device, and the weights of the norms that are not the embeddings'. Those are trained as
    they are, because families differ in whether a norm multiplies by its weight or by 1 + weight.
    """
    open_experts(model)
    outputs = {
        id(output_projection(model, site)) for site in sites_of(model) if isinstance(site, ChannelSite)
    }
    projections = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in outputs
    }
    scales = {
        name: nn.Parameter(module.weight.new_ones(module.in_features)) for name, module in projections.items()
    }
    trained = {f"{name}.scale": scale for name, scale in scales.items()} | norm_weights(model)
    try:
        with hooked((projections[name], _times(scale)) for name, scale in scales.items()):
            yield trained
    finally:
        for name, scale in scales.items():
            projections[name].weight.data.mul_(scale.detach())
        close_experts(model)


def _times(scale: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    # A copy of the model that writes may be in half precision; factors stay in float32.
    return lambda module, inputs: ((inputs[0] * scale).to(module.get_parameter("weight").dtype),)


def norm_weights(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The weights of the model's norms [features], by name: all vectors called `weight` there are."""
    return {
        name: weight
        for name, weight in model.named_parameters()
        if weight.dim() == 1 and name.rpartition(".")[2] == "weight"
    }
