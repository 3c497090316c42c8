"""The trainings of a recovery, one after the other, each from its snapshot where it has one."""

import time
from collections.abc import Callable

import click

from secateurs.devices import optimizer, precision
from secateurs.errors import InputError
from secateurs.inference import divergence, head, likeliest, writing
from secateurs.progress import counter, is_first
from secateurs.recover import (
    abilities,
    budget,
    distillation,
    drawing,
    low_rank,
    pairing,
    rollouts,
    scales,
    state,
    steps,
    teacher_cache,
    trained,
)
from secateurs.recover import training as course_of_training
from secateurs.recover.distillation import recover
from secateurs.recover.steps import Pair
from secateurs.recover.training import Course, Snapshot, Texts, together
from secateurs.settings.recovery import Training
from secateurs.text import sampling
from stages.common.paths import MODEL, PRUNED, RECOVERY_TEXT
from stages.recovering.curves import CURVES, following
from stages.recovering.snapshots import Save, code_files, read_snapshot, saving, snapshot_path
from stages.recovering.text import OWN_DIALOGUES

CODE = code_files(
    *(
        abilities,
        budget,
        course_of_training,
        distillation,
        divergence,
        drawing,
        low_rank,
        optimizer,
        precision,
    ),
    *(rollouts, sampling, scales, state, steps, trained, writing),
    *(likeliest, pairing, head, teacher_cache),
)


def train(pair: Pair, texts: Texts, trainings: list[Training], dtype: str, spent: float) -> list[Course]:
    """The course of each training, one after the other; the student ends as the last one leaves it.

    spent: seconds of `recover.minutes` that what comes before took.
    """
    begun = time.monotonic() - spent
    left = {domain: len(rows) for domain, rows in texts.left_out.items()}
    asked = [OWN_DIALOGUES] if texts.questions is not None or texts.asked is not None else []
    inputs = [MODEL, PRUNED, RECOVERY_TEXT, *asked, *CODE]
    read = 0
    # Of several processes the first one tells how it goes.
    follow: Callable[[Course], None] = following(CURVES) if is_first() else lambda _: None
    courses, tell = list[Course](), click.echo if is_first() else lambda _: None
    with counter("recover", "step", sum(one.steps for one in trainings)) as bar:
        for number, training in enumerate(trainings):
            before = [one.model_dump() for one in trainings[:number]]
            settings = training.model_dump() | {
                "mixture": dict(texts.mixture),
                "left_out": left,
                "dtype": dtype,
                "before": before,
            }
            path = snapshot_path(settings, inputs)
            snapshot, save = read_snapshot(path), saving(path, training)
            made = 0
            if snapshot is not None:
                made, planned = len(snapshot.course.losses), snapshot.course.steps
                tell(f"recover: {training.weights}: goes on after step {made} of {planned}")
                bar.update(made)
            elif training.minutes is not None:
                # What the scales before took is part of the time.
                training = training.changed(minutes=_left(training.minutes, begun))

            def on_step(take: Callable[[], Snapshot], save: Save = save) -> None:
                bar.update()
                follow(together([*courses, take().course]))
                save(take)

            courses.append(
                recover(
                    pair.student,
                    pair.teacher,
                    texts,
                    training,
                    autocast=pair.autocast,
                    snapshot=snapshot,
                    on_step=on_step,
                )
            )
            read += sum(courses[-1].tokens[made:])
    tell(f"recover: {read / (time.monotonic() - begun):,.0f} tokens a second, with writing and looks")
    # Where no step was made, or none was left to make, the tables are still empty.
    follow(together(courses))
    return courses


def _left(minutes: float, begun: float) -> float:
    left = minutes - (time.monotonic() - begun) / 60
    if left <= 0:
        raise InputError(
            f"params.yaml: recover.minutes: {minutes}: what comes before the training took all of it "
            "(recover.scales_first, recover.abilities, recover.teacher: cached); give more, or ask for less"
        )
    return left
