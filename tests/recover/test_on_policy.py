"""A training on answers that the model in training writes: what it changes, and that it can be stopped."""

import copy
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from secateurs.errors import SettingError
from secateurs.inference.divergence import Kind
from secateurs.recover import distillation
from secateurs.recover.distillation import recover
from secateurs.recover.training import Course, Questions, Snapshot, Texts
from secateurs.settings.recovery import Training
from tests.recover.test_distillation import (
    LEFT_OUT,
    MIXTURE,
    OFF,
    SCALES,
    SEQUENCES,
    TRAINING,
    pruned,
    same_weights,
    stop_and_go_on,
)
from tests.tiny import make_tiny_model

QUESTIONS = Questions([[5, 9, 7], [8], [30, 31], [77, 5, 6, 2], [100, 9]], frozenset(range(0, 258, 20)))
TEXTS = Texts(SEQUENCES, LEFT_OUT, MIXTURE, QUESTIONS)
ON = TRAINING.changed(on_policy=OFF.changed(share=0.5))


def run(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    training: Training,
    snapshot: Snapshot | None = None,
    on_step: Callable[[Callable[[], Snapshot]], object] = lambda take: None,
) -> Course:
    return recover(student, teacher, TEXTS, training, autocast=None, snapshot=snapshot, on_step=on_step)


@pytest.mark.parametrize(("kind", "share"), [("forward", 0.5), ("reverse", 0.5), ("js", 0.5), ("js", 1.0)])
def test_the_pruned_model_comes_nearer_to_the_dense_one(kind: Kind, share: float) -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    how = OFF.changed(share=share, divergence=kind, first_tokens=12)
    training = ON.changed(steps=24, batch_size=12, micro_batch_size=12, check_every=12, on_policy=how)
    course = run(student, teacher, training)
    assert sum(course.losses[-4:]) < 0.9 * sum(course.losses[:4])
    if share < 1:
        assert course.best.divergence < course.checks[0].divergence


def test_scales_are_trained_on_answers_too() -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    training = SCALES.changed(on_policy=OFF.changed(share=0.5), steps=20)
    course = run(student, teacher, training)
    assert course.best.divergence < course.checks[0].divergence


def test_a_copy_of_the_dense_model_stays_as_it_is() -> None:
    for kind in ("forward", "reverse", "js"):
        teacher = make_tiny_model().requires_grad_(False)
        student = copy.deepcopy(teacher)
        course = run(student, teacher, ON.changed(on_policy=OFF.changed(share=0.5, divergence=kind)))
        assert course.losses == (0.0,) * ON.steps
        assert same_weights(student, teacher)


def test_a_step_reads_its_text_and_its_answers() -> None:
    teacher = make_tiny_model()
    course = run(pruned(teacher), teacher, ON)
    # Two rows of 16 tokens and two answers of at most 12 tokens, with their questions.
    assert all(32 + 2 * 2 <= tokens <= 32 + 2 * (12 + 4) for tokens in course.tokens)
    off = run(pruned(teacher), teacher, TRAINING)
    assert off.tokens == (64,) * 6


@pytest.mark.parametrize("every", [1, 2, 4])
@pytest.mark.parametrize("taken_at", [2, 3])
def test_a_run_that_was_stopped_ends_in_the_same_bits(every: int, taken_at: int) -> None:
    stop_and_go_on(run, ON.changed(on_policy=ON.on_policy.changed(every=every)), taken_at)


def test_without_questions_there_is_one_message() -> None:
    teacher = make_tiny_model()
    texts = Texts(SEQUENCES, LEFT_OUT, MIXTURE)
    with pytest.raises(SettingError, match=r"recover.on_policy.share: 0.5: there are no questions to answer"):
        recover(pruned(teacher), teacher, texts, ON, autocast=None, snapshot=None, on_step=lambda take: None)


@pytest.mark.parametrize("training", [TRAINING, ON], ids=["text", "answers"])
def test_trying_the_speed_changes_nothing_of_the_training(training: Training) -> None:
    teacher = make_tiny_model()
    one, other = pruned(teacher), pruned(teacher)
    course = run(one, teacher, training)
    assert run(other, teacher, training.changed(minutes=60.0)) == course
    assert same_weights(one, other)


def test_a_run_within_minutes_goes_on_with_the_steps_it_had_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = make_tiny_model()
    whole, first, second = (pruned(teacher) for _ in range(3))
    training = ON.changed(steps=1000, minutes=5.0)
    monkeypatch.setattr(distillation, "steps_that_fit", lambda *arguments: 5)
    course = run(whole, teacher, training)
    # The learning rate follows its course over the steps that fit.
    same = run(first, teacher, training.changed(steps=5, minutes=None))
    assert (same, len(course.losses)) == (course, 5)
    assert same_weights(first, whole)
    taken: list[Snapshot] = []
    run(pruned(teacher), teacher, training, on_step=lambda take: taken.append(copy.deepcopy(take())))

    def measured_again(*arguments: object) -> int:
        raise AssertionError("a run that goes on does not plan again")

    monkeypatch.setattr(distillation, "steps_that_fit", measured_again)
    assert run(second, teacher, training, snapshot=taken[2]) == course
    assert same_weights(second, whole)


def test_half_precision_writes_and_trains() -> None:
    teacher = make_tiny_model()
    student = pruned(teacher)
    course = recover(
        student,
        copy.deepcopy(teacher).bfloat16(),
        TEXTS,
        ON.changed(steps=12, on_policy=OFF.changed(share=0.5, divergence="js")),
        autocast=torch.bfloat16,
        snapshot=None,
        on_step=lambda take: None,
    )
    assert course.best.divergence < course.checks[0].divergence
    assert {weight.dtype for weight in student.parameters()} == {torch.float32}
