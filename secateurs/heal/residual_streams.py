"""The residual stream of a model, layer by layer: what enters the first one, and how each one is run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.offloading import Offloading
from secateurs.devices.parallel import own_rows
from secateurs.families.decoder import decoder_layers
from secateurs.families.discover import family_of
from secateurs.inference.head import hidden_states


@dataclass(frozen=True)
class Calls:
    """What decoder layers are called with besides hidden states: rotary embeddings, attention masks.

    arguments: by layer and batch size, what follows the hidden states and what is named.
    """

    arguments: Mapping[tuple[int, int], tuple[tuple[Any, ...], dict[str, Any]]]

    def run(self, index: int, layer: nn.Module, hidden: Tensor) -> Tensor:
        """What decoder layer `index` makes of hidden states [batch, tokens, d]."""
        positional, named = self.arguments[index, len(hidden)]
        output = layer(hidden, *positional, **named)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result


@dataclass
class Streams:
    """The residual streams of the dense and of the pruned model, each a list of batches [batch, tokens, d].

    Batches lie where Offloading stores them, and are replaced one by one as a stream moves through a layer.
    weights: for each batch, how much one of its tokens counts.
    """

    dense: list[Tensor]
    pruned: list[Tensor]
    weights: list[float]


def own_batches(
    sequences: Mapping[str, Tensor], mixture: Mapping[str, float], batch_size: int
) -> tuple[list[Tensor], list[float]]:
    """The batches of token ids that this process reads, and how much a token of each counts.

    sequences: int64 [count, tokens] by domain. A batch is of one domain, so that one weight of `mixture`
    holds for all its tokens.
    """
    pairs = [
        (batch, mixture[domain])
        for domain, rows in sequences.items()
        for own in [own_rows(rows)]
        if len(own)
        for batch in own.split(batch_size)
    ]
    return [batch for batch, _ in pairs], [weight for _, weight in pairs]


def enter(
    model: PreTrainedModel, batches: list[Tensor], offloading: Offloading
) -> tuple[list[Tensor], Calls]:
    """The residual stream [batch, tokens, d] that enters the first layer for batches of token ids, int64
    [batch, tokens], and the calls of all layers.

    The model's own forward makes both, so masks, positions and embedding scales are the family's own; the
    layers themselves are passed over, and nothing after the last one is run.
    """
    hidden: list[Tensor] = []
    arguments: dict[tuple[int, int], tuple[tuple[Any, ...], dict[str, Any]]] = {}
    gives = given_by_layers(model)
    for batch in batches:
        with _passed_over(decoder_layers(model), gives) as calls:
            hidden_states(model, batch.to(model.device))
        hidden.append(offloading.store(calls[0][0]))
        if (0, len(batch)) not in arguments:
            known: dict[int, Any] = {}
            for index, (_, positional, named) in enumerate(calls):
                arguments[index, len(batch)] = offloading.on_device((positional, named), known)
    return hidden, Calls(arguments)


def leave(model: PreTrainedModel, batch: Tensor, hidden: Tensor) -> Tensor:
    """What the head reads, [batch, tokens, d], where `hidden` is the residual stream after the last layer.

    batch: the token ids, which the model's own forward asks for. Both are where the model is.
    """
    layers = decoder_layers(model)
    given = zip(layers, given_by_layers(model), strict=True)
    with ExitStack() as replaced:
        for layer, count in given:
            replaced.enter_context(_replaced([layer], lambda *_, count=count, **__: _given(hidden, count)))
        read: Tensor = hidden_states(model, batch)
    return read


def given_by_layers(model: PreTrainedModel) -> list[int]:
    """How many values each layer returns as a tuple, the stream first; 0 for the stream alone."""
    return [layer.gives for layer in family_of(model.config).layers]


def _given(hidden: Tensor, count: int) -> Any:
    return (hidden, *[None] * (count - 1)) if count else hidden


_LayerCall = tuple[Tensor, tuple[Any, ...], dict[str, Any]]
"""Hidden states, the arguments that follow them, and the named ones."""


class _AllCalledError(Exception):
    """The last decoder layer has been called."""


@contextmanager
def _passed_over(layers: nn.ModuleList, gives: Sequence[int]) -> Iterator[list[_LayerCall]]:
    """In the context layers only note what they are called with.

    The call of the last one leaves the context, because the final norm of all text, in host memory, would
    take as long as surgery's work on a layer.
    """
    calls: list[_LayerCall] = []

    def note(*positional: Any, **named: Any) -> Any:
        hidden, *others = positional or (named.pop("hidden_states"),)
        calls.append((hidden, tuple(others), named))
        if len(calls) == len(layers):
            raise _AllCalledError
        return _given(hidden, gives[len(calls) - 1])

    with suppress(_AllCalledError), _replaced(layers, note):
        yield calls


@contextmanager
def silenced(module: nn.Linear) -> Iterator[None]:
    """In the context a projection computes nothing and gives zeros: only its input is asked for."""
    # Whole zeros, because some layers add to what they are given in place.
    with _replaced([module], lambda x: x.new_zeros(*x.shape[:-1], module.out_features)):
        yield


@contextmanager
def _replaced(layers: Iterable[nn.Module], forward: Callable[..., Tensor]) -> Iterator[None]:
    """In the context `forward` is that of every layer."""
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
