"""Cut a model by its masks and heal what is left, one decoder layer at a time."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.pruning.families import (
    MLP,
    Masks,
    Site,
    channel_mask,
    cut_layer,
    decoder_layers,
    pruned_sites,
    resize_config,
)
from stages.pruning.healing import Moments, ridge_refit

Heal = Literal["none", "least_squares", "residual"]


@dataclass(frozen=True)
class Healing:
    """method; alpha: share of the stream's error that a refit makes up; ridge: see ridge_refit."""

    method: Heal
    alpha: float
    ridge: float


@dataclass(frozen=True)
class Stream:
    """The residual stream at one depth, batch by batch [batch, tokens, d], and what else layers are called
    with (rotary embeddings, attention masks), by layer and batch size."""

    batches: list[Tensor]
    arguments: Mapping[tuple[int, int], dict[str, Any]]


@torch.no_grad()
def prune(
    model: PreTrainedModel,
    masks: Masks,
    input_ids: Tensor,
    weights: Tensor,
    healing: Healing,
    *,
    batch_size: int,
    on_layer: Callable[[], object],
) -> None:
    """Cut `model` in place and refit the output projection of every site that lost units.

    input_ids int64 [sequences, tokens] and weights float [sequences] are the healing text and how much
    each sequence counts. Sites are walked in the order data flows. Two streams run side by side: the dense
    one through the untouched layer, the pruned one through what has been healed so far. For each site

        residual       target = W x_dense + alpha (h_dense - h_pruned), h the stream entering the sublayer
        least_squares  target = W x, both on the pruned stream
        none           no refit: the kept columns stay as they are

    A site at which nothing was removed stays bit-identical. `on_layer` is called after each layer.
    """
    layers = decoder_layers(model)
    by_layer: dict[int, list[Site]] = {}
    for site in pruned_sites(model, masks):
        by_layer.setdefault(site.layer, []).append(site)
    if healing.method == "none":
        for index, layer in enumerate(layers):
            for site in by_layer.get(index, []):
                cut_layer(layer, site, masks[site.name])
            on_layer()
    else:
        _heal_layers(model, by_layer, masks, input_ids, weights, healing, batch_size, on_layer)
    resize_config(model.config, masks)


def _heal_layers(
    model: PreTrainedModel,
    by_layer: Mapping[int, list[Site]],
    masks: Masks,
    input_ids: Tensor,
    weights: Tensor,
    healing: Healing,
    batch_size: int,
    on_layer: Callable[[], object],
) -> None:
    layers = decoder_layers(model)
    stream = _enter(model, input_ids, batch_size)
    dense, pruned = stream.batches, list(stream.batches)
    batch_weights = list(weights.split(batch_size))
    last = max(by_layer, default=-1)
    for index, layer in enumerate(layers):
        if index > last:
            on_layer()
            continue
        # A copy, because the dense stream needs the layer as it was until its last batch is through.
        healed = copy.deepcopy(layer)
        sites = by_layer.get(index, [])
        targets = _dense_pass(index, layer, sites, dense, stream, healing)
        for site in sites:
            pruned_next = _heal_site(
                index, healed, site, masks[site.name], pruned, targets, batch_weights, stream, healing
            )
        if sites and sites[-1].kind == MLP:
            pruned = pruned_next
        else:
            pruned = [_run(index, healed, hidden, stream) for hidden in pruned]
        layers[index] = healed
        on_layer()


def _dense_pass(
    index: int, layer: nn.Module, sites: list[Site], dense: list[Tensor], stream: Stream, healing: Healing
) -> dict[str, list[Tensor]]:
    """Move the dense stream through a layer, in place; return W x_dense + alpha h_dense of each site."""
    targets: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    if healing.method != "residual":
        return targets
    for number, hidden in enumerate(dense):
        with _watching(layer, sites) as seen:
            dense[number] = _run(index, layer, hidden, stream)
        for site in sites:
            watched = seen[site.name]
            targets[site.name].append(watched.output + healing.alpha * watched.entering)
    return targets


def _heal_site(
    index: int,
    layer: nn.Module,
    site: Site,
    units: Tensor,
    pruned: list[Tensor],
    targets: Mapping[str, list[Tensor]],
    batch_weights: list[Tensor],
    stream: Stream,
    healing: Healing,
) -> list[Tensor]:
    """Refit one site's projection on the pruned stream and cut the site out of `layer`, in place.

    Returns the layer's output with the refitted projection, which is exact for a layer's last sublayer:
    nothing but the residual addition follows it, so its share is exchanged and no further pass is needed.
    """
    projection = layer.get_submodule(site.output.module)
    assert isinstance(projection, nn.Linear)
    kept = channel_mask(site, units).to(projection.weight.device)
    moments = Moments(int(kept.sum()), projection.out_features, projection.weight.device)
    others, inputs = [], []
    for number, hidden in enumerate(pruned):
        with _watching(layer, [site]) as seen:
            output = _run(index, layer, hidden, stream)
        watched = seen[site.name]
        if healing.method == "residual":
            target = targets[site.name][number] - healing.alpha * watched.entering
        else:
            target = watched.output
        # Removed channels do not reach the others, so the uncut layer's kept inputs are the cut layer's.
        x = watched.x[..., kept]
        moments.add(x, target, batch_weights[number])
        others.append(output - watched.output)
        inputs.append(x)
    cut_layer(layer, site, units)
    projection.weight.data = ridge_refit(moments, projection.weight.detach(), healing.ridge)
    return [other + F.linear(x, projection.weight) for other, x in zip(others, inputs, strict=True)]


@dataclass
class _Watched:
    """What one forward pass showed of a site: x [batch, tokens, channels], W x and the entering stream."""

    entering: Tensor
    x: Tensor
    output: Tensor


@contextmanager
def _watching(layer: nn.Module, sites: list[Site]) -> Iterator[dict[str, _Watched]]:
    seen: dict[str, _Watched] = {}
    entering: dict[str, Tensor] = {}
    handles = []

    def watch(site: Site) -> None:
        projection = layer.get_submodule(site.output.module)
        assert isinstance(projection, nn.Linear)
        bias = projection.bias

        def enter(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            entering[site.name] = inputs[0]

        def leave(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            product = output if bias is None else output - bias
            seen[site.name] = _Watched(entering[site.name], inputs[0], product)

        handles.append(layer.get_submodule(site.entry).register_forward_pre_hook(enter))
        handles.append(projection.register_forward_hook(leave))

    for site in sites:
        watch(site)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class _Stop(Exception):  # noqa: N818 - a way out of a forward pass, not an error
    pass


def _enter(model: PreTrainedModel, input_ids: Tensor, batch_size: int) -> Stream:
    """The stream that enters the first layer, and the arguments every layer is called with.

    The model's own forward makes both, so masks, positions and embedding scales are the family's own. It
    runs whole once per batch size, to see the arguments, and otherwise only up to the first layer.
    """
    layers = decoder_layers(model)
    device = model.get_input_embeddings().weight.device
    batches: list[Tensor] = []
    arguments: dict[tuple[int, int], dict[str, Any]] = {}

    def recorder(index: int, stop: bool) -> Any:
        def record(_: nn.Module, inputs: tuple[Tensor, ...], keywords: dict[str, Any]) -> None:
            hidden = inputs[0] if inputs else keywords["hidden_states"]
            if index == 0:
                batches.append(hidden)
            if stop:
                raise _Stop
            others = {name: value for name, value in keywords.items() if name != "hidden_states"}
            arguments[index, len(hidden)] = others

        return record

    for batch in input_ids.split(batch_size):
        known = (0, len(batch)) in arguments
        handles = [
            layer.register_forward_pre_hook(recorder(index, stop=known), with_kwargs=True)
            for index, layer in enumerate(layers)
        ]
        try:
            model.base_model(input_ids=batch.to(device), use_cache=False)
        except _Stop:
            pass
        finally:
            for handle in handles:
                handle.remove()
    return Stream(batches, arguments)


def _run(index: int, layer: nn.Module, hidden: Tensor, stream: Stream) -> Tensor:
    output = layer(hidden, **stream.arguments[index, len(hidden)])
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result
