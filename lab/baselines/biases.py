"""FLAP's biases, which stand in for the mean output of removed channels."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.families.decoder import decoder_layers
from secateurs.kinds.channels import output_projection
from secateurs.kinds.kind import Masks
from secateurs.kinds.sites import pruned_sites

FLAGS = ("attention_bias", "mlp_bias")


@torch.no_grad()
def compensate(model: PreTrainedModel, means: Mapping[str, Tensor], masks: Masks) -> None:
    """Put W mean(x) of the channels that `masks` will remove into their projection's bias.

    means: mean inputs of the output projections, float [channels] by site name. The projection's mean output
    over the text that they are of stays what it was. Call it before the channels are cut.

    Biases go on all linear modules of a layer, zero but on the output projections: a config can say that
    attention or mlp has biases, not which of its projections. With both flags set the stock class loads the
    result, where widths allow it; a family whose config lacks the flags has the result in memory only.
    """
    for module in decoder_layers(model).modules():
        if isinstance(module, nn.Linear) and module.bias is None:
            zeros = torch.zeros(module.out_features, dtype=module.weight.dtype, device=module.weight.device)
            module.bias = nn.Parameter(zeros, requires_grad=False)
    for site in pruned_sites(model, masks):
        module = output_projection(model, site)
        gone = ~site.of_features(masks[site.name])
        weight = module.weight[:, gone.to(module.weight.device)]
        lost = weight.double() @ means[site.name][gone].to(weight.device).double()
        module.bias.add_(lost.to(module.bias.dtype))
    for flag in FLAGS:
        if hasattr(model.config, flag):
            setattr(model.config, flag, True)
