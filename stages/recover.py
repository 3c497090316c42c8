"""Stage: the pruned model, trained for a short while towards the dense one's outputs (optional pipeline)."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.checkpoints.processor import copy_processor
from secateurs.checkpoints.proof import PROOF_ROWS, PROOF_TOKENS, prove_load
from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.devices import optimizer, precision
from secateurs.devices.placement import SHARDED, place
from secateurs.errors import InputError
from secateurs.files.atomic import atomic
from secateurs.files.json_file import write_json
from secateurs.inference import divergence
from secateurs.progress import counter
from secateurs.recover import distillation, scales
from secateurs.recover import training as course_of_training
from secateurs.recover.distillation import recover, trained_parameters
from secateurs.recover.training import Check, Course, Snapshot, Texts, together
from secateurs.settings.recovery import Training
from secateurs.text.recutting import same_cut
from secateurs.vocabulary.shared import cut_like, in_tokens_of
from stages.common.artifacts import read_card
from stages.common.calibration_text import read_text
from stages.common.checkpoints import load_model, load_tokenizer, saved_dtype
from stages.common.console import stage, summary
from stages.common.locks import hold
from stages.common.paths import MODEL, PRUNED, RECOVERED, RECOVERY_TEXT
from stages.params.file import Params, read_params
from stages.recovering.curves import CURVES, following
from stages.recovering.recovered_card import ALL, Recovery, recovered_card
from stages.recovering.snapshots import Save, clear, read_snapshot, saving, snapshot_path
from stages.recovering.text import by_kind, leave_out, recovery_mixture, rows_left_out, shares_of_kinds

CODE = tuple(
    Path(str(module.__file__))
    for module in (divergence, optimizer, precision, distillation, scales, course_of_training)
)


@stage
def main() -> None:
    """Write data/recovered: the pruned checkpoint after a short distillation from the dense model."""
    params = read_params()
    hold(RECOVERED)
    _refuse_many(params)
    trainings = params.recover.trainings()
    training = trainings[-1]
    tokenizer, pruned_card = load_tokenizer(PRUNED), read_card(PRUNED)
    dense = load_tokenizer(MODEL)
    ids = read_text(RECOVERY_TEXT).ids
    if not same_cut(dense, tokenizer):
        ids = in_tokens_of(ids, dense, tokenizer)
    text = leave_out(ids, rows_left_out(params))
    mixture = recovery_mixture(params)
    check = torch.cat([ids[:1] for ids in text[1].values()])
    student, teacher, autocast = _models(params)
    if not same_cut(dense, tokenizer):
        # Both then choose among the same tokens.
        cut_like(teacher, dense, tokenizer)
    parts = _train(student, teacher, text, mixture, trainings, autocast, params.compute.dtype)
    course = together(parts)
    made = len(course.losses)
    done = Recovery(
        training,
        scales_first=parts[0].best.steps if len(parts) > 1 else 0,
        steps=len(parts[-1].losses),
        kept=parts[-1].best.steps,
        tokens=made * training.batch_size * check.shape[1],
        parameters=trained_parameters(student, training.weights),
        shares=shares_of_kinds(mixture),
        before=_by_kind(course.checks[0], mixture),
        after=_by_kind(parts[-1].best, mixture),
    )
    trained: Any = student  # transformers' types leave out the arguments of `to`
    result = in_precision(trained.to("cpu"), saved_dtype(PRUNED))
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


def _models(params: Params) -> tuple[PreTrainedModel, PreTrainedModel, torch.dtype | None]:
    """The pruned model in float32, the dense one, and the dtype of the pruned one's matrix products."""
    device, dtype = params.compute.device, params.compute.dtype
    student = place(load_model(PRUNED, "float32"), device)
    # float16 would need its loss scaled, and on a CPU half precision is no faster.
    if dtype == "bfloat16" and student.device.type != "cpu":
        return student, place(load_model(MODEL, dtype), device), torch.bfloat16
    return student, place(load_model(MODEL, "float32"), device), None


def _train(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    text: tuple[dict[str, Tensor], dict[str, Tensor]],
    mixture: dict[str, float],
    trainings: list[Training],
    autocast: torch.dtype | None,
    dtype: str,
) -> list[Course]:
    """The course of each training, one after the other; the student ends as the last one leaves it."""
    sequences, left_out = text
    left = {domain: len(rows) for domain, rows in left_out.items()}
    inputs = [MODEL, PRUNED, RECOVERY_TEXT, *CODE]
    follow, courses = following(CURVES), list[Course]()
    with counter("recover", "step", sum(one.steps for one in trainings)) as bar:
        for number, training in enumerate(trainings):
            before = [one.model_dump() for one in trainings[:number]]
            settings = training.model_dump() | {
                "mixture": mixture,
                "left_out": left,
                "dtype": dtype,
                "before": before,
            }
            path = snapshot_path(settings, inputs)
            snapshot, save = read_snapshot(path), saving(path, training)
            if snapshot is not None:
                made = len(snapshot.course.losses)
                click.echo(f"recover: {training.weights}: goes on after step {made} of {training.steps}")
                bar.update(made)

            def on_step(take: Callable[[], Snapshot], save: Save = save) -> None:
                bar.update()
                follow(together([*courses, take().course]))
                save(take)

            courses.append(
                recover(
                    student,
                    teacher,
                    Texts(sequences, left_out, mixture),
                    training,
                    autocast=autocast,
                    snapshot=snapshot,
                    on_step=on_step,
                )
            )
    # Where no step was made, or none was left to make, the tables are still empty.
    follow(together(courses))
    return courses


def _by_kind(check: Check, mixture: dict[str, float]) -> dict[str, float]:
    return {ALL: check.divergence, **by_kind(check.by_domain, mixture)}


def _refuse_many(params: Params) -> None:
    """Raise InputError unless there is one process with one device, which must hold optimizer and models."""
    if params.compute.device == SHARDED:
        raise InputError(f"params.yaml: compute.device: {SHARDED}: recover needs one device; use auto")
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise InputError(f"recover: {processes} processes; run it as one: `python -m stages.recover`")


if __name__ == "__main__":
    main()
