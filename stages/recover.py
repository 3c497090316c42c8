"""Stage: the pruned model, trained for a short while towards the dense one's outputs (optional pipeline)."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click
import torch
from transformers import PreTrainedModel

from secateurs.checkpoints.processor import copy_processor
from secateurs.checkpoints.proof import PROOF_ROWS, PROOF_TOKENS, prove_load
from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.devices import optimizer, precision
from secateurs.devices.placement import SHARDED, process_group, resolve_device, started_processes
from secateurs.errors import InputError, SettingError
from secateurs.files.atomic import atomic
from secateurs.files.json_file import write_json
from secateurs.inference import divergence, writing
from secateurs.progress import counter, is_first
from secateurs.recover import budget, distillation, drawing, low_rank, rollouts, scales, state, steps, trained
from secateurs.recover import training as course_of_training
from secateurs.recover.distillation import check_processes, recover
from secateurs.recover.trained import trained_parameters
from secateurs.recover.training import Check, Course, Snapshot, Texts, together
from secateurs.settings.recovery import OWN_KINDS, Training
from secateurs.text import sampling
from secateurs.text.calibration import by_domain
from secateurs.text.recutting import same_cut
from secateurs.vocabulary.shared import in_tokens_of
from stages.common.artifacts import read_card, read_sequences
from stages.common.checkpoints import load_tokenizer, saved_dtype
from stages.common.console import stage, summary
from stages.common.launching import launch
from stages.common.locks import hold
from stages.common.paths import MODEL, PRUNED, RECOVERED, RECOVERY_TEXT
from stages.params.file import Params, read_params
from stages.planning.architecture import read_shapes
from stages.planning.machine import this_machine
from stages.planning.recovery_memory import check_recovery_memory
from stages.recovering.curves import CURVES, following
from stages.recovering.models import load_models, whole_model
from stages.recovering.recovered_card import ALL, Recovery, recovered_card
from stages.recovering.snapshots import Save, clear, read_snapshot, saving, snapshot_path
from stages.recovering.text import (
    OWN_DIALOGUES,
    by_kind,
    leave_out,
    own_questions,
    recovery_mixture,
    rows_left_out,
    shares_of_kinds,
)

CODE = tuple(
    Path(str(module.__file__))
    for module in (
        *(budget, course_of_training, distillation, divergence, drawing, low_rank, optimizer, precision),
        *(rollouts, sampling, scales, state, steps, trained, writing),
    )
)


@stage
def main() -> None:
    """Write data/recovered: the pruned checkpoint after a short distillation from the dense model."""
    params = read_params()
    hold(RECOVERED)
    trainings = params.recover.trainings()
    training = trainings[-1]
    _start(params, trainings)
    device = resolve_device(params.compute.device)
    check_recovery_memory(params, read_shapes(MODEL), this_machine(device), started_processes())
    tokenizer, pruned_card = load_tokenizer(PRUNED), read_card(PRUNED)
    dense = load_tokenizer(MODEL)
    sequences = read_sequences(RECOVERY_TEXT)
    ids = by_domain(sequences).ids
    if not same_cut(dense, tokenizer):
        ids = in_tokens_of(ids, dense, tokenizer)
    rows, left_out = leave_out(ids, rows_left_out(params))
    mixture = recovery_mixture(params)
    questions = None
    if training.on_policy.share:
        questions = own_questions(tokenizer, sequences, len(rows[OWN_KINDS["dialogues"]]))
    texts = Texts(rows, left_out, mixture, questions)
    check = torch.cat([ids[:1] for ids in left_out.values()])
    with process_group(device):
        student, teacher, autocast = load_models(params, dense, tokenizer)
        parts = _train(student, teacher, texts, trainings, autocast, params.compute.dtype)
        parameters, result = trained_parameters(student, training), whole_model(student)
    if not is_first():
        return
    course = together(parts)
    made = len(course.losses)
    done = Recovery(
        training,
        scales_first=parts[0].best.steps if len(parts) > 1 else 0,
        steps=len(parts[-1].losses),
        kept=parts[-1].best.steps,
        tokens=sum(course.tokens),
        parameters=parameters,
        shares=shares_of_kinds(mixture),
        before=_by_kind(course.checks[0], mixture),
        after=_by_kind(parts[-1].best, mixture),
    )
    result = in_precision(result, saved_dtype(PRUNED))
    with atomic(RECOVERED) as directory:
        save_model(result, directory)
        save_tokenizer(tokenizer, directory)
        copy_processor(MODEL, directory)
        proof = prove_load(result, directory, check[:PROOF_ROWS, :PROOF_TOKENS], RECOVERED, tokenizer)
        card = recovered_card(pruned_card, done, proof)
        (directory / "README.md").write_text(card, encoding="utf-8")
        settings = {"training": done.training.model_dump()}
        write_json(directory / "recovery.json", asdict(done) | settings | {"course": asdict(course)})
    clear()
    if parts[-1].memorised(training):
        click.echo(
            "recover: warning: the divergence on text that was trained on is below half of that on left-out "
            "text: there is too little text for so many steps, and abilities may be lost"
        )
    change = f"{done.before[ALL]:.4f} -> {done.after[ALL]:.4f} nats"
    summary(
        "recover",
        f"{made} steps, of which {done.scales_first + done.kept} were kept; divergence from the dense model "
        f"on left-out text {change}, in {RECOVERED}",
    )


def _train(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    texts: Texts,
    trainings: list[Training],
    autocast: torch.dtype | None,
    dtype: str,
) -> list[Course]:
    """The course of each training, one after the other; the student ends as the last one leaves it."""
    left = {domain: len(rows) for domain, rows in texts.left_out.items()}
    asked = [OWN_DIALOGUES] if texts.questions else []
    inputs = [MODEL, PRUNED, RECOVERY_TEXT, *asked, *CODE]
    begun, read = time.monotonic(), 0
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
                    student,
                    teacher,
                    texts,
                    training,
                    autocast=autocast,
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
            f"params.yaml: recover.minutes: {minutes}: recover.scales_first took all of it; give more, or "
            "set recover.scales_first.steps lower"
        )
    return left


def _by_kind(check: Check, mixture: dict[str, float]) -> dict[str, float]:
    return {ALL: check.divergence, **by_kind(check.by_domain, mixture)}


def _start(params: Params, trainings: list[Training]) -> None:
    """Start the processes of `compute.launch` where they can train together; refuse those that cannot.

    What one process alone can do is done by one, whatever capture and surgery are started by.
    """
    if params.compute.device == SHARDED:
        raise InputError(
            f"params.yaml: compute.device: {SHARDED}: recover needs one device a process; use auto"
        )
    for training in trainings:
        check_processes(training, started_processes())
    try:
        for training in trainings:
            # Two stand for any number: only a batch that cannot be divided is known later.
            check_processes(training.changed(batch_size=2 * training.batch_size), 2)
    except SettingError as error:
        if params.compute.launch != "python":
            click.echo(f"recover: one process, because of {error}")
        return
    launch(params.compute, "stages.recover")


if __name__ == "__main__":
    main()
