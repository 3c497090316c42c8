"""One pass over the calibration text: channel statistics of every site and the loss, per domain."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import torch
from accelerate.utils import find_executable_batch_size
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from secateurs.devices.parallel import own_rows, summed
from secateurs.errors import InputError, SettingError
from secateurs.families.decoder import decoder_layers
from secateurs.families.hooks import hooked, wrapped
from secateurs.inference.loss import sequence_losses
from secateurs.inference.norms import fused_norms
from secateurs.kinds.kind import Observer, Site, Statistics
from secateurs.kinds.names import parse_name
from secateurs.kinds.registry import kinds
from secateurs.kinds.statistics import expanded
from secateurs.settings.pruning import Capture
from secateurs.text.rows import Text

# Without a backward pass the loss is only for a figure of the report. The head, which is a fifth of a small
# model's work, then runs at one position in eight.
LOSS_EVERY = 8


@dataclass(frozen=True)
class DomainCapture:
    """One domain's statistics by site name, its mean token loss in nats, and the text they were taken of.

    answers: whether the loss, and with it taylor and fisher, is of the tokens of answers alone.
    lost: what the model had lost on left-out text of the domain (lost.lost), where that was taken.
    """

    statistics: Mapping[str, Statistics]
    loss: float
    sequences: int
    tokens: int
    answers: bool
    lost: float | None = None

    def over_dense(self, kept: Mapping[str, Tensor]) -> "DomainCapture":
        """The same statistics over the dense model's features, 0 for what is gone.

        kept: bool [features] by site name.
        """
        taken = {name for one in self.statistics.values() for name in one}
        statistics: dict[str, Statistics] = {}
        for site, mask in kept.items():
            if site in self.statistics:
                own = self.statistics[site]
                statistics[site] = {name: expanded(values, mask) for name, values in own.items()}
            else:  # gone whole, so that the pass did not see it
                names = kinds()[parse_name(site).kind].observed & taken
                statistics[site] = {name: torch.zeros(len(mask)) for name in sorted(names)}
        return replace(self, statistics=statistics)


def capture(
    model: PreTrainedModel,
    sites: Sequence[Site],
    text: Text,
    settings: Capture,
    on_sequences: Callable[[int], object] = lambda count: None,
) -> dict[str, DomainCapture]:
    """Take the statistics of `sites` on each domain's sequences, all of them.

    For a domain with answers the loss is that of answers alone. Weights must be frozen: gradients are taken
    with respect to activations only. settings: `sequences` is not asked for; without `gradients` no graph is
    built; with `checkpointing` a backward pass keeps only what enters each decoder layer and runs the layer
    again; batch_size is where the search for one that fits in memory starts. `on_sequences` is called with
    the number of sequences of each batch done. In a process group each process reads its own rows of every
    domain, and all return the same statistics of the whole. The loss is the mean over all tokens (those of
    answers) with `gradients`, over one token in LOSS_EVERY without.

    Raises InputError where a loss or an activation is not finite.
    """
    results: dict[str, DomainCapture] = {}

    def run(size: int) -> None:
        # Where a batch does not fit, its domain begins anew; those before it are kept.
        for domain in [name for name in text.ids if name not in results]:
            pass_over = _Pass(model, sites, settings.gradients, size, on_sequences)
            results[domain] = pass_over.domain(domain, text.ids[domain], text.answers.get(domain))

    longest = max((len(rows) for rows in text.ids.values()), default=1)
    again = settings.gradients and settings.checkpointing
    with fused_norms(model), _checkpointed(model) if again else nullcontext():
        # One search for all domains: each begins with a garbage collection, which takes long.
        find_executable_batch_size(run, starting_batch_size=min(settings.batch_size, longest))()
    return results


@dataclass(frozen=True)
class _Pass:
    """A pass over text in batches of one size."""

    model: PreTrainedModel
    sites: Sequence[Site]
    gradients: bool
    batch_size: int
    on_sequences: Callable[[int], object]

    def domain(self, domain: str, rows: Tensor, answers: Tensor | None) -> DomainCapture:
        """The statistics of one domain's sequences; answers: which tokens alone make the loss, if any."""
        check_answers(domain, rows, answers)
        gradients = self.gradients
        observers = {site.name: site.kind.observer(self.model, site, gradients) for site in self.sites}
        loss_sum = torch.zeros(1, dtype=torch.float64)
        with (
            recording(self.model, observers, gradients),
            nullcontext() if gradients else torch.no_grad(),
        ):
            counted = [None] if answers is None else own_rows(answers).split(self.batch_size)
            for batch, asked in zip(own_rows(rows).split(self.batch_size), cycle(counted), strict=False):
                if not len(batch):
                    continue
                loss = self._losses(batch, asked)
                if gradients:
                    # Each sequence's loss only depends on its own activations, so the gradient of the sum
                    # is, sequence by sequence, that of its own mean loss.
                    loss.sum().backward()
                loss_sum += loss.detach().cpu().double().sum()
                self.on_sequences(len(batch))
        mean = mean_token_loss(domain, loss_sum, rows, answers)
        statistics = statistics_of(domain, observers, rows)
        return DomainCapture(statistics, mean, len(rows), rows.numel(), answers is not None)

    def _losses(self, batch: Tensor, counted: Tensor | None) -> Tensor:
        """The mean token loss of each sequence; counted: the tokens that make it, all where it is None."""
        embeddings: Any = self.model.get_input_embeddings()  # transformers' types leave out the weight
        batch = batch.to(embeddings.weight.device)
        return sequence_losses(self.model, batch, **what_counts(batch, counted, self.gradients))


def what_counts(batch: Tensor, counted: Tensor | None, gradients: bool) -> dict[str, Any]:
    """Of which positions a loss is taken, as sequence_losses has it; counted: the tokens of answers."""
    if counted is None:
        return {"every": 1 if gradients else LOSS_EVERY}
    return {"counted": counted.to(batch.device)}


def check_answers(domain: str, rows: Tensor, answers: Tensor | None) -> None:
    """Raise InputError where a domain's rows hold nothing of the answers that are to count alone."""
    if answers is not None and not bool(answers[:, 1:].any()):
        raise SettingError(
            f"capture.sequences: none of the {len(rows)} sequences of domain {domain} holds a "
            "part of an answer; raise it, or lower sample.dialogues.question.tokens"
        )


def mean_token_loss(domain: str, total: Tensor, rows: Tensor, answers: Tensor | None) -> float:
    """The mean loss over a domain's tokens, those of answers where there are some, in all processes.

    total: float64 [1], the sum over this process's sequences. Raises InputError where it is not finite.
    """
    mean = float(summed(total)) / len(rows)
    if answers is not None:
        mean *= answers[:, 1:].numel() / int(answers[:, 1:].sum())
    if not math.isfinite(mean):
        raise InputError(f"model: the loss on domain {domain} is {mean}; its weights or dtype are unusable")
    return mean


def statistics_of(domain: str, observers: Mapping[str, Observer], rows: Tensor) -> dict[str, Statistics]:
    """What sites have seen of all rows of a domain; raises InputError where it is not finite."""
    statistics: dict[str, Statistics] = {
        name: one.statistics(rows.numel(), len(rows)) for name, one in observers.items()
    }
    for name, found in statistics.items():
        for statistic, values in found.items():
            if not bool(torch.isfinite(values).all()):
                raise InputError(
                    f"model: {statistic} at site {name} on domain {domain} is not finite; "
                    "try compute.dtype: float32"
                )
    return statistics


@contextmanager
def _checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """Activation checkpointing of every decoder layer for the time of a pass.

    Re-entrant, because then a layer's first run builds no graph, and hooks can tell it from the second,
    which does. Weights are frozen, so hidden states are all that gradients flow through.
    """

    def rerunning(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(*positional: Any, **named: Any) -> Any:
            hidden, *others = positional or (named.pop("hidden_states"),)

            def again(states: Tensor) -> Any:
                return forward(states, *others, **named)

            return checkpoint(again, hidden, use_reentrant=True, preserve_rng_state=False)

        return run

    with wrapped(decoder_layers(model), rerunning):
        yield


@contextmanager
def recording(model: PreTrainedModel, observers: Mapping[str, Observer], gradients: bool) -> Iterator[None]:
    """Let the observers see every pass in the context; gradients start at the embeddings."""
    before = [hook for one in observers.values() for hook in one.before]
    after = [hook for one in observers.values() for hook in one.after]
    if gradients:
        after.append((model.get_input_embeddings(), lambda module, inputs, output: output.requires_grad_()))
    with hooked(before, after):
        yield
