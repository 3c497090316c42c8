"""Surgery: cut a model by its masks and heal what is left, one decoder layer at a time."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.offloading import Offloading
from secateurs.errors import InputError, SettingError
from secateurs.families.decoder import decoder_layers
from secateurs.families.discover import family_of
from secateurs.heal.healed import Healed
from secateurs.heal.healer import LayerHealer, Work, healed_sites
from secateurs.heal.methods import METHODS
from secateurs.heal.nearest import Comparison
from secateurs.heal.residual_streams import Streams, enter, own_batches
from secateurs.heal.watching import projection
from secateurs.kinds.config import resize_config
from secateurs.kinds.kind import Masks, Site
from secateurs.kinds.sites import finish, pruned_sites
from secateurs.settings.pruning import Surgery


@dataclass(frozen=True)
class HealingText:
    """What healing reads.

    sequences: int64 [count, tokens] by domain. weights: how much a token of each domain counts. left_out:
    other text of the same domains, which only the choice of `auto` reads.
    """

    sequences: Mapping[str, Tensor]
    weights: Mapping[str, float]
    left_out: Mapping[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def cut_and_heal(
    model: PreTrainedModel,
    masks: Masks,
    text: HealingText,
    surgery: Surgery,
    *,
    device: torch.device,
    batch_size: int,
    on_layer: Callable[[], object],
) -> Healed:
    """Cut `model` in place and refit the output projection W of every cut site by ridge regression.

        W' = argmin sum_t w_t ||target_t - W' x_t[kept]||^2 + a pull towards W[:, kept]  (healing.ridge_refit)

        target_t = W x_dense,t + alpha (h_dense,t - h_pruned,t)    for the method `residual`
        target_t = W x_t                                           for `least_squares`
        no refit, the kept columns stay as they are                for `none`

    `auto` is the one of these two whose next-token distributions are nearer to the dense model's on
    `text.left_out` (nearest.Comparison). Healing is by `residual` then; the refits of `least_squares` that
    are compared with it are made on the same pruned stream, from the same Gram matrices, which takes a tenth
    of the time of healing by both. Where they are nearer, the model is healed anew by `least_squares` alone.

    t: tokens of the healing text. x: what enters W in the pruned model, x_dense in the dense one. h: the
    residual stream to which the sublayer's output is added. w: the weight of a token. Where a norm follows
    the projection, x, W x and h are taken as that norm sees and scales them. The experts of a block divide
    the error of the whole block among them by their routing weights (watching.Watched).

    Two streams run side by side through the layers, in the order in which data flows: the dense one through
    the untouched layer, the pruned one through what has been healed so far. A site at which nothing was
    removed stays bit-identical. With `surgery.reconstruct` all weights of a layer with cut sites are then
    trained against what the dense layer gives (reconstruction.reconstruct).

    model: in host memory. With reconstruction w is also divided by the squared length of the dense stream
    after the sublayer: training can change the streams of a few tokens of enormous length so much that they
    would ruin the next layer's refit for all others; reconstruction divides its errors in the same way.

    device: computes, and holds one layer, its healed copies, one Gram matrix, and the batches of both streams
    as long as half of its memory is free (offloading.FREE); everything else stays in host memory.
    on_layer: called after each layer. In a process group each process reads its own rows of the text, its
    device holds the next layer and its targets too, and all end with the same weights. Raises InputError
    where masks do not fit the model and where activations are not finite.

    Returns the method that healed, with what `auto` chose it by.
    """
    layers = decoder_layers(model)
    by_layer: dict[int, list[Site]] = {}
    for site in pruned_sites(model, masks):
        by_layer.setdefault(site.layer, []).append(site)
    healed = Healed("none", {})
    if surgery.method == "none" or not any(site.kind.healed for sites in by_layer.values() for site in sites):
        for index in range(len(layers)):
            for site in by_layer.get(index, []):
                layers[index] = site.kind.cut(layers[index], site, masks[site.name])
            on_layer()
    elif by_layer:
        if not family_of(model.config).apart:
            raise SettingError(
                f"surgery.heal: {surgery.method}: not for {model.config.model_type}, whose layers hand each "
                "other more than the residual stream, so that none can be healed by itself; use none"
            )
        patient = _Patient(model, masks, by_layer, text, batch_size, Offloading(device))
        if surgery.method == "auto":
            healed = patient.healed_by_the_best(surgery, on_layer)
        else:
            healed = patient.healed_by(surgery.method, surgery, on_layer)
    resize_config(model.config, masks)
    finish(model, masks)
    return healed


@dataclass(frozen=True)
class _Patient:
    """A model that is to be healed, the sites at which it is cut by layer, and the text that heals."""

    model: PreTrainedModel
    masks: Masks
    by_layer: Mapping[int, list[Site]]
    text: HealingText
    batch_size: int
    offloading: Offloading

    def healed_by(self, method: str, surgery: Surgery, on_layer: Callable[[], object]) -> Healed:
        """Cut and heal the model in place by one method."""
        layers, count = decoder_layers(self.model), max(self.by_layer) + 1
        healer = self._healer(method, surgery)

        def work(index: int, layer: nn.Module, following: Callable[[], nn.Module]) -> nn.Module:
            healed = healer.layer(index, layer, following)
            on_layer()
            return healed

        self.offloading.through(layers, count, work)
        for _ in range(count, len(layers)):
            on_layer()
        return Healed(method, {}, tuple(healer.refits))

    def healed_by_the_best(self, surgery: Surgery, on_layer: Callable[[], object]) -> Healed:
        """Cut and heal the model in place by the method that ends nearest to it on `text.left_out`.

        The leading method, the first with a dense stream, is compared with those that can be made beside it.
        The dense layers stay as they are until that is known; of the healed ones only the refitted
        projections are kept, because they differ in nothing else.
        """
        layers, last = decoder_layers(self.model), max(self.by_layer)
        leading = next(name for name, method in METHODS.items() if method.dense)
        compared = [name for name, method in METHODS.items() if method.beside or name == leading]
        healer = self._healer(leading, surgery, probing=True)
        comparison = Comparison(
            self.model,
            self.text.left_out,
            self.text.weights,
            len(compared),
            batch_size=self.batch_size,
            offloading=self.offloading,
        )
        refits: dict[str, Tensor] = {}

        def work(index: int, layer: nn.Module, following: Callable[[], nn.Module]) -> nn.Module:
            healed = healer.layer(index, layer, following) if index <= last else layer
            sites = healed_sites(healed, self.by_layer.get(index, []))
            probe = copy.deepcopy(healed) if sites else healed
            for site in sites:
                projection(probe, site).weight.data = healer.probes[site.name]
            versions = {name: healed if name == leading else probe for name in compared}
            comparison.advance(index, layer, list(versions.values()))
            refits.update({site.name: projection(healed, site).weight.data.to("cpu") for site in sites})
            on_layer()
            return layer

        self.offloading.through(layers, len(layers), work)
        divergences = dict(zip(compared, comparison.divergences(self.model), strict=True))
        for method, value in divergences.items():
            if not math.isfinite(value):
                raise InputError(
                    f"surgery.heal: auto: healed by {method}, the model's divergence from the dense one is "
                    f"{value}; use compute.dtype: float32, or another method"
                )
        best = min(compared, key=lambda method: divergences[method])
        if best != leading:
            return replace(self.healed_by(best, surgery, lambda: None), divergences=divergences)
        for index, sites in self.by_layer.items():
            for site in sites:
                layers[index] = site.kind.cut(layers[index], site, self.masks[site.name])
            for one in healed_sites(layers[index], sites):
                projection(layers[index], one).weight.data = refits[one.name]
        return Healed(best, divergences, tuple(healer.refits))

    def _healer(self, method: str, surgery: Surgery, *, probing: bool = False) -> LayerHealer:
        """Before the first layer."""
        batches, weights = own_batches(self.text.sequences, self.text.weights, self.batch_size)
        hidden, calls = enter(self.model, batches, self.offloading)
        way = METHODS[method](surgery.alpha)
        streams = Streams(list(hidden) if way.dense else [], list(hidden), weights)
        work = Work(self.offloading, calls, streams)
        return LayerHealer(way, surgery, self.masks, self.by_layer, work, probing=probing)
