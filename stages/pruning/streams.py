"""The residual stream of a model, layer by layer: what enters the first one, and how each one is run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.pruning.decoder import decoder_layers
from stages.pruning.families import Site
from stages.pruning.offloading import Offloading

# Of a norm after a projection: keeps tokens of no length finite, and the inverse of its smallest weights.
NORM_EPSILON = 1e-6
NORM_DAMPING = 0.01


@dataclass(frozen=True)
class Calls:
    """What decoder layers are called with beside the hidden states (rotary embeddings, attention masks), by
    layer and batch size."""

    arguments: Mapping[tuple[int, int], dict[str, Any]]

    def run(self, index: int, layer: nn.Module, hidden: Tensor) -> Tensor:
        """What decoder layer `index` makes of hidden states [batch, tokens, d]."""
        output = layer(hidden, **self.arguments[index, len(hidden)])
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


def enter(
    model: PreTrainedModel, batches: list[Tensor], offloading: Offloading
) -> tuple[list[Tensor], Calls]:
    """The residual stream [batch, tokens, d] that enters the first layer for batches of token ids, int64
    [batch, tokens], and the calls of all layers.

    The model's own forward makes both, so masks, positions and embedding scales are the family's own; the
    layers themselves are passed over.
    """
    hidden: list[Tensor] = []
    arguments: dict[tuple[int, int], dict[str, Any]] = {}
    for batch in batches:
        with _passed_over(decoder_layers(model)) as calls:
            model.base_model(input_ids=batch.to(model.device), use_cache=False)
        hidden.append(offloading.store(calls[0][0]))
        if (0, len(batch)) not in arguments:
            known: dict[int, Any] = {}
            for index, (_, others) in enumerate(calls):
                arguments[index, len(batch)] = offloading.on_device(others, known)
    return hidden, Calls(arguments)


@contextmanager
def _passed_over(layers: nn.ModuleList) -> Iterator[list[tuple[Tensor, dict[str, Any]]]]:
    """For the time of a forward pass layers do nothing but note what they are called with."""
    calls: list[tuple[Tensor, dict[str, Any]]] = []

    def note(hidden_states: Tensor, **others: Any) -> Tensor:
        calls.append((hidden_states, others))
        return hidden_states

    for layer in layers:
        layer.forward = note
    try:
        yield calls
    finally:
        for layer in layers:
            del layer.forward


@dataclass(frozen=True)
class Watched:
    """What one forward pass showed of a site, in the units of its output projection W.

    x [batch, tokens, channels]; output: W x without a bias; total: what the whole sublayer gives, which is
    W x unless an expert is one of many; share: the routing weight of an expert [batch, tokens, 1], otherwise
    1; entering: the stream h [batch, tokens, d] that the sublayer's output joins.

    Where a norm n(y) = s * y / r, r = rms(y), stands between projection and stream, x, output and total are
    divided by r, token by token, and h by s, feature by feature. The fit is then one of what the norm passes
    on, and the stream's error reaches it through the norm's linearisation. The norm does not see lengths, so
    the pruned stream is fitted to the dense direction at its own length.
    """

    entering: Tensor
    x: Tensor
    output: Tensor
    total: Tensor
    share: Tensor | float

    def wanted(self, target: Tensor, alpha: float) -> Tensor:
        """What W x should be, float32: its share of the way to target = total + alpha h of the dense model.

        A plain sublayer (share 1, total W x) goes all the way. The experts chosen for a token share it by
        their routing weights, on the pruned stream's own routing.
        """
        error = target - self.total.float() - alpha * self.entering.float()
        return self.output.float() + self.share * error


@contextmanager
def watching(layer: nn.Module, sites: list[Site]) -> Iterator[dict[str, Watched]]:
    """What the layer's last forward pass shows of its sites, by name, once the context is left."""
    seen: dict[str, Watched] = {}
    inputs: dict[str, tuple[Tensor, ...]] = {}
    outputs: dict[str, Tensor] = {}

    def into(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, arguments: inputs.update({name: arguments})

    def out_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, arguments, output: outputs.update({name: output})

    entered = {name for site in sites for name in (site.entry, site.output.module, site.routed)}
    left = {name for site in sites for name in (site.output.module, site.total, site.beside)}
    handles = [
        *(layer.get_submodule(n).register_forward_pre_hook(into(n)) for n in entered if n is not None),
        *(layer.get_submodule(n).register_forward_hook(out_of(n)) for n in left if n is not None),
    ]
    try:
        yield seen
        seen.update({site.name: _watched(layer, site, inputs, outputs) for site in sites})
    finally:
        for handle in handles:
            handle.remove()


def projection(layer: nn.Module, site: Site) -> nn.Linear:
    """The site's output projection in a decoder layer."""
    module = layer.get_submodule(site.output.module)
    assert isinstance(module, nn.Linear)
    return module


def _watched(
    layer: nn.Module, site: Site, inputs: Mapping[str, tuple[Tensor, ...]], outputs: Mapping[str, Tensor]
) -> Watched:
    x, output = inputs[site.output.module][0], outputs[site.output.module]
    bias = projection(layer, site).bias
    product = output if bias is None else output - bias
    total = product if site.total == site.output.module else outputs[site.total]
    share = 1.0 if site.routed is None else inputs[site.routed][1][..., None]
    entering = inputs[site.entry][0]
    if site.beside is not None:
        entering = entering + outputs[site.beside]
    if site.post_norm is None:
        return Watched(entering, x, product, total, share)
    length = output.float().square().mean(dim=-1, keepdim=True).add(NORM_EPSILON).sqrt()
    scale = layer.get_submodule(site.post_norm)(torch.ones_like(output[:1, :1])).float()
    # A feature that the norm all but switches off must not be asked for much: 1 / s, damped.
    inverse = scale / (scale.square() + NORM_DAMPING * scale.square().mean())
    return Watched(entering * inverse, x / length, product / length, total / length, share)
