"""Looks at abilities: the dense model's answers, agreement with them, and what they decide in a training."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest
import torch
from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.recover.abilities import agreement, last_number, likeliest_answers, same_tokens
from secateurs.recover.distillation import recover
from secateurs.recover.incompatible import check_processes
from secateurs.recover.steps import Pair
from secateurs.recover.training import Answer, Asked, Check, Course, Questions, Snapshot, Texts
from secateurs.settings.recovery import Abilities, Training
from tests.recover.test_distillation import (
    LEFT_OUT,
    MIXTURE,
    SEQUENCES,
    TRAINING,
    pruned,
    same_weights,
    stop_and_go_on,
)
from tests.tiny import make_tiny_model

QUESTIONS = Questions([[5, 9, 7], [8], [30, 31], [77, 5, 6, 2], [100, 9]], frozenset({1}))
ASKED = Abilities(questions=5, measure="tokens", tokens=12, batch_size=2)
ASKING = TRAINING.changed(abilities=ASKED)


def asked_of(teacher: PreTrainedModel) -> Asked:
    """The questions and answers; an answer as text is its ids with a word between them."""
    return Asked(
        likeliest_answers(teacher, QUESTIONS, ASKED), QUESTIONS.ends, lambda ids: " and ".join(map(str, ids))
    )


def run(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    training: Training = ASKING,
    snapshot: Snapshot | None = None,
    on_step: Callable[[Callable[[], Snapshot]], object] = lambda take: None,
) -> Course:
    texts = Texts(SEQUENCES, LEFT_OUT, MIXTURE, asked=asked_of(teacher))
    return recover(student, teacher, texts, training, autocast=None, snapshot=snapshot, on_step=on_step)


@torch.no_grad()
def token_by_token(model: PreTrainedModel, answer: Answer) -> list[int]:
    """The likeliest token after the question and each beginning of the answer, without a batch or a cache."""
    whole = answer.question + answer.ids
    ends = range(len(answer.question), len(whole))
    return [int(model(torch.tensor([whole[:end]])).logits[0, -1].argmax()) for end in ends]


def test_the_dense_model_gives_its_likeliest_answers() -> None:
    teacher = make_tiny_model()
    found = likeliest_answers(teacher, QUESTIONS, ASKED)
    assert [list(one.question) for one in found] == QUESTIONS.prompts
    for one in found:
        assert len(one.ids) == 12 or one.ids[-1] == 1
        assert token_by_token(teacher, one) == list(one.ids)


def test_an_answer_stops_at_an_end() -> None:
    teacher = make_tiny_model()
    (whole,) = likeliest_answers(teacher, Questions([[5, 9, 7]], frozenset()), ASKED)
    ends = frozenset(whole.ids[3:4])
    (short,) = likeliest_answers(teacher, Questions([[5, 9, 7]], ends), ASKED)
    assert short.ids == whole.ids[: whole.ids.index(whole.ids[3]) + 1]


@pytest.mark.parametrize("tokens", [1, 40, 1000])
def test_agreement_is_the_share_of_tokens_that_are_the_students_likeliest_too(tokens: int) -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    answers = likeliest_answers(teacher, QUESTIONS, ASKED)
    same = [
        ours == theirs
        for one in answers
        for ours, theirs in zip(token_by_token(student, one), one.ids, strict=True)
    ]
    assert 0 < sum(same) < len(same)
    assert same_tokens(Pair(student, teacher, None), answers, tokens) == sum(same) / len(same)
    assert same_tokens(Pair(teacher, teacher, None), answers, tokens) == 1.0


def test_every_check_has_the_agreement_at_its_step() -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    before = same_tokens(Pair(student, teacher, None), likeliest_answers(teacher, QUESTIONS, ASKED), 99)
    course = run(student, teacher, ASKING.changed(steps=30, check_every=10))
    found = [check.agreement for check in course.checks]
    assert found[0] == before
    assert None not in found
    assert len(set(found)) > 1


def test_the_best_check_is_that_of_the_highest_agreement_where_it_decides() -> None:
    checks = (Check(0, 0.9, {}, 0.5), Check(2, 0.7, {}, 0.8), Check(4, 0.6, {}, 0.8), Check(6, 0.5, {}, 0.6))
    course = Course((), checks, 6)
    assert course.best.steps == 6
    # Of two that agree as much the one that is nearer.
    assert replace(course, best_by="agreement").best.steps == 4


def test_a_training_ends_in_the_weights_of_the_highest_agreement() -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    asked = Questions([[n, 3 * n, 7, 2 * n] for n in range(1, 7)], frozenset())
    answers = likeliest_answers(teacher, asked, ASKED)
    # Random weights agree on the text that they are trained on, and on no other.
    rows = torch.tensor([one.question + one.ids for one in answers])
    texts = Texts({"news": rows, "self": rows}, LEFT_OUT, MIXTURE, asked=Asked(answers, frozenset(), str))
    training = ASKING.changed(steps=24, check_every=4, best_by="agreement", patience=99)
    course = recover(
        student, teacher, texts, training, autocast=None, snapshot=None, on_step=lambda take: None
    )
    found = [check.agreement or 0.0 for check in course.checks]
    assert course.best.agreement == max(found) > found[0]
    assert course.best != replace(course, best_by="divergence").best
    assert same_tokens(Pair(student, teacher, None), answers, 99) == max(found)


def test_questions_change_nothing_where_the_divergence_decides() -> None:
    teacher = make_tiny_model()
    one, other = pruned(teacher), pruned(teacher)
    asked, plain = run(one, teacher), run(other, teacher, TRAINING)
    assert asked.losses == plain.losses
    assert same_weights(one, other)


def test_a_run_that_was_stopped_ends_in_the_same_bits() -> None:
    stop_and_go_on(run, ASKING.changed(best_by="agreement"), 3)


def test_answers_that_are_not_there_are_one_message() -> None:
    teacher = make_tiny_model()
    texts = Texts(SEQUENCES, LEFT_OUT, MIXTURE)
    with pytest.raises(SettingError, match=r"abilities.questions: 5: there are no answers of the dense"):
        recover(
            pruned(teacher), teacher, texts, ASKING, autocast=None, snapshot=None, on_step=lambda take: None
        )


def test_agreement_decides_only_where_something_is_asked() -> None:
    teacher = make_tiny_model()
    with pytest.raises(SettingError, match=r"best_by: agreement: recover.abilities.questions: 0 asks no"):
        run(copy.deepcopy(teacher), teacher, TRAINING.changed(best_by="agreement"))


def test_several_processes_ask_nothing() -> None:
    with pytest.raises(SettingError, match=r"the dense model's answers are written by one process"):
        check_processes(ASKING, 2)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 apples and 4 pears are 7.", "7"),
        ("so $1,234.50, as asked", "1234.5"),
        ("from 3-5 to -2", "-2"),
        ("it is 3-5", "5"),
        ("12, and nothing else", "12"),
        ("#### 7.0", "7"),
        ("no number", None),
    ],
)
def test_the_last_number_of_an_answer_is_read(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


def test_numbers_agree_where_the_students_own_answer_ends_in_the_same_one() -> None:
    teacher = make_tiny_model()
    student, settings = pruned(teacher), ASKED.changed(measure="numbers", tokens=1)
    theirs = likeliest_answers(teacher, QUESTIONS, settings)
    ours = [int(student(torch.tensor([list(one.question)])).logits[0, -1].argmax()) for one in theirs]
    # The first answer has no number, and does not count.
    silent = theirs[0].ids

    def decode(ids: Sequence[int]) -> str:
        return "none" if tuple(ids) == silent else f"{ids[-1]}.0"

    counted = [(one.ids[-1], mine) for one, mine in zip(theirs, ours, strict=True) if one.ids != silent]
    same = sum(their == mine for their, mine in counted)
    asked = Asked(theirs, QUESTIONS.ends, decode)
    assert 0 < same < len(counted)
    assert agreement(Pair(student, teacher, None), asked, settings, 99) == same / len(counted)
    assert agreement(Pair(teacher, teacher, None), asked, settings, 99) == 1.0


def test_answers_without_any_number_are_one_message() -> None:
    teacher = make_tiny_model()
    asked = replace(asked_of(teacher), decode=lambda ids: "none")
    settings = ASKED.changed(measure="numbers")
    with pytest.raises(SettingError, match=r"numbers: of the dense model's 5 answers none has a number"):
        agreement(Pair(teacher, teacher, None), asked, settings, 99)
