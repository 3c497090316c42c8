"""Recovery of a pruned model: a short distillation from the dense one."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.devices.optimizer import learning_rate_factor, optimizer_of
from secateurs.devices.parallel import processes
from secateurs.errors import InputError
from secateurs.inference.norms import fused_norms
from secateurs.recover.abilities import agreement
from secateurs.recover.budget import Cost, seconds_of, steps_that_fit
from secateurs.recover.drawing import drawn_rows, drawn_texts
from secateurs.recover.incompatible import check_finite, questions_for
from secateurs.recover.rerunning import rerunning
from secateurs.recover.rollouts import from_tensor, longest_answer, to_write_with, write_answers
from secateurs.recover.sharding import agreed, whole
from secateurs.recover.state import copies, restore, take_snapshot
from secateurs.recover.steps import Pair, add_answers, add_text, left_out_divergences
from secateurs.recover.teacher_cache import CachedTeacher
from secateurs.recover.trained import trained
from secateurs.recover.training import Answer, Check, Course, Questions, Snapshot, Texts
from secateurs.settings.recovery import Training

# Steps of text, and of answers, that are timed where a training has a budget of minutes.
TIMED = 3


def recover(
    student: PreTrainedModel,
    teacher: PreTrainedModel | CachedTeacher,
    texts: Texts,
    training: Training,
    *,
    autocast: torch.dtype | None,
    snapshot: Snapshot | None,
    on_step: Callable[[Callable[[], Snapshot]], object],
) -> Course:
    """Train `student` in place to give the next-token distributions of `teacher`.

        loss = (1 - s) KL(teacher || student), the mean over the tokens of a step's text
             + s D(teacher, student), the mean over the tokens of answers that the student wrote

    minimised by AdamW. s is the share of answers among a step's sequences (`training.answers()` of them), and
    D the divergence `training.on_policy.divergence`. Every on_policy.every steps the student answers
    questions of `texts` for the steps until the next time.

    Every `training.check_every` steps, and at the last, KL(teacher || student) is taken of the left-out
    texts, a domain counting its part of the mixture, and of `texts.asked` the agreement with the teacher's
    answers (abilities.py). The student ends with the weights of the best check by `training.best_by`,
    which are its first ones where no training made it better.

    With `training.minutes` a few steps are tried and timed first, and undone; as many are then made as fit,
    `training.steps` at most, and the learning rate follows its course over these.

    A teacher in a file (teacher_cache) has `rows_read` of the texts; the divergence from it is that over its
    classes, in checks too, which is at most KL.

    Both models are on one device, or over the processes of a group (sharding.sharded), in evaluation mode (no
    dropout), the student in float32; but where `training.frozen` its own weights may be in half precision and
    shared with the teacher's (sharing.share_equal). `autocast` is the dtype in which the student multiplies
    matrices, None for float32 (TF32 on CUDA); in that dtype it writes. With a `snapshot` of the same run, the
    run goes on from there with as many steps as it had planned, on one CPU to the same bits as without the
    stop. `on_step` is called after each step with a function that takes a snapshot. Raises InputError where a
    divergence or a gradient is not finite, where settings do not go together, and where there are no
    questions to answer or no step fits.
    """
    begun = time.monotonic()
    questions = questions_for(texts, training)
    pair = Pair(student, teacher, autocast)
    # Norms of which each process has a part keep their own code, which runs when they are whole.
    models = [one for one in (student, teacher) if isinstance(one, PreTrainedModel)]
    norms = fused_norms(*(models if processes() == 1 else ()))
    again = rerunning(student, training.checkpointing)
    with trained(student, training) as weights, norms, again:
        optimizer = optimizer_of(training.optimizer, list(weights.values()), training.learning_rate)
        if snapshot is None:
            first = _check(pair, texts, training, 0)
            if not math.isfinite(first.divergence):
                raise InputError(
                    f"recover: the divergence from the dense model is {first.divergence} before any "
                    "training; use compute.dtype: float32"
                )
            best, answers, steps = copies(weights), list[Answer](), training.steps
            if training.minutes is not None and steps:
                cost = _cost(pair, texts, training, optimizer)
                left = 60 * training.minutes - (time.monotonic() - begun)
                steps = agreed(steps_that_fit(training, *agreed((left, cost))))
            course = Course((), (first,), steps, best_by=training.best_by)
        else:
            course, best = snapshot.course, restore(weights, optimizer, snapshot)
            answers = from_tensor(snapshot.tensors["answers"])
        training = training.changed(steps=course.steps)
        drawn = drawn_texts(texts, training)
        while not course.ended(training):
            step = len(course.losses)
            if questions is not None and step % training.on_policy.every == 0:
                longest = longest_answer(training.on_policy, step, training.steps)
                answers = _written(pair, questions, training, step, longest)
            now, answers = answers[: training.answers()], answers[training.answers() :]
            rows = drawn_rows(texts, drawn[step])
            loss = _add_gradients(pair, rows, now, training)
            norm = float(whole(nn.utils.clip_grad_norm_(weights.values(), training.clip)))
            check_finite(norm if math.isfinite(loss) else loss, step, training)
            factor = learning_rate_factor(step, training.steps, training.warmup)
            _update(optimizer, training.learning_rate * factor)
            read = rows.numel() + sum(len(one.question) + len(one.ids) for one in now)
            course = replace(course, losses=(*course.losses, loss), tokens=(*course.tokens, read))
            if (step + 1) % training.check_every == 0 or step + 1 == training.steps:
                check = _check(pair, texts, training, step + 1)
                check_finite(check.divergence, step, training)
                course = replace(course, checks=(*course.checks, check))
                if course.best.steps == step + 1:
                    best = copies(weights)
            on_step(partial(take_snapshot, weights, best, optimizer, course, answers))
        for name, weight in weights.items():
            weight.data.copy_(best[name])
    return course


def rows_read(texts: Texts, training: Training) -> Tensor:
    """All sequences that a training and its checks can read, int64 [rows, tokens]; some stand there twice."""
    drawn = [one for step in drawn_texts(texts, training) for one in step]
    return torch.cat([*texts.left_out.values(), drawn_rows(texts, drawn)])


def _written(pair: Pair, questions: Questions, training: Training, step: int, tokens: int) -> list[Answer]:
    writer = to_write_with(pair.student, pair.autocast)
    return write_answers(writer, questions, training, step, tokens)


def _add_gradients(pair: Pair, rows: Tensor, answers: Sequence[Answer], training: Training) -> float:
    """Add a step's gradient to the student's; return its loss."""
    share, at_once = len(answers) / training.batch_size, training.micro_batch_size
    loss = add_text(pair, rows, at_once, 1 - share) if len(rows) else 0.0
    if answers:
        loss += add_answers(pair, answers, at_once * rows.shape[1], training.on_policy.divergence, share)
    return loss


def _update(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad()


def _check(pair: Pair, texts: Texts, training: Training, steps: int) -> Check:
    found = agreed(left_out_divergences(pair, texts.left_out, training.micro_batch_size))
    weights = sum(texts.mixture[domain] for domain in found)
    mean = sum(texts.mixture[domain] * value for domain, value in found.items()) / weights
    together = training.micro_batch_size * next(iter(texts.left_out.values())).shape[1]
    asked = texts.asked
    agreed_share = agreement(pair, asked, training.abilities, together) if asked is not None else None
    return Check(steps, mean, found, agreed(agreed_share))


def _cost(pair: Pair, texts: Texts, training: Training, optimizer: torch.optim.Optimizer) -> Cost:
    """What the parts of a step take here. Weights and optimizer are afterwards as they were."""
    answers, writing, how = list[Answer](), 0.0, training.on_policy
    rows = drawn_rows(texts, drawn_texts(texts, training.changed(steps=1))[0])
    if how.share and texts.questions is not None:
        questions = texts.questions

        def write() -> None:
            answers[:] = _written(pair, questions, training, 0, how.tokens)

        writing = seconds_of(write, pair.device)

    def step(read: Sequence[Answer]) -> None:
        _add_gradients(pair, rows, read, training)
        # AdamW at a rate of 0 leaves every weight as it is.
        _update(optimizer, 0.0)

    now = answers[: training.answers()]
    # The first one takes memory and chooses kernels.
    step(now)
    both = seconds_of(partial(step, now), pair.device, TIMED)
    alone = seconds_of(partial(step, []), pair.device, TIMED) if now else both
    look = seconds_of(lambda: _check(pair, texts, training, 0), pair.device)
    optimizer.state.clear()
    return Cost(alone, both - alone, writing, look)
