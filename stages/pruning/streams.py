"""The residual stream of a model, layer by layer: what enters the first one, and how each one is run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.pruning.families import Site, decoder_layers
from stages.pruning.staging import Staging


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


def enter(model: PreTrainedModel, batches: list[Tensor], staging: Staging) -> tuple[list[Tensor], Calls]:
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
        hidden.append(staging.store(calls[0][0]))
        if (0, len(batch)) not in arguments:
            known: dict[int, Any] = {}
            for index, (_, others) in enumerate(calls):
                arguments[index, len(batch)] = staging.on_device(others, known)
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


@dataclass
class Watched:
    """What one forward pass showed of a site: x [batch, tokens, channels], W x without a bias, and the
    entering stream [batch, tokens, d]."""

    entering: Tensor
    x: Tensor
    output: Tensor


@contextmanager
def watching(layer: nn.Module, sites: list[Site]) -> Iterator[dict[str, Watched]]:
    """What the layer's next forward passes show of its sites, by name; the last pass counts."""
    seen: dict[str, Watched] = {}
    entering: dict[str, Tensor] = {}
    handles = []

    def watch(site: Site) -> None:
        projection = layer.get_submodule(site.output.module)
        assert isinstance(projection, nn.Linear)
        bias = projection.bias

        def enter_site(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            entering[site.name] = inputs[0]

        def leave_site(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            product = output if bias is None else output - bias
            seen[site.name] = Watched(entering[site.name], inputs[0], product)

        handles.append(layer.get_submodule(site.entry).register_forward_pre_hook(enter_site))
        handles.append(projection.register_forward_hook(leave_site))

    for site in sites:
        watch(site)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
