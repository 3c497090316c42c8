"""The residual stream of a model, layer by layer: what enters the first one, and how each one is run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.offloading import Offloading
from secateurs.devices.parallel import own_rows
from secateurs.families.decoder import decoder_layers
from secateurs.families.discover import family_of
from secateurs.inference.hooks import hooked
from secateurs.kinds.channels import ChannelSite, linear

# Where a norm follows a projection: these keep the quotient finite for a token of length 0, and the inverse
# of the norm's weight finite where that weight is nearly 0.
NORM_EPSILON = 1e-6
NORM_DAMPING = 0.01
LAYER = "the layer"


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
            model.base_model(input_ids=batch.to(model.device), use_cache=False)
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
        read: Tensor = model.base_model(input_ids=batch, use_cache=False).last_hidden_state
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
    with _replaced([module], lambda x: x.new_zeros(1).expand(*x.shape[:-1], module.out_features)):
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


@dataclass(frozen=True)
class Watched:
    """What one forward pass showed of a site, in the units of its output projection W.

    entering: the stream h [batch, tokens, d] to which the sublayer's output is added; None if not known.
    x: the input of the projection [batch, tokens, channels].
    output: W x without a bias [batch, tokens, d].
    result: what the whole sublayer gives [batch, tokens, d]: W x, or the sum over all experts.
    routing: the routing weight of an expert [batch, tokens, 1]; 1 without experts.

    Where a norm n(y) = s * y / r, r = rms(y), stands between projection and stream, x, output and result are
    divided by r, token by token, and h by s, feature by feature. The fit is then one of what the norm passes
    on, and the stream's error reaches it through the norm's linearisation. The norm does not see lengths, so
    the pruned stream is fitted to the dense direction at its own length. A factor on what the sublayer gives
    divides h too.
    """

    entering: Tensor | None
    x: Tensor
    output: Tensor
    result: Tensor
    routing: Tensor | float

    def goal(self, target: Tensor, alpha: float) -> Tensor:
        """What W x should be: W x + routing * (target - result - alpha h), float32 [batch, tokens, d].

        target: result + alpha h of the dense model. In a plain sublayer (routing 1, result W x) this is
        target - alpha h. The experts chosen for a token divide its error by their routing weights, those of
        the pruned stream. Where h is not known, W x.
        """
        if self.entering is None:
            return self.output.float()
        error = target - self.result.float() - alpha * self.entering.float()
        return self.output.float() + self.routing * error


@contextmanager
def watching(layer: nn.Module, sites: Sequence[ChannelSite]) -> Iterator[dict[str, Watched]]:
    """What the layer's last forward pass in the context shows of its sites.

    The mapping is filled, by site name, when the context is left.
    """
    seen: dict[str, Watched] = {}
    inputs: dict[str, tuple[Tensor, ...]] = {}
    outputs: dict[str, Any] = {}

    def into(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, arguments: inputs.update({name: arguments})

    def out_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        return lambda _, arguments, output: outputs.update({name: output})

    entered = {name for site in sites for name in (site.sublayer.entry, site.sublayer.output, site.routed)}
    left = {
        name
        for site in sites
        for name in (site.sublayer.output, site.sublayer.result, site.sublayer.added_first)
    }
    before = [(layer.get_submodule(name), into(name)) for name in entered if name is not None]
    after = [(layer.get_submodule(name), out_of(name)) for name in left if name is not None]
    # The layer itself last, because its streams tell the shape of what modules inside may have flattened.
    with hooked([*before, (layer, into(LAYER))], after):
        yield seen
        seen.update({site.name: _watched(layer, site, inputs, outputs) for site in sites})


def by_sequence(values: Tensor, batch: int) -> Tensor:
    """[batch * tokens, features] -> [batch, tokens, features], which other values have already."""
    return values.unflatten(0, (batch, -1)) if values.dim() == 2 else values


def projection(layer: nn.Module, site: ChannelSite) -> nn.Linear:
    """The site's output projection in a decoder layer."""
    return linear(layer, site.sublayer.output)


def _watched(
    layer: nn.Module,
    site: ChannelSite,
    inputs: Mapping[str, tuple[Tensor, ...]],
    outputs: Mapping[str, Any],
) -> Watched:
    sublayer = site.sublayer
    batch = len(inputs[LAYER][0])

    def left(name: str) -> Tensor:
        given = outputs[name]
        return by_sequence(given[0] if isinstance(given, tuple) else given, batch)

    x, output = by_sequence(inputs[sublayer.output][0], batch), left(sublayer.output)
    bias = projection(layer, site).bias
    product = output if bias is None else output - bias
    result = product if sublayer.result == sublayer.output else left(sublayer.result)
    routing = 1.0 if site.routed is None else by_sequence(inputs[site.routed][1][:, None], batch)
    if sublayer.entry is None:
        return Watched(None, x, product, result, routing)
    entering = by_sequence(inputs[sublayer.entry][0], batch)
    if sublayer.added_first is not None:
        entering = entering + left(sublayer.added_first)
    if sublayer.gain != 1:
        entering = entering / sublayer.gain
    if sublayer.post_norm is None:
        return Watched(entering, x, product, result, routing)
    length = output.float().square().mean(dim=-1, keepdim=True).add(NORM_EPSILON).sqrt()
    scale = layer.get_submodule(sublayer.post_norm)(torch.ones_like(output[:1, :1])).float()
    # A feature that the norm all but switches off must not be asked for much: 1 / s, damped.
    inverse = scale / (scale.square() + NORM_DAMPING * scale.square().mean())
    return Watched(entering * inverse, x / length, product / length, result / length, routing)
