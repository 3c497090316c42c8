"""2SSP (Sandri et al. 2025): channels of the mlp by norms, then whole attention sublayers by perplexity.

Re-implemented after the paper and what its authors' program does by default.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lab.baselines.selection import budget_of, without_least
from lab.baselines.walk import Sequences, batches
from secateurs.errors import InputError
from secateurs.families.decoder import decoder_layers
from secateurs.families.hooks import hooked
from secateurs.inference.head import hidden_states
from secateurs.inference.loss import sequence_losses
from secateurs.kinds.attention_blocks import KIND as ATTENTIONS
from secateurs.kinds.channels import output_projection
from secateurs.kinds.depth import depth_site
from secateurs.kinds.kind import Site
from secateurs.kinds.mlp import KIND as MLP
from secateurs.kinds.sites import cut

# The paper's exponent divides the ratio of the two sublayers' sizes by this.
ALPHA = 1.5
GONE = torch.tensor([False])


def two_stages(model: PreTrainedModel, sequences: Sequences, share: float) -> None:
    """Remove `share` of the decoder's parameters in place, the same number of channels from every layer.

    Stage one keeps the channels j of greatest mean over sequences of ||x_j||, x the input of the mlp's output
    projection. Stage two removes one attention after the other, each time that without which the loss on the
    first batch of the text is least.
    """
    layers: Any = decoder_layers(model)
    attentions = attentions_to_remove(model, share)
    sites = MLP.sites(model)
    costs = sum(MLP.cost(model, site) for site in sites)
    rest = budget_of(model, share) - attentions * _size(layers[0].self_attn)
    channels = round(rest / costs)
    if not 0 <= channels < sites[0].units:
        raise InputError(f"share: {share}: {channels} of {sites[0].units} channels a layer; choose another")
    cut(model, {name: without_least(norms, channels) for name, norms in mean_norms(model, sequences).items()})
    first = batches(sequences)[0]
    for _ in range(attentions):
        _remove_least(model, first)


def attentions_to_remove(model: PreTrainedModel, share: float) -> int:
    """How many stage two removes, the paper's equation 5: round(layers * share^(mlp / attention / ALPHA)).

    mlp, attention: parameters of a layer's. With eight times the attention's parameters in the mlp it is none
    below a share of about a half.
    """
    layers: Any = decoder_layers(model)
    ratio = _size(layers[0].mlp) / _size(layers[0].self_attn)
    count: int = round(len(layers) * share ** (ratio / ALPHA))
    return count


def mean_norms(model: PreTrainedModel, sequences: Sequences) -> dict[str, Tensor]:
    """Mean over sequences of ||x_j||, the norm over a sequence's tokens, float64 [channels] by site name."""
    sites = MLP.sites(model)
    norms: dict[str, Tensor] = {site.name: torch.zeros(site.features, dtype=torch.float64) for site in sites}
    count = sum(map(len, sequences.values()))

    def adding(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            lengths = torch.linalg.vector_norm(inputs[0], dim=1, dtype=torch.float32)
            norms[name] += lengths.sum(dim=0).double().cpu()

        return add

    with torch.no_grad(), hooked((output_projection(model, site), adding(site.name)) for site in sites):
        for batch in batches(sequences):
            hidden_states(model, batch.to(model.device))
    return {name: total / count for name, total in norms.items()}


@torch.no_grad()
def _remove_least(model: PreTrainedModel, batch: Tensor) -> None:
    layers = decoder_layers(model)
    losses: dict[Site, float] = {}
    for site in ATTENTIONS.sites(model):
        layer, names = layers[site.layer], depth_site(site).modules
        modules = [layer.get_submodule(name) for name in names]
        ATTENTIONS.cut(layer, site, GONE)
        losses[site] = float(sequence_losses(model, batch.to(model.device)).mean())
        for name, module in zip(names, modules, strict=True):
            layer.set_submodule(name, module)
    least = min(losses, key=lambda site: losses[site])
    ATTENTIONS.cut(layers[least.layer], least, GONE)


def _size(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
