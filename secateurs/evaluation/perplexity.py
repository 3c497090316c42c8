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
from secateurs.text.recutting import recut, same_cut


@dataclass(frozen=True)
class DomainScore:
    """A domain's held-out score: mean loss in nats per predicted token, bits per byte of their text.

    Tokens are those that the rows are given in, also where the model cuts the same text into others: so the
    losses of two models can be compared.
    """

    loss: float
    bits_per_byte: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """e to the mean loss."""
        return math.exp(self.loss)


def score_domains(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    batch_size: int,
    cut_by: PreTrainedTokenizerBase | None = None,
) -> dict[str, DomainScore]:
    """Score every domain in `rows`, in the order in which domains first appear.

    cut_by: the tokenizer that the rows are cut by; None means the model's own. Where the model's has other
    tokens, it reads the rows' text as its own cuts it, and the loss is given per token of the rows:
    bits per byte * ln 2 * bytes of the rows' predicted tokens / their number.

    batch_size: rows at a time to begin with; halved whenever memory runs out.
    Raises InputError when a loss is not finite.
    """
    read = rows if cut_by is None or same_cut(cut_by, tokenizer) else recut(rows, cut_by, tokenizer)
    losses = _row_losses(model, read, batch_size)
    scores = {}
    for domain in dict.fromkeys(row.domain for row in rows):
        own = [place for place, row in enumerate(rows) if row.domain == domain]
        nats = math.fsum(losses[place] * (len(read[place].input_ids) - 1) for place in own)
        tokens, text_bytes = _predicted(tokenizer, [read[place] for place in own], domain)
        if not math.isfinite(nats):
            raise InputError(
                f"held-out loss of domain {domain}: {nats / tokens}; with compute.dtype: float16 use "
                "bfloat16 or float32, otherwise the checkpoint is broken"
            )
        bits_per_byte = nats / (text_bytes * math.log(2))
        if read is not rows and cut_by is not None:
            tokens, given = _predicted(cut_by, [rows[place] for place in own], domain)
            nats *= given / text_bytes
        scores[domain] = DomainScore(nats / tokens, bits_per_byte, tokens)
    return scores


def geometric_mean(scores: Mapping[str, DomainScore]) -> float:
    """Geometric mean of the domains' perplexities: every domain counts the same, however long or hard."""
    return math.exp(math.fsum(score.loss for score in scores.values()) / len(scores))


def _row_losses(model: PreTrainedModel, rows: Sequence[Row], batch_size: int) -> list[float]:
    """The mean loss of each row; rows of one length share batches."""
    places: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(len(row.input_ids), []).append(place)
    losses = [0.0] * len(rows)

    def run(batch_size: int) -> None:
        batches = [
            same[start : start + batch_size]
            for same in places.values()
            for start in range(0, len(same), batch_size)
        ]
        with torch.no_grad():
            for batch in progress(batches, "perplexity", "batch"):
                ids = torch.tensor([rows[place].input_ids for place in batch], dtype=torch.int64)
                # A model whose weights come one module at a time brings its input along.
                ids = ids if model.device.type == "meta" else ids.to(model.device)
                found = sequence_losses(model, ids).tolist()
                for place, loss in zip(batch, found, strict=True):
                    losses[place] = loss

    find_executable_batch_size(run, starting_batch_size=batch_size)()
    return losses


def _predicted(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], domain: str) -> tuple[int, int]:
    """How many tokens of a domain's rows are predicted, and the bytes of their text."""
    # The first token is given, not predicted; separators between documents stand for no text.
    texts = [
        str(
            tokenizer.decode(
                list(row.input_ids[1:]), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
        for row in rows
    ]
    text_bytes = sum(len(text.encode()) for text in texts)
    if text_bytes == 0:
        raise InputError(f"held-out text of domain {domain}: only special tokens; see data/corpus")
    return sum(len(row.input_ids) - 1 for row in rows), text_bytes
