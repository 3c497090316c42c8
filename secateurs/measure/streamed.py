"""A round's statistics of a model that is in memory one decoder layer at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

import torch
from accelerate.utils import find_executable_batch_size
from torch import Tensor, nn

from secateurs.checkpoints.streaming import StreamedModel
from secateurs.devices.offloading import Offloading
from secateurs.devices.parallel import own_rows
from secateurs.errors import SettingError
from secateurs.families.decoder import decoder_layers
from secateurs.families.discover import family_of
from secateurs.heal.residual_streams import Calls, enter, leave
from secateurs.inference.loss import losses_of_hidden
from secateurs.inference.norms import fused_norms
from secateurs.kinds.kind import Gone, Masks, Site, Statistics
from secateurs.kinds.sites import chosen_sites, cut, kept_units, pruned_sites, sites_of
from secateurs.measure.capture import (
    DomainCapture,
    check_answers,
    mean_token_loss,
    recording,
    statistics_of,
    what_counts,
)
from secateurs.measure.lost import Read, look, lost
from secateurs.settings.method import Settings
from secateurs.text.portions import left_out_text, round_text
from secateurs.text.rows import Text

Streams = dict[str, list[Tensor]]
"""The residual stream of each domain, in batches [batch, tokens, d], where Offloading stores them."""


@torch.no_grad()
def measure_streamed(
    source: StreamedModel,
    masks: Masks,
    text: Text,
    settings: Settings,
    round_name: str,
    on_layer: Callable[[], object] = lambda: None,
) -> dict[str, DomainCapture]:
    """As measure.measure, layer by layer: each is read, cut, run on all text, and dropped.

    source: its model is cut, in place, in shape. on_layer: called after each layer. There are no gradients,
    which need all layers at once. Statistics are those of the whole model on the device, to the last bit on a
    CPU. The device holds embeddings, head and one layer, and of the hidden states of all text what has room
    (offloading.FREE); host memory holds the others: tokens * d * bytes of dtype, and with `mask.left_out`
    those of the left-out tokens twice. Raises InputError as measure does, and for a model whose layers hand
    each other more than the residual stream.
    """
    model, budget = source.model, settings.prune
    if not family_of(model.config).apart:
        raise SettingError(
            f"capture.layers: streamed: not for {model.config.model_type}, whose layers hand each other more "
            "than the residual stream, so that none can be run by itself; use resident"
        )
    chosen = chosen_sites(model, budget.sites, budget.widths, budget.width_multiple)
    kept = {site.name: site.of_features(kept_units(masks, site)) for site in chosen}
    cutting = _by_layer(pruned_sites(model, masks))
    cut(model, masks)
    observed = _by_layer(sites_of(model, budget.sites))
    walk = _Walk(source, Offloading(source.device), masks, cutting, observed, on_layer)
    read = round_text(text, settings, round_name)
    for domain, rows in read.ids.items():
        check_answers(domain, rows, read.answers.get(domain))
    judged = left_out_text(text, settings.mask.left_out) if settings.mask.left_out else Text({})
    found: dict[str, DomainCapture] = {}

    def run(size: int) -> None:
        found.update(walk.through(read, judged, size))

    longest = max((len(rows) for rows in read.ids.values()), default=1)
    with fused_norms(model):
        # Where a batch does not fit, the first layer already tells.
        find_executable_batch_size(run, starting_batch_size=min(settings.capture.batch_size, longest))()
    return {domain: one.over_dense(kept) for domain, one in found.items()}


@dataclass(frozen=True)
class _Walk:
    """The way of text through the layers.

    cutting, observed: by layer the sites of which something goes, and those of which statistics are taken.
    """

    source: StreamedModel
    offloading: Offloading
    masks: Masks
    cutting: Mapping[int, Sequence[Site]]
    observed: Mapping[int, Sequence[Site]]
    on_layer: Callable[[], object]

    def through(self, text: Text, judged: Text, size: int) -> dict[str, DomainCapture]:
        """The captures of `text`, with what was lost on `judged`, in batches of `size`."""
        model = self.source.model
        read = {domain: _batches(own_rows(rows), size) for domain, rows in text.ids.items()}
        others = {domain: _batches(rows, size) for domain, rows in judged.ids.items()}
        batches = [batch for one in (read, others) for rows in one.values() for batch in rows]
        entering, calls = enter(model, batches, self.offloading)
        places = iter(entering)
        streams, dense = (
            {domain: [next(places) for _ in rows] for domain, rows in one.items()} for one in (read, others)
        )
        after = {domain: list(rows) for domain, rows in dense.items()}
        statistics: dict[str, dict[str, Statistics]] = {domain: {} for domain in read}
        for index in range(len(decoder_layers(model))):
            with self._read(index, needed=bool(dense)) as layer:
                self._advance(dense, index, layer, calls)
                passed = self._cut(index, layer)
                self._advance(after, index, passed, calls)
                for domain, stream in streams.items():
                    own = self.observed.get(index, ())
                    observers = {site.name: site.kind.observer(model, site, False) for site in own}
                    with recording(model, observers, False):
                        self._advance({domain: stream}, index, passed, calls)
                    statistics[domain] |= statistics_of(domain, observers, text.ids[domain])
            self.on_layer()
        before = look(model, judged, size, self._reader(dense))
        gone = lost(model, before, judged, size, self._reader(after))
        found = {}
        for domain, rows in text.ids.items():
            answers = text.answers.get(domain)
            counted = [None] if answers is None else _batches(own_rows(answers), size)
            total = self._losses(domain, read[domain], counted, streams)
            mean = mean_token_loss(domain, total, rows, answers)
            counts = len(rows), rows.numel(), answers is not None
            found[domain] = DomainCapture(statistics[domain], mean, *counts, gone.get(domain))
        return found

    @contextmanager
    def _read(self, index: int, needed: bool) -> Iterator[nn.Module]:
        """A dense layer, with weights in the context alone; one that goes whole is read only where needed."""
        layers = decoder_layers(self.source.model)
        shape = layers[index]
        layer = shape if isinstance(shape, Gone) and not needed else self.source.layer(index)
        try:
            yield layer
        finally:
            layers[index] = shape
            # Whatever still refers to the layer, its weights go before those of the next one come.
            layer.to("meta")

    def _cut(self, index: int, layer: nn.Module) -> nn.Module:
        """What is left of a layer, in its place in the model, where observers look for it."""
        layers = decoder_layers(self.source.model)
        if not isinstance(layers[index], Gone):
            for site in self.cutting.get(index, ()):
                layer = site.kind.cut(layer, site, self.masks[site.name])
            layers[index] = layer
        return layers[index]

    def _advance(self, streams: Streams, index: int, layer: nn.Module, calls: Calls) -> None:
        """Move streams through a layer, which is on the device."""
        embeddings = self.source.model.get_input_embeddings()
        with fused_norms(layer):
            for stream in streams.values():
                for number, (hidden,) in enumerate(self.offloading.fetch(stream)):
                    # Observers count the sequences of a batch where it enters the model.
                    embeddings(hidden.new_zeros(len(hidden), 1, dtype=torch.int64))
                    stream[number] = self.offloading.store(calls.run(index, layer, hidden))

    def _losses(
        self,
        domain: str,
        batches: Sequence[Tensor],
        counted: Sequence[Tensor | None],
        streams: Mapping[str, Sequence[Tensor]],
    ) -> Tensor:
        """The sum of the losses of this process's sequences of a domain, float64 [1]."""
        total, read = torch.zeros(1, dtype=torch.float64), self._reader(streams)
        for number, (rows, asked) in enumerate(zip(batches, cycle(counted), strict=False)):
            batch = rows.to(self.source.device)
            hidden = read(domain, number, batch)
            which = what_counts(batch, asked, gradients=False)
            total += losses_of_hidden(self.source.model, hidden, batch, **which).cpu().double().sum()
        return total

    def _reader(self, streams: Mapping[str, Sequence[Tensor]]) -> Read:
        def read(domain: str, number: int, batch: Tensor) -> Tensor:
            return leave(self.source.model, batch, streams[domain][number].to(self.source.device))

        return read


def _by_layer(sites: Iterable[Site]) -> dict[int, list[Site]]:
    found: dict[int, list[Site]] = {}
    for site in sites:
        found.setdefault(site.layer, []).append(site)
    return found


def _batches(rows: Tensor, size: int) -> list[Tensor]:
    return list(rows.split(size)) if len(rows) else []
