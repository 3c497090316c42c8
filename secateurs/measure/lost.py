"""What a model, as it is cut so far, has lost on each domain, relative to the dense one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.divergence import divergences_of_hidden
from secateurs.inference.head import head_logits, hidden_states
from secateurs.inference.loss import CHUNK_TOKENS
from secateurs.text.rows import Text

Read = Callable[[str, int, Tensor], Tensor]
"""(domain, number of a batch of it, token ids [batch, tokens]) -> what the head reads there."""


@dataclass(frozen=True)
class Before:
    """What the dense model says of left-out text.

    hidden: what enters its head at the positions that count, [positions, d] by domain, in host memory. loss:
    its mean loss there, nats per token.
    """

    hidden: Mapping[str, Tensor]
    loss: Mapping[str, float]


@torch.no_grad()
def look(model: PreTrainedModel, text: Text, batch_size: int, read: Read | None = None) -> Before:
    """What the dense model says of the text, at the positions whose next token counts.

    Those are the positions before the tokens of answers in dialogues, and all others elsewhere. read: what
    the model's layers make of a batch, where they do not run as a whole.
    """
    logits = head_logits(model)
    found, losses = {}, {}
    for domain in text.ids:
        parts, total = [], 0.0
        for hidden, labels in _counted(model, text, domain, batch_size, read):
            parts.append(hidden.cpu())
            for states, wanted in zip(hidden.split(CHUNK_TOKENS), labels.split(CHUNK_TOKENS), strict=True):
                scores = logits(states)
                total += float(F.cross_entropy(scores, wanted.to(scores.device), reduction="sum"))
        found[domain] = torch.cat(parts)
        losses[domain] = total / max(1, len(found[domain]))
    return Before(found, losses)


@torch.no_grad()
def lost(
    model: PreTrainedModel, before: Before, text: Text, batch_size: int, read: Read | None = None
) -> dict[str, float]:
    """KL(dense || model) / the dense model's loss, by domain: the share of what it knew of the next token.

    A model is surer of its own answers than of a newspaper, so that nats alone would call every loss there
    small. The head must be the dense model's. Both means are over the same positions of `text`.
    read: as for `look`, of the model as it is now.
    """
    logits = head_logits(model)
    found = {}
    for domain in text.ids:
        dense, start, total = before.hidden[domain], 0, 0.0
        for hidden, _ in _counted(model, text, domain, batch_size, read):
            theirs = dense[start : start + len(hidden)].to(hidden.device)
            value = divergences_of_hidden(hidden[None], theirs[None], logits, logits)
            total += float(value) * len(hidden)
            start += len(hidden)
        found[domain] = total / max(1, start) / max(before.loss[domain], torch.finfo(torch.float32).tiny)
    return found


def _counted(
    model: PreTrainedModel, text: Text, domain: str, batch_size: int, read: Read | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Hidden states [positions, d] whose next token counts, and those tokens [positions], batch by batch."""
    device = model.get_input_embeddings().weight.device
    ids = text.ids[domain]
    whole = text.answers.get(domain, torch.ones_like(ids, dtype=torch.bool))
    for number, (rows, counts) in enumerate(zip(ids.split(batch_size), whole.split(batch_size), strict=True)):
        chosen = counts[:, 1:].to(device)
        if not bool(chosen.any()):
            continue
        batch = rows.to(device)
        hidden = hidden_states(model, batch) if read is None else read(domain, number, batch)
        yield hidden[:, :-1][chosen.to(hidden.device)], batch[:, 1:][chosen]
