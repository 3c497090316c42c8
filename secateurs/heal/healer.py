"""One decoder layer after the other cut and healed, with the streams of the dense and of the pruned model."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby

import torch.nn.functional as F
from torch import Tensor, nn

from secateurs.devices.offloading import Offloading
from secateurs.devices.parallel import processes
from secateurs.heal.healed import Refit
from secateurs.heal.methods import Method
from secateurs.heal.reconstruction import reconstruct
from secateurs.heal.residual_streams import Calls, Streams, silenced
from secateurs.heal.ridge import Moments, both_refits, missed, missed_by_refit, ridge_refit
from secateurs.heal.watching import projection, watching
from secateurs.inference.norms import fused_norms
from secateurs.kinds.channels import ChannelSite
from secateurs.kinds.kind import Masks, Site
from secateurs.kinds.sites import kept_units
from secateurs.settings.pruning import Surgery

# The smallest squared length that an error is divided by.
NO_LENGTH = 1e-6


@dataclass(frozen=True)
class Targets:
    """What the refits of one sublayer are held against, a tensor for each batch, in host memory.

    values: result + alpha h of the dense model, float32 [batch, tokens, d]. token_weights: float32
    [batch, tokens], optional: without them all tokens of a batch count alike.
    """

    values: list[Tensor]
    token_weights: list[Tensor] | None


@dataclass(frozen=True)
class Work:
    """What a healer works with: where tensors lie, how layers are called, and the two streams."""

    offloading: Offloading
    calls: Calls
    streams: Streams


class LayerHealer:
    """The two streams at the depth reached so far, and what every layer is healed with.

    With `probing` each projection is also refitted as a method would that can be made beside this one
    (Method.beside), on the same pruned stream: what it takes besides is one product for each batch. `probes`
    has those of the last layer, by site name.
    """

    def __init__(
        self,
        method: Method,
        surgery: Surgery,
        masks: Masks,
        by_layer: Mapping[int, list[Site]],
        work: Work,
        *,
        probing: bool = False,
    ) -> None:
        self.method, self.surgery, self.masks, self.by_layer = method, surgery, masks, by_layer
        self.offloading, self.calls, self.streams = work.offloading, work.calls, work.streams
        self.probing = probing
        self.refits: list[Refit] = []
        self.probes: dict[str, Tensor] = {}
        # The targets of the next layer, where the dense stream is through it already.
        self._ahead: dict[str, Targets] | None = None

    def layer(self, index: int, layer: nn.Module, following: Callable[[], nn.Module]) -> nn.Module:
        """The layer cut and healed, with both streams moved through it.

        While processes of a group add up the sums of its last refit, the dense stream moves on through
        `following`, the next layer. Not with reconstruction, because training needs both streams at the same
        depth.
        """
        cut, training = self.by_layer.get(index, []), self.surgery.reconstruct
        # A copy, because the dense stream needs the layer as it was until its last batch is through. Cutting
        # and refitting exchange weights, so those that stay can be shared; training changes them in place.
        weights = () if training.epochs else (*layer.parameters(), *layer.buffers())
        healed = copy.deepcopy(layer, {id(weight): weight for weight in weights})
        self.probes = {}
        for site in (one for one in cut if not isinstance(one, ChannelSite)):
            healed = site.kind.cut(healed, site, self.masks[site.name])
        sites = healed_sites(healed, cut)
        targets = self._dense_pass(index, layer) if self._ahead is None else self._ahead
        self._ahead = None
        refit = _nothing
        with fused_norms(healed):
            # The experts of one block are healed together, in one pass.
            for (result, _), together in groupby(sites, key=_together):
                refit()
                refit = self._heal(index, healed, list(together), targets.get(result))
            if processes() > 1 and not training.epochs and index < max(self.by_layer):
                self._ahead = self._dense_pass(index + 1, following())
            refit()
            if sites and training.epochs:
                reconstruct(
                    healed,
                    lambda hidden: self.calls.run(index, healed, hidden),
                    self.streams,
                    self.offloading,
                    training,
                    seed=index,
                )
            if not sites or not self._moves_on(sites[-1]):
                for number, (hidden,) in enumerate(self.offloading.fetch(self.streams.pruned)):
                    self.streams.pruned[number] = self.offloading.store(self.calls.run(index, healed, hidden))
        return healed

    def _moves_on(self, site: ChannelSite) -> bool:
        """Whether healing the site takes the pruned stream to the layer's end: no weight changes after it."""
        return site.ends_layer and not self.surgery.reconstruct.epochs

    def _dense_pass(self, index: int, layer: nn.Module) -> dict[str, Targets]:
        """Move the dense stream through a layer; return the targets of its sublayers, by Sublayer.result.

        A method without a dense stream has no targets.
        """
        if not self.method.dense:
            return {}
        # One site stands for all of its sublayer: they have one target.
        sites = healed_sites(layer, self.by_layer.get(index, []))
        first = {site.sublayer.result: site for site in reversed(sites)}
        weighted = self.surgery.reconstruct.epochs > 0
        targets = {result: Targets([], [] if weighted else None) for result in first}
        with fused_norms(layer):
            for number, (hidden,) in enumerate(self.offloading.fetch(self.streams.dense)):
                with watching(layer, list(first.values())) as seen:
                    self.streams.dense[number] = self.offloading.store(self.calls.run(index, layer, hidden))
                for result, site in first.items():
                    watched, held = seen[site.name], targets[result]
                    held.values.append(self.offloading.store(self.method.target(watched)))
                    if held.token_weights is not None:
                        entering = 0.0 if watched.entering is None else watched.entering.float()
                        after = entering + watched.result.float()
                        squared_length = after.square().sum(-1).clamp_min(NO_LENGTH)
                        held.token_weights.append(self.offloading.store(squared_length.reciprocal()))
        return targets

    def _heal(
        self, index: int, layer: nn.Module, sites: list[ChannelSite], targets: Targets | None
    ) -> Callable[[], None]:
        """Begin to refit the projections of a sublayer's sites on the pruned stream. The result waits for the
        sums of all processes, refits, and cuts the sites out of `layer`, in place.

        targets: of the sublayer; None: each projection is held against its own output on the pruned stream.
        After the last site of a layer the pruned stream may move on: where nothing but the residual addition
        follows, the projection's part of the output is exchanged and no further pass is needed.
        """
        projections = {site.name: projection(layer, site) for site in sites}
        masks = {site.name: kept_units(self.masks, site) for site in sites}
        last = projections[sites[-1].name]
        moments, kept, removed = {}, {}, {}
        for name, site in ((site.name, site) for site in sites):
            weight, mask = projections[name].weight, site.of_features(masks[name])
            kept[name] = mask.nonzero().squeeze(1).to(weight.device)
            removed[name] = (~mask).nonzero().squeeze(1).to(weight.device)
            probed = len(removed[name]) if self.probing else 0
            moments[name] = Moments(len(kept[name]), len(weight), weight.device, removed=probed)
        # Where targets are the dense stream's, and nothing but the addition follows, no one asks for W x.
        unasked = targets is not None and self._moves_on(sites[-1])
        others, inputs = [], []
        for number, (hidden, target, token_weights) in enumerate(self._pruned_batches(targets)):
            with watching(layer, sites) as seen, silenced(last) if unasked else nullcontext():
                output = self.calls.run(index, layer, hidden)
            for site in sites:
                watched = seen[site.name]
                goal = self.method.goal(watched, target)
                # Removed channels do not reach the others: the uncut layer's kept inputs are the cut layer's.
                # Not index_select, which takes four times as long along the last axis of three.
                x = watched.x[..., kept[site.name]]
                gone = watched.x[..., removed[site.name]] if self.probing else None
                moments[site.name].add(x, goal, self.streams.weights[number], token_weights, gone)
                if self._moves_on(site):
                    others.append(self.offloading.store(output - watched.output))
                    inputs.append(self.offloading.store(x))
        sums_of = {site.name: moments.pop(site.name).over_processes() for site in sites}

        def refit() -> None:
            for site in sites:
                module = projections[site.name]
                without = module.weight.detach().index_select(1, removed[site.name])
                site.kind.cut(layer, site, masks[site.name])
                sums, cut = sums_of.pop(site.name)(), module.weight.detach()
                before = missed(sums, cut)
                if self.probing:
                    module.weight.data, self.probes[site.name] = both_refits(
                        sums, cut, without, self.surgery.ridge
                    )
                else:
                    module.weight.data = ridge_refit(sums, cut, self.surgery.ridge)
                after = missed_by_refit(sums, module.weight, cut, self.surgery.ridge)
                self.refits.append(Refit(index, site.name, before, after))
            for number, (other, x) in enumerate(self.offloading.fetch(others, inputs)):
                self.streams.pruned[number] = self.offloading.store(other + F.linear(x, last.weight))

        return refit

    def _pruned_batches(
        self, targets: Targets | None
    ) -> Iterator[tuple[Tensor, Tensor | None, Tensor | None]]:
        """Each batch of the pruned stream on the device, with its target and its token weights, if any."""
        if targets is None:
            for (hidden,) in self.offloading.fetch(self.streams.pruned):
                yield hidden, None, None
        elif targets.token_weights is None:
            for hidden, target in self.offloading.fetch(self.streams.pruned, targets.values):
                yield hidden, target, None
        else:
            weighted = (self.streams.pruned, targets.values, targets.token_weights)
            for hidden, target, token_weights in self.offloading.fetch(*weighted):
                yield hidden, target, token_weights


def healed_sites(layer: nn.Module, sites: Iterable[Site]) -> list[ChannelSite]:
    """The sites whose projections are refitted where some sites of a layer are cut."""
    return [one for site in sites for one in site.kind.refits(layer, site)]


def _together(site: ChannelSite) -> tuple[str, bool]:
    """Alike for the experts of one block, and apart from what is shared beside them."""
    return site.sublayer.result, site.sublayer.routed


def _nothing() -> None:
    """The refit where nothing is cut."""
