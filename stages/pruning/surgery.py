"""Surgery: cut a model by its masks and heal what is left, one decoder layer at a time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.common.errors import InputError
from stages.pruning.comparison import Comparison
from stages.pruning.cutting import cut_layer, pruned_sites
from stages.pruning.decoder import decoder_layers
from stages.pruning.offloading import Offloading
from stages.pruning.settings import Heal, Healed, Healing
from stages.pruning.sites import Masks, Site
from stages.pruning.sizes import resize_config
from stages.pruning.streams import Streams, enter, own_batches, projection
from stages.pruning.surgeon import Surgeon

# What `auto` chooses from.
CANDIDATES: tuple[Heal, ...] = ("least_squares", "residual")


@torch.no_grad()
def prune(
    model: PreTrainedModel,
    masks: Masks,
    sequences: Mapping[str, Tensor],
    mixture: Mapping[str, float],
    healing: Healing,
    *,
    left_out: Mapping[str, Tensor],
    device: torch.device,
    batch_size: int,
    on_layer: Callable[[], object],
) -> Healed:
    """Cut `model` in place and refit the output projection W of every cut site by ridge regression.

        W' = argmin sum_t w_t ||target_t - W' x_t[kept]||^2 + a pull towards W[:, kept]  (healing.ridge_refit)

        target_t = W x_dense,t + alpha (h_dense,t - h_pruned,t)    for the method `residual`
        target_t = W x_t                                           for `least_squares`
        no refit, the kept columns stay as they are                for `none`

    `auto` heals by `least_squares` and by `residual`, side by side, and keeps the one whose next-token
    distributions are nearer to the dense model's on the text `left_out` (comparison.Comparison).

    t: tokens of the healing text. x: what enters W in the pruned model, x_dense in the dense one. h: the
    residual stream to which the sublayer's output is added. w: the weight of a token. Where a norm follows
    the projection, x, W x and h are taken as that norm sees and scales them. The experts of a block divide
    the error of the whole block among them by their routing weights (streams.Watched).

    Two streams run side by side through the layers, in the order in which data flows: the dense one through
    the untouched layer, the pruned one through what has been healed so far. A site at which nothing was
    removed stays bit-identical. With `healing.reconstruction` all weights of a layer with cut sites are then
    trained against what the dense layer gives (reconstruction.reconstruct).

    model: in host memory. sequences: the healing text, int64 [count, tokens] by domain. left_out: other text
    of the same domains, which only `auto` reads. mixture: w by domain.
    With reconstruction w is also divided by the squared length of the dense stream after the sublayer:
    training can change the streams of a few tokens of enormous length so much that they would ruin the next
    layer's refit for all others; reconstruction divides its errors in the same way.

    device: computes, and holds one layer, its healed copies, one Gram matrix and a few batches at a time;
    everything else stays in host memory. on_layer: called after each layer. In a process group each process
    reads its own rows of the text and all end with the same weights. Raises InputError where masks do not fit
    the model and where activations are not finite.

    Returns the method that healed, with what `auto` chose it by.
    """
    layers = decoder_layers(model)
    by_layer: dict[int, list[Site]] = {}
    for site in pruned_sites(model, masks):
        by_layer.setdefault(site.layer, []).append(site)
    healed = Healed("none", {})
    if healing.method == "none":
        for index, layer in enumerate(layers):
            for site in by_layer.get(index, []):
                cut_layer(layer, site, masks[site.name])
            on_layer()
    elif by_layer:
        offloading = Offloading(device)
        methods = CANDIDATES if healing.method == "auto" else (healing.method,)
        settings = [replace(healing, method=method) for method in methods]
        surgeons = _surgeons(model, settings, masks, own_batches(sequences, mixture, batch_size), offloading)
        if healing.method == "auto":
            comparison = Comparison(
                model, left_out, mixture, len(methods), batch_size=batch_size, offloading=offloading
            )
            healed = _heal_by_the_best(model, by_layer, surgeons, comparison, on_layer)
        else:
            (surgeon,), count = surgeons, max(by_layer) + 1
            for index, layer in enumerate(offloading.layers(layers, count)):
                layers[index] = surgeon.layer(index, layer, by_layer.get(index, [])).to("cpu")
                on_layer()
            for _ in range(count, len(layers)):
                on_layer()
            healed = Healed(healing.method, {}, tuple(surgeon.refits))
    resize_config(model.config, masks)
    return healed


def _surgeons(
    model: PreTrainedModel,
    settings: list[Healing],
    masks: Masks,
    text: tuple[list[Tensor], list[float]],
    offloading: Offloading,
) -> list[Surgeon]:
    """One for each of the settings, all before the first layer."""
    batches, weights = text
    hidden, calls = enter(model, batches, offloading)
    return [
        Surgeon(one, masks, offloading, calls, streams)
        for one in settings
        for streams in [Streams(list(hidden) if one.method == "residual" else [], list(hidden), weights)]
    ]


def _heal_by_the_best(
    model: PreTrainedModel,
    by_layer: Mapping[int, list[Site]],
    surgeons: list[Surgeon],
    comparison: Comparison,
    on_layer: Callable[[], object],
) -> Healed:
    """Heal by every surgeon; leave the model with the refits of the one that ends nearest to the dense model.

    Healed layers differ in nothing but the output projections of cut sites, so only those are kept of each.
    """
    layers = decoder_layers(model)
    offloading, last = comparison.offloading, max(by_layer)
    refits: list[dict[Site, Tensor]] = [{} for _ in surgeons]
    for index, layer in enumerate(offloading.layers(layers, len(layers))):
        sites = by_layer.get(index, [])
        healed = [one.layer(index, layer, sites) if index <= last else layer for one in surgeons]
        comparison.advance(index, layer, healed)
        for kept, one in zip(refits, healed, strict=True):
            kept |= {site: projection(one, site).weight.data.to("cpu") for site in sites}
        layers[index] = healed[0].to("cpu")
        on_layer()
    divergences = {
        one.healing.method: value for one, value in zip(surgeons, comparison.divergences(model), strict=True)
    }
    for method, value in divergences.items():
        if not math.isfinite(value):
            raise InputError(
                f"surgery.heal: auto: healed by {method}, the model's divergence from the dense one is "
                f"{value}; use compute.dtype: float32, or another method"
            )
    best = min(range(len(surgeons)), key=lambda number: divergences[surgeons[number].healing.method])
    for site, weight in refits[best].items():
        projection(layers[site.layer], site).weight.data = weight
    return Healed(surgeons[best].healing.method, divergences, tuple(surgeons[best].refits))
