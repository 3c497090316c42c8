"""Cut a model by its masks and heal what is left, one decoder layer at a time."""

import copy
from collections.abc import Callable, Mapping
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.pruning.decoder import decoder_layers
from stages.pruning.families import Masks, Site, channel_mask, cut_layer, pruned_sites, resize_config
from stages.pruning.healing import Moments, ridge_refit
from stages.pruning.offloading import Offloading
from stages.pruning.parallel import from_first, share
from stages.pruning.reconstruction import reconstruct
from stages.pruning.settings import Healing
from stages.pruning.streams import Calls, enter, projection, watching

# The least squared length that an error is divided by.
NO_LENGTH = 1e-6


@torch.no_grad()
def prune(
    model: PreTrainedModel,
    masks: Masks,
    sequences: Mapping[str, Tensor],
    mixture: Mapping[str, float],
    healing: Healing,
    *,
    device: torch.device,
    batch_size: int,
    on_layer: Callable[[], object],
) -> None:
    """Cut `model`, which is in host memory, in place and refit the output projection of every cut site.

    `sequences` (int64 [count, tokens] by domain) is the healing text and `mixture` how much each domain's
    tokens count. Sites are walked in the order data flows. Two streams run side by side: the dense one
    through the untouched layer, the pruned one through what has been healed so far. For each site

        residual       target = W x_dense + alpha (h_dense - h_pruned), h the stream entering the sublayer
        least_squares  target = W x, both on the pruned stream
        none           no refit: the kept columns stay as they are

    Every token counts alike, save with `healing.reconstruction`: there each one's error is divided by the
    length of the dense stream behind the sublayer, as the training divides it. What training does to the
    streams of a few tokens of enormous length could otherwise ruin the next layer's refit for all others.
    Where a norm follows the projection, x, W x and h are taken as that norm sees and scales them; the experts
    of a mixture share the error of the whole mixture by their routing weights (streams.Watched). A site at
    which nothing was removed stays bit-identical. With `healing.reconstruction` all weights of a layer with
    cut sites are then trained against what the dense layer gives (reconstruction.reconstruct). `on_layer` is
    called after each layer.

    `device` computes and holds one layer, its healed copy, one Gram matrix and a few batches at a time;
    everything else stays in host memory. In a process group each process heals on its share of the text
    and all end with the same weights.
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
    elif by_layer:
        # Batches do not cross domains, so that one weight holds for all tokens of a batch.
        shares = {domain: share(ids) for domain, ids in sequences.items()}
        pairs = [
            (batch, mixture[domain])
            for domain, ids in shares.items()
            if len(ids)
            for batch in ids.split(batch_size)
        ]
        offloading = Offloading(device)
        hidden, calls = enter(model, [batch for batch, _ in pairs], offloading)
        surgeon = _Surgeon(healing, masks, offloading, calls, hidden, [weight for _, weight in pairs])
        count = max(by_layer) + 1
        for index, layer in enumerate(offloading.layers(layers, count)):
            layers[index] = surgeon.layer(index, layer, by_layer.get(index, [])).to("cpu")
            on_layer()
        for _ in range(count, len(layers)):
            on_layer()
    resize_config(model.config, masks)


class _Surgeon:
    """The two streams at the depth reached so far, and what every layer is healed with."""

    def __init__(
        self,
        healing: Healing,
        masks: Masks,
        offloading: Offloading,
        calls: Calls,
        hidden: list[Tensor],
        weights: list[float],
    ) -> None:
        self.healing, self.masks, self.offloading, self.calls = healing, masks, offloading, calls
        self.dense, self.pruned, self.weights = list(hidden), hidden, weights

    def layer(self, index: int, layer: nn.Module, sites: list[Site]) -> nn.Module:
        """The layer cut and healed, with both streams moved through it."""
        # A copy, because the dense stream needs the layer as it was until its last batch is through.
        healed = copy.deepcopy(layer)
        wanted = self._dense_pass(index, layer, sites)
        # The experts of a mixture are healed together, in one pass.
        for total, together in groupby(sites, key=lambda site: site.total):
            self._heal(index, healed, list(together), wanted.get(total, []))
        if sites and self.healing.reconstruction is not None:
            reconstruct(
                healed,
                lambda hidden: self.calls.run(index, healed, hidden),
                self.pruned,
                self.dense,
                self.weights,
                self.offloading,
                self.healing.reconstruction,
                seed=index,
            )
        if not sites or not self._moves_on(sites[-1]):
            for number, (hidden,) in enumerate(self.offloading.fetch(self.pruned)):
                self.pruned[number] = self.offloading.store(self.calls.run(index, healed, hidden))
        return healed

    def _moves_on(self, site: Site) -> bool:
        """Whether healing the site takes the pruned stream to the layer's end, as no weight changes after."""
        return site.ends_layer and self.healing.reconstruction is None

    def _dense_pass(self, index: int, layer: nn.Module, sites: list[Site]) -> dict[str, list[list[Tensor]]]:
        """Move the dense stream through a layer; return what its sublayers' refits are held against.

        For each sublayer, by its `total`: a list of targets, total + alpha h [batch, tokens, d], and with
        reconstruction one of weights [batch, tokens]; float32, one for each batch.
        """
        # One site stands for all with its total: they share one target.
        first = {site.total: site for site in reversed(sites)}
        wanted: dict[str, list[list[Tensor]]] = {total: [] for total in first}
        if self.healing.method != "residual":
            return wanted
        rows: dict[str, list[list[Tensor]]] = {total: [] for total in first}
        for number, (hidden,) in enumerate(self.offloading.fetch(self.dense)):
            with watching(layer, list(first.values())) as seen:
                self.dense[number] = self.offloading.store(self.calls.run(index, layer, hidden))
            for total, site in first.items():
                watched = seen[site.name]
                # float32, for the difference of two streams is far smaller than either of them.
                entering, made = watched.entering.float(), watched.total.float()
                row = [made + self.healing.alpha * entering]
                if self.healing.reconstruction is not None:
                    row.append((entering + made).square().sum(-1).clamp_min(NO_LENGTH).reciprocal())
                rows[total].append([self.offloading.store(one) for one in row])
        return {total: [list(one) for one in zip(*found, strict=True)] for total, found in rows.items()}

    def _heal(self, index: int, layer: nn.Module, sites: list[Site], wanted: list[list[Tensor]]) -> None:
        """Refit the projections of sites with one total on the pruned stream and cut the sites out of
        `layer`, in place.

        wanted: the sublayer's of _dense_pass. After the last site of a layer the pruned stream may move on:
        where nothing but the residual addition follows, the projection's share of the output is exchanged
        and no further pass is needed.
        """
        projections = {site.name: projection(layer, site) for site in sites}
        moments, kept = {}, {}
        for name, site in ((site.name, site) for site in sites):
            weight = projections[name].weight
            kept[name] = channel_mask(site, self.masks[name]).nonzero().squeeze(1).to(weight.device)
            moments[name] = Moments(len(kept[name]), len(weight), weight.device)
        others, inputs = [], []
        for number, (hidden, *held) in enumerate(self.offloading.fetch(self.pruned, *wanted)):
            with watching(layer, sites) as seen:
                output = self.calls.run(index, layer, hidden)
            for site in sites:
                watched = seen[site.name]
                goal = watched.wanted(held[0], self.healing.alpha) if held else watched.output
                # Removed channels do not reach the others: the uncut layer's kept inputs are the cut layer's.
                x = watched.x.index_select(-1, kept[site.name])
                moments[site.name].add(x, goal, self.weights[number], *held[1:])
                if self._moves_on(site):
                    others.append(self.offloading.store(output - watched.output))
                    inputs.append(self.offloading.store(x))
        for site in sites:
            cut_layer(layer, site, self.masks[site.name])
            module = projections[site.name]
            module.weight.data = from_first(
                ridge_refit(moments[site.name].total(), module.weight.detach(), self.healing.ridge)
            )
        for number, (other, x) in enumerate(self.offloading.fetch(others, inputs)):
            self.pruned[number] = self.offloading.store(other + F.linear(x, module.weight))
