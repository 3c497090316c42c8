"""Answers of the model in training: how long they are, how they are written and put into batches."""

from itertools import pairwise

import pytest
import torch

from secateurs.recover import rollouts
from secateurs.recover.rollouts import (
    batches,
    from_tensor,
    longest_answer,
    to_tensor,
    to_write_with,
    write_answers,
)
from secateurs.recover.training import Answer, Questions
from tests.recover.test_distillation import OFF, TRAINING
from tests.tiny import make_tiny_model

QUESTIONS = Questions([[5, 9, 7], [8], [30, 31], [77, 5, 6, 2]], frozenset({1}))
ON = TRAINING.changed(on_policy=OFF.changed(share=0.5), steps=10)
ANSWERS = [
    Answer(tuple(range(2, 2 + asked)), tuple(range(100, 100 + answered)))
    for asked, answered in [(1, 1), (3, 9), (4, 7), (2, 30), (6, 26), (1, 10), (5, 6)]
]


def test_answers_grow_from_the_first_length_to_the_full_one() -> None:
    how = OFF.changed(first_tokens=4, tokens=20, grown=0.5)
    lengths = [longest_answer(how, step, 100) for step in range(100)]
    assert (lengths[0], lengths[25], lengths[50], lengths[-1]) == (4, 12, 20, 20)
    assert lengths == sorted(lengths)


def test_each_question_is_answered_once_before_any_is_again() -> None:
    model = make_tiny_model().requires_grad_(False)
    # Two answers in each of two steps: all four questions each time.
    for step in (0, 2, 4):
        answers = write_answers(model, QUESTIONS, ON, step, 6)
        assert sorted(one.question for one in answers) == sorted(map(tuple, QUESTIONS.prompts))
        assert all(0 < len(one.ids) <= 6 for one in answers)
    assert len(write_answers(model, QUESTIONS, ON, 9, 6)) == 2


def test_answers_follow_from_seed_and_step() -> None:
    model = make_tiny_model().requires_grad_(False)
    first = write_answers(model, QUESTIONS, ON, 2, 12)
    assert write_answers(model, QUESTIONS, ON, 2, 12) == first
    assert write_answers(model, QUESTIONS, ON, 4, 12) != first
    assert write_answers(model, QUESTIONS, ON.changed(seed=1), 2, 12) != first


def test_an_answer_ends_with_an_end_token_or_at_its_length() -> None:
    model = make_tiny_model().requires_grad_(False)
    ends = frozenset(range(0, 258, 5))
    answers = write_answers(model, Questions(QUESTIONS.prompts, ends), ON, 0, 8)
    assert any(len(one.ids) < 8 for one in answers)
    for one in answers:
        assert not ends.intersection(one.ids[:-1])
        assert one.ids[-1] in ends or len(one.ids) == 8


def test_batches_have_every_answer_once_and_no_more_than_their_tokens() -> None:
    seen = []
    for ids, where, following in batches(ANSWERS, 40):
        rows, longest = ids.shape
        assert rows == 1 or rows * longest <= 40
        said = following.split(where.sum(dim=1).tolist())
        for row, chosen, answered in zip(ids, where, said, strict=True):
            start, end = int(chosen.nonzero()[0]), int(chosen.nonzero()[-1]) + 1
            assert chosen[start:end].all()
            assert not row[end:].any()
            # The position before an answer is its first one, and nothing is asked at its last token.
            assert torch.equal(row[start + 1 : end], answered[:-1])
            seen.append(Answer(tuple(row[: start + 1].tolist()), tuple(answered.tolist())))
    assert sorted(seen, key=ANSWERS.index) == ANSWERS


@pytest.mark.parametrize("tokens", [40, 70, 1000])
@pytest.mark.parametrize("launch", [0, 5, 30])
def test_no_other_division_into_batches_costs_less(
    tokens: int, launch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollouts, "LAUNCH", launch)
    lengths = sorted((len(one.question) + len(one.ids) - 1 for one in ANSWERS), reverse=True)
    costs = []
    for cuts in range(2 ** (len(lengths) - 1)):
        borders = [0, *(at for at in range(1, len(lengths)) if cuts >> (at - 1) & 1), len(lengths)]
        sizes = [(end - start) * lengths[start] for start, end in pairwise(borders)]
        if all(size <= max(tokens, lengths[0]) for size in sizes):
            costs.append(sum(sizes) + launch * len(sizes))
    found = [ids.numel() + launch for ids, _, _ in batches(ANSWERS, tokens)]
    assert sum(found) == min(costs)


def test_answers_come_back_from_a_tensor() -> None:
    assert from_tensor(to_tensor(ANSWERS)) == ANSWERS
    assert from_tensor(to_tensor([])) == []


def test_a_copy_that_writes_is_in_half_precision_and_the_model_is_not() -> None:
    model = make_tiny_model(tie_word_embeddings=True)
    copied = to_write_with(model, torch.bfloat16)
    assert {weight.dtype for weight in copied.parameters()} == {torch.bfloat16}
    assert copied.lm_head.weight is copied.model.embed_tokens.weight
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    for ours, theirs in zip(copied.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())
    assert to_write_with(model, None) is model
