"""How well a model predicts held-out text, domain by domain."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate.utils import find_executable_batch_size
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.inference.loss import sequence_losses
from secateurs.progress import progress
from secateurs.text.documents import Sequence as Row


@dataclass(frozen=True)
class DomainScore:
    """A domain's held-out score: mean loss in nats per predicted token, bits per byte of their text."""

    loss: float
    bits_per_byte: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """e to the mean loss."""
        return math.exp(self.loss)


def score_domains(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], batch_size: int
) -> dict[str, DomainScore]:
    """Score every domain in `rows` (all of one length), in the order in which domains first appear.

    batch_size: rows at a time to begin with; halved whenever memory runs out.
    Raises InputError when a loss is not finite.
    """
    losses = _row_losses(model, rows, batch_size)
    scores = {}
    for domain in dict.fromkeys(row.domain for row in rows):
        own = [(row, loss) for row, loss in zip(rows, losses, strict=True) if row.domain == domain]
        loss = math.fsum(loss for _, loss in own) / len(own)
        if not math.isfinite(loss):
            raise InputError(
                f"held-out loss of domain {domain}: {loss}; with compute.dtype: float16 use bfloat16 or "
                "float32, otherwise the checkpoint is broken"
            )
        tokens = sum(len(row.input_ids) - 1 for row, _ in own)
        text_bytes = sum(_predicted_bytes(tokenizer, row) for row, _ in own)
        if text_bytes == 0:
            raise InputError(f"held-out text of domain {domain}: only special tokens; see data/corpus")
        scores[domain] = DomainScore(loss, loss * tokens / (text_bytes * math.log(2)), tokens)
    return scores


def geometric_mean(scores: Mapping[str, DomainScore]) -> float:
    """Geometric mean of the domains' perplexities: every domain counts the same, however long or hard."""
    return math.exp(math.fsum(score.loss for score in scores.values()) / len(scores))


def _row_losses(model: PreTrainedModel, rows: Sequence[Row], batch_size: int) -> list[float]:
    input_ids = torch.tensor([row.input_ids for row in rows], dtype=torch.int64)

    def run(batch_size: int) -> list[float]:
        batches = progress(input_ids.split(batch_size), "perplexity", "batch")
        with torch.no_grad():
            return [loss for batch in batches for loss in _losses(model, batch)]

    losses: list[float] = find_executable_batch_size(run, starting_batch_size=batch_size)()
    return losses


def _losses(model: PreTrainedModel, batch: torch.Tensor) -> list[float]:
    losses: list[float] = sequence_losses(model, batch.to(model.device)).tolist()
    return losses


def _predicted_bytes(tokenizer: PreTrainedTokenizerBase, row: Row) -> int:
    # The first token is given, not predicted; separators between documents stand for no text.
    text = tokenizer.decode(
        list(row.input_ids[1:]), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert isinstance(text, str)
    return len(text.encode())
