"""What a forward pass through a decoder layer shows of its sites."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateurs.families.hooks import hooked
from secateurs.kinds.channels import ChannelSite, linear

# Where a norm follows a projection: these keep the quotient finite for a token of length 0, and the inverse
# of the norm's weight finite where that weight is nearly 0.
NORM_EPSILON = 1e-6
NORM_DAMPING = 0.01
LAYER = "the layer"


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
