"""How likely a model finds continuations of texts: many at once, the head run only where it is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate.utils import find_executable_batch_size
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.families.decoder import context_length
from secateurs.inference.attention_kernels import many_shapes
from secateurs.inference.head import head_logits, hidden_states
from secateurs.inference.loss import CHUNK_TOKENS
from secateurs.progress import counter

Ids = tuple[int, ...]
# A row of this many tokens is what a batch size counts: shorter requests share one.
ROW_TOKENS = 256


@dataclass(frozen=True)
class Continuation:
    """Token ids that are read, and those after them whose likelihood is asked; both have at least one."""

    context: Ids
    asked: Ids


@dataclass(frozen=True)
class Likelihood:
    """Natural logarithm of the probability of all asked tokens; whether each was the most likely one."""

    log: float
    greedy: bool


def likelihoods(
    model: PreTrainedModel, continuations: Sequence[Continuation], batch_size: int
) -> list[Likelihood]:
    """log p(asked | context) = sum_t log softmax(logits_t)[asked_t], float32 softmax, in the order given.

    Requests that read the same tokens run once. They are sorted by length and padded on the right, which a
    causal model does not see; what is longer than its context loses its beginning. batch_size: rows of
    ROW_TOKENS tokens at a time to begin with, halved whenever memory runs out.
    """
    groups: dict[Ids, list[int]] = {}
    longest = context_length(model.config)
    for number, one in enumerate(continuations):
        read = (*one.context, *one.asked)[-longest - 1 : -1]
        groups.setdefault(read, []).append(number)
    found: dict[int, Likelihood] = {}
    ordered = sorted(groups, key=len, reverse=True)

    def run(batch_size: int) -> None:
        with counter("tasks", "choices", len(continuations)) as bar:
            bar.update(len(found))
            waiting = [read for read in ordered if groups[read][0] not in found]
            for batch in batches(waiting, batch_size * ROW_TOKENS):
                new = _score(model, batch, [[continuations[n].asked for n in groups[read]] for read in batch])
                for read, scores in zip(batch, new, strict=True):
                    found.update(zip(groups[read], scores, strict=True))
                    bar.update(len(scores))

    with torch.inference_mode(), many_shapes():
        find_executable_batch_size(run, starting_batch_size=batch_size)()
    return [found[number] for number in range(len(continuations))]


def batches(ordered: Sequence[Ids], tokens: int, more: int = 0) -> Iterator[list[Ids]]:
    """Successive rows, longest first, that fit in `tokens` when padded and `more` are written after each."""
    batch: list[Ids] = []
    for row in ordered:
        if batch and (len(batch) + 1) * (len(batch[0]) + more) > tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _score(
    model: PreTrainedModel, rows: Sequence[Ids], asked: Sequence[Sequence[Ids]]
) -> list[list[Likelihood]]:
    """For each row that is read, the likelihood of each of the endings asked after it."""
    read = torch.zeros(len(rows), len(rows[0]), dtype=torch.int64)
    for number, row in enumerate(rows):
        read[number, : len(row)] = torch.tensor(row)
    hidden = hidden_states(model, read.to(model.device))
    # The last tokens of a row predict an ending's tokens: all but its first are among what is read.
    places = [
        (number, len(row) - len(ending) + place)
        for number, (row, endings) in enumerate(zip(rows, asked, strict=True))
        for ending in endings
        for place in range(len(ending))
    ]
    targets = torch.tensor([token for endings in asked for ending in endings for token in ending])
    where = torch.tensor(places, device=hidden.device)
    logs, best = _pick(model, hidden[where[:, 0], where[:, 1]], targets)
    scores: list[list[Likelihood]] = []
    start = 0
    for endings in asked:
        scores.append([])
        for ending in endings:
            end = start + len(ending)
            scores[-1].append(Likelihood(float(logs[start:end].sum()), bool(best[start:end].all())))
            start = end
    return scores


def _pick(model: PreTrainedModel, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of hidden states [n, d]: each target's log probability, float64 [n]; whether it is the likeliest."""
    logits = head_logits(model)
    logs, best = [], []
    for chunk, wanted in zip(hidden.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True):
        values = logits(chunk)
        wanted = wanted.to(values.device)
        logs.append(-F.cross_entropy(values, wanted, reduction="none"))
        best.append(values.argmax(dim=-1) == wanted)
    return torch.cat(logs).cpu().double(), torch.cat(best).cpu()
