"""The margin by which a model prefers the right letter of a worked answer: GISP's other loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.inference.head import head_logits, hidden_states

SENTENCE = "The answer is ({letter})."
LETTERS = "ABCD"
# So many ids before the letter are looked for: `answer is (`.
_BEFORE = 3


@dataclass(frozen=True)
class Answers:
    """A sentence that names the right choice, in ids: those just before the letter, and each letter's."""

    before: tuple[int, ...]
    letters: tuple[int, ...]


def answers_of(tokenizer: PreTrainedTokenizerBase) -> Answers:
    """The ids of `The answer is (A).` and so on. InputError where a letter is no id of its own there."""
    rows: list[list[int]] = [
        tokenizer(SENTENCE.format(letter=letter), add_special_tokens=False)["input_ids"] for letter in LETTERS
    ]
    places = [place for place, ids in enumerate(zip(*rows, strict=False)) if len(set(ids)) > 1]
    if len({len(row) for row in rows}) > 1 or len(places) != 1:
        raise InputError(f"the tokenizer has no id for the letter alone in {SENTENCE.format(letter='A')!r}")
    (place,) = places
    return Answers(tuple(rows[0][max(0, place - _BEFORE) : place]), tuple(row[place] for row in rows))


def with_answers(sequences: Mapping[str, Tensor], answers: Answers) -> dict[str, Tensor]:
    """Of each domain's sequences, int64 [count, tokens], those that name a right choice.

    Raises InputError where there is none in any domain.
    """
    found = {domain: ids[_letters(ids, answers).any(dim=1)] for domain, ids in sequences.items()}
    kept = {domain: ids for domain, ids in found.items() if len(ids)}
    if not kept:
        raise InputError(
            f"no calibration text says {SENTENCE.format(letter='A')!r}; the margin loss needs such"
        )
    return kept


def margin_losses(answers: Answers) -> Callable[[PreTrainedModel, Tensor], Tensor]:
    """A loss for each sequence: mean over its answers of (best other letter's logit - right letter's logit).

    Takes a model and int64 [batch, tokens]; gives float32 [batch], 0 for a sequence without an answer.
    """

    def losses(model: PreTrainedModel, ids: Tensor) -> Tensor:
        hidden = hidden_states(model, ids)
        rows, places = _letters(ids, answers).nonzero(as_tuple=True)
        letters = torch.tensor(answers.letters, device=ids.device)
        logits = head_logits(model)(hidden[rows, places - 1])[:, letters]
        right = ids[rows, places][:, None] == letters
        margins = logits.masked_fill(right, -torch.inf).amax(dim=1) - logits[right]
        counts = torch.bincount(rows, minlength=len(ids)).clamp(min=1)
        return torch.zeros(len(ids), device=ids.device).index_add(0, rows, margins) / counts

    return losses


def _letters(ids: Tensor, answers: Answers) -> Tensor:
    """Bool [batch, tokens]: where a letter stands after the ids that come before it."""
    found = torch.isin(ids, torch.tensor(answers.letters, device=ids.device))
    for back, token in enumerate(reversed(answers.before), start=1):
        shifted = torch.zeros_like(found)
        shifted[:, back:] = ids[:, :-back] == token
        found &= shifted
    return found
