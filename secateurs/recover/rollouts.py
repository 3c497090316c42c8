"""Answers that the model in training writes itself: their lengths, their writing, and batches of them."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.recover.drawing import draws
from secateurs.recover.low_rank import merge
from secateurs.recover.training import Answer, Questions
from secateurs.settings.recovery import OnPolicy, Training
from secateurs.text.sampling import Draw, Lots, go_on

# What a batch costs beside its tokens, in tokens: launching its kernels takes as long as so many on an H200
# with a model of some billion weights.
LAUNCH = 1024


def longest_answer(how: OnPolicy, step: int, steps: int) -> int:
    """The most tokens of an answer that is written before a step, 0, 1, ... steps - 1.

    first_tokens + (tokens - first_tokens) * min(1, step / (grown * steps))
    """
    grown = min(1.0, step / (how.grown * steps))
    return round(how.first_tokens + (how.tokens - how.first_tokens) * grown)


def write_answers(
    model: PreTrainedModel, questions: Questions, training: Training, step: int, tokens: int
) -> list[Answer]:
    """The answers for `step` and the on_policy.every - 1 that follow it, in the order in which they are read.

    Questions come in an order that follows from the seed, each once before any comes again, and the random
    numbers follow from the seed and the step.
    """
    how, count = training.on_policy, training.answers()
    first, wanted = step * count, min(how.every, training.steps - step) * count
    order = draws({"questions": len(questions.prompts)}, {"questions": 1.0}, first + wanted, training.seed)
    asked = [questions.prompts[row] for _, row in order[first:]]
    written = go_on(
        model,
        asked,
        tokens,
        Draw(how.temperature, how.min_p),
        Lots(f"on policy:{training.seed}:{step}", how.batch_size),
        ends=questions.ends,
        label="answers",
    )
    return [Answer(tuple(ask), tuple(ids)) for ask, ids in zip(asked, written, strict=True)]


def to_write_with(model: PreTrainedModel, dtype: torch.dtype | None) -> PreTrainedModel:
    """A copy of the model with weights of that dtype, which write faster than casting them for each token.

    Matrices of low rank are part of its weights; weights that have the dtype are not copied. None: the model
    itself.
    """
    if dtype is None:
        return model
    # Tied weights are one object, and stay one.
    known: dict[int, object] = {
        id(weight): nn.Parameter(weight.detach().to(dtype), requires_grad=False)
        for weight in model.parameters()
    }
    copied = copy.deepcopy(model, known)
    merge(copied)
    return copied


def batches(answers: Sequence[Answer], tokens: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Answers of like length as int64 [rows, longest] with zeros on the right, of `tokens` ids at most.

    They are divided so that padding and the LAUNCH of each batch are the fewest tokens together. An answer
    that is longer than `tokens` is a batch of its own. With each comes bool of its shape: the positions whose
    next token is of an answer, and int64 [positions], those tokens. The answers' last tokens are not among
    the ids, because nothing is asked after them.
    """
    rows = sorted(answers, key=_length, reverse=True)
    start = 0
    for count in _divided([_length(row) for row in rows], tokens):
        batch, longest = rows[start : start + count], _length(rows[start])
        start += count
        ids = torch.zeros(count, longest, dtype=torch.int64)
        where = torch.zeros(count, longest, dtype=torch.bool)
        for number, row in enumerate(batch):
            whole = (row.question + row.ids)[:-1]
            ids[number, : len(whole)] = torch.tensor(whole)
            where[number, len(row.question) - 1 : len(whole)] = True
        yield ids, where, torch.tensor([token for row in batch for token in row.ids])


def _divided(lengths: Sequence[int], tokens: int) -> list[int]:
    """How many of the falling lengths each batch has, from the front, where all batches cost least."""
    # Of the first 0, 1, ... lengths: what they cost at least, and the size of their last batch.
    best = [(0, 0)]
    for end in range(1, len(lengths) + 1):
        choices = [
            (best[start][0] + (end - start) * lengths[start] + LAUNCH, end - start)
            for start in range(end)
            if (end - start) * lengths[start] <= tokens or end - start == 1
        ]
        best.append(min(choices))
    counts, end = list[int](), len(lengths)
    while end:
        counts.insert(0, best[end][1])
        end -= best[end][1]
    return counts


def _length(answer: Answer) -> int:
    return len(answer.question) + len(answer.ids) - 1


def to_tensor(answers: Sequence[Answer]) -> Tensor:
    """Answers as int64 [answers, width]: the lengths of question and answer, their ids, and zeros."""
    rows = [(len(one.question), len(one.ids), *one.question, *one.ids) for one in answers]
    width = max(map(len, rows), default=2)
    padded = [row + (0,) * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.int64).view(len(rows), width)


def from_tensor(rows: Tensor) -> list[Answer]:
    """What to_tensor made a tensor of."""
    found = []
    for asked, answered, *ids in rows.tolist():
        found.append(Answer(tuple(ids[:asked]), tuple(ids[asked : asked + answered])))
    return found
