"""One pass over the calibration text: channel statistics of every site and the loss, per domain."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from accelerate.utils import find_executable_batch_size
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from secateurs.devices.parallel import own_rows, summed
from secateurs.errors import InputError, SettingError
from secateurs.families.decoder import decoder_layers
from secateurs.inference.hooks import hooked
from secateurs.inference.loss import sequence_losses
from secateurs.inference.norms import fused_norms
from secateurs.kinds.sites import Site, output_projection
from secateurs.measure.statistics import ChannelStatistics, ChannelSums

# Without a backward pass the loss is only for a figure of the report. The head, which is a fifth of a small
# model's work, then runs at one position in eight.
LOSS_EVERY = 8


@dataclass(frozen=True)
class DomainCapture:
    """One domain's statistics by site name, its mean token loss in nats, and the text they were taken of.

    answers: whether the loss, and with it taylor and fisher, is of the tokens of answers alone.
    """

    statistics: Mapping[str, ChannelStatistics]
    loss: float
    sequences: int
    tokens: int
    answers: bool

    def expanded(self, kept: Mapping[str, Tensor]) -> "DomainCapture":
        """The same statistics over the dense model's channels; `kept` is bool [channels] by site name."""
        statistics = {name: one.expanded(kept[name]) for name, one in self.statistics.items()}
        return replace(self, statistics=statistics)


def capture(
    model: PreTrainedModel,
    sites: list[Site],
    sequences: Mapping[str, Tensor],
    *,
    answers: Mapping[str, Tensor],
    gradients: bool,
    checkpointing: bool,
    batch_size: int,
    on_sequences: Callable[[int], object],
) -> dict[str, DomainCapture]:
    """Take the statistics of `sites` on each domain's sequences (int64 [count, tokens]).

    answers: for domains whose loss is that of answers alone, which tokens those are (bool [count, tokens]).
    Weights must be frozen: gradients are taken with respect to activations only. Without `gradients` no
    graph is built; with `checkpointing` a backward pass keeps only what enters each decoder layer and runs
    the layer again. batch_size is where the search for one that fits in memory starts; `on_sequences` is
    called with the number of sequences of each batch done. In a process group each process reads its own
    rows of every domain, and all return the same statistics of the whole. The loss is the mean over all
    tokens (those of answers) with `gradients`, over one token in LOSS_EVERY without.

    Raises InputError where a loss or an activation is not finite.
    """
    results: dict[str, DomainCapture] = {}

    def run(size: int) -> None:
        # Where a batch does not fit, its domain begins anew; those before it are kept.
        for domain in [name for name in sequences if name not in results]:
            results[domain] = _capture_domain(
                model,
                sites,
                domain,
                sequences[domain],
                answers=answers.get(domain),
                gradients=gradients,
                batch_size=size,
                on_sequences=on_sequences,
            )

    longest = max((len(rows) for rows in sequences.values()), default=1)
    with fused_norms(model), _checkpointed(model) if gradients and checkpointing else nullcontext():
        # One search for all domains: each begins with a garbage collection, which takes long.
        find_executable_batch_size(run, starting_batch_size=min(batch_size, longest))()
    return results


def _capture_domain(
    model: PreTrainedModel,
    sites: list[Site],
    domain: str,
    rows: Tensor,
    *,
    answers: Tensor | None,
    gradients: bool,
    batch_size: int,
    on_sequences: Callable[[int], object],
) -> DomainCapture:
    if answers is not None and not bool(answers[:, 1:].any()):
        raise SettingError(
            f"capture.sequences: none of the {len(rows)} sequences of domain {domain} holds a "
            "part of an answer; raise it, or lower sample.dialogues.question.tokens"
        )
    device = model.get_input_embeddings().weight.device
    sums = {site.name: ChannelSums(site.channels, gradients) for site in sites}
    loss_sum = torch.zeros(1, dtype=torch.float64)
    with _recording(model, sites, sums, gradients), nullcontext() if gradients else torch.no_grad():
        for number, batch in enumerate(own_rows(rows).split(batch_size)):
            if not len(batch):
                continue
            if answers is None:
                loss = sequence_losses(model, batch.to(device), every=1 if gradients else LOSS_EVERY)
            else:
                counted = own_rows(answers).split(batch_size)[number]
                loss = sequence_losses(model, batch.to(device), counted=counted.to(device))
            if gradients:
                # Each sequence's loss only depends on its own activations, so the gradient of the sum
                # is, sequence by sequence, that of its own mean loss.
                loss.sum().backward()
            loss_sum += loss.detach().cpu().double().sum()
            on_sequences(len(batch))
    mean_loss = float(summed(loss_sum)) / len(rows)
    if answers is not None:
        mean_loss *= answers[:, 1:].numel() / int(answers[:, 1:].sum())
    if not math.isfinite(mean_loss):
        raise InputError(
            f"model: the loss on domain {domain} is {mean_loss}; its weights or dtype are unusable"
        )
    statistics = {name: one.statistics(rows.numel(), len(rows)) for name, one in sums.items()}
    for name, one in statistics.items():
        for statistic, values in one.items():
            if not bool(torch.isfinite(values).all()):
                raise InputError(
                    f"model: {statistic} at site {name} on domain {domain} is not finite; "
                    "try compute.dtype: float32"
                )
    return DomainCapture(statistics, mean_loss, len(rows), rows.numel(), answers is not None)


@contextmanager
def _checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """Activation checkpointing of every decoder layer for the time of a pass.

    Re-entrant, because then a layer's first run builds no graph, and hooks can tell it from the second,
    which does. Weights are frozen, so hidden states are all that gradients flow through.
    """
    layers = decoder_layers(model)
    # accelerate may have replaced a layer's forward by a function of its own, which must come back.
    before = [vars(layer).get("forward") for layer in layers]

    def rerunning(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(hidden_states: Tensor, **others: Any) -> Tensor:
            again = partial(forward, **others)
            output: Tensor = checkpoint(again, hidden_states, use_reentrant=True, preserve_rng_state=False)
            return output

        return run

    for layer in layers:
        layer.forward = rerunning(layer.forward)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward


@contextmanager
def _recording(
    model: PreTrainedModel, sites: list[Site], sums: Mapping[str, ChannelSums], gradients: bool
) -> Iterator[None]:
    """Add up, in the context, what enters the output projections; gradients start at the embeddings."""

    def hook_for(one: ChannelSums) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # Under checkpointing a layer runs twice, the first time without a graph: that one is not counted.
            if gradients and not inputs[0].requires_grad:
                return
            x = inputs[0].detach()
            one.add_activations(x)
            if gradients:
                # The hook must not hold its own tensor: the cycle would keep the whole graph in memory.
                inputs[0].register_hook(lambda gradient: one.add_gradients(x, gradient))

        return before

    before = [(output_projection(model, site), hook_for(sums[site.name])) for site in sites]
    after = [(model.get_input_embeddings(), lambda module, inputs, output: output.requires_grad_())]
    with hooked(before, after if gradients else ()):
        yield
