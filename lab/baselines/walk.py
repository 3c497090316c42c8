"""The calibration text's residual stream through a model, layer by layer, with statistics of the channels."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.offloading import Offloading
from secateurs.families.decoder import decoder_layers
from secateurs.families.hooks import hooked
from secateurs.heal.residual_streams import enter
from secateurs.heal.watching import projection
from secateurs.kinds.channels import ChannelSite
from secateurs.kinds.statistics import ChannelSums

BATCH = 8

Sequences = Mapping[str, Tensor]
"""Domain -> calibration text, int64 [count, tokens]."""

Visit = Callable[[nn.Module, list[ChannelSite], Mapping[str, ChannelSums]], bool]
"""(decoder layer, its sites, sums of the inputs of their output projections) -> was the layer changed?"""


def batches(sequences: Sequences) -> list[Tensor]:
    """All text in batches of ids, int64 [at most BATCH, tokens]; every token counts the same."""
    return list(torch.cat(list(sequences.values())).split(BATCH))


@torch.no_grad()
def walk(model: PreTrainedModel, sites: list[ChannelSite], sequences: Sequences, visit: Visit) -> None:
    """Call `visit` on every layer with the statistics of what the output projections of its sites read.

    A layer that was changed runs again, because the next one is measured on the output of the changed layer.
    """
    hidden, calls = enter(model, batches(sequences), Offloading(model.device))
    for index, layer in enumerate(decoder_layers(model)):
        own = [site for site in sites if site.layer == index]
        sums = {site.name: ChannelSums(site.features, gradients=False) for site in own}
        with hooked((projection(layer, site), _adding_to(sums[site.name])) for site in own):
            after = [calls.run(index, layer, one.to(model.device)).cpu() for one in hidden]
        if visit(layer, own, sums):
            after = [calls.run(index, layer, one.to(model.device)).cpu() for one in hidden]
        hidden = after


@torch.no_grad()
def streams(model: PreTrainedModel, batch: Tensor) -> list[Tensor]:
    """The residual stream before every layer and after the last one, [batch, tokens, d] each.

    The model's own list of hidden states is not used, because its last one has passed the final norm.
    """
    (hidden,), calls = enter(model, [batch], Offloading(model.device))
    states = [hidden.to(model.device)]
    for index, layer in enumerate(decoder_layers(model)):
        states.append(calls.run(index, layer, states[-1]))
    return states


def _adding_to(sums: ChannelSums) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda _, inputs: sums.add_activations(inputs[0])
