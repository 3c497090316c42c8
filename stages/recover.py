"""Stage: the pruned model, trained for a short while towards the dense one's outputs (optional pipeline)."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import click
import torch
from transformers import PreTrainedModel

from secateurs.checkpoints.processor import copy_processor
from secateurs.checkpoints.proof import PROOF_ROWS, PROOF_TOKENS, prove_load
from secateurs.checkpoints.saving import in_precision, save_model, save_tokenizer
from secateurs.devices.optimizer import check_optimizer
from secateurs.devices.placement import SHARDED, process_group, resolve_device, started_processes
from secateurs.errors import InputError, SettingError
from secateurs.files.atomic import atomic
from secateurs.files.json_file import write_json
from secateurs.progress import is_first
from secateurs.recover.incompatible import check_processes
from secateurs.recover.steps import Pair
from secateurs.recover.trained import trained_parameters
from secateurs.recover.training import Check, together
from secateurs.settings.recovery import Training
from stages.common.artifacts import read_card, read_writers
from stages.common.checkpoints import load_tokenizer, saved_dtype
from stages.common.console import stage, summary
from stages.common.launching import launch
from stages.common.locks import hold
from stages.common.paths import MODEL, PRUNED, RECOVERED, RECOVERY_TEXT
from stages.params.file import Params, read_params
from stages.planning.architecture import read_shapes
from stages.planning.machine import this_machine
from stages.planning.recovery_memory import check_recovery_memory
from stages.recovering.courses import train
from stages.recovering.models import load_pruned, load_teacher, precision, whole_model
from stages.recovering.prepared import prepared
from stages.recovering.reading import read_texts
from stages.recovering.recovered_card import ALL, Recovery, recovered_card
from stages.recovering.snapshots import clear
from stages.recovering.text import by_kind, shares_of_kinds


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
    texts, questions = read_texts(params, dense, tokenizer)
    check = torch.cat([ids[:1] for ids in texts.left_out.values()])
    with process_group(device):
        ready = prepared(params, texts, questions, tokenizer, lambda: load_teacher(params, dense, tokenizer))
        alive = ready.teacher if isinstance(ready.teacher, PreTrainedModel) else None
        student, texts = load_pruned(params, alive), replace(texts, asked=ready.asked)
        pair = Pair(student, ready.teacher, precision(params).autocast)
        parts = train(pair, texts, trainings, params.compute.dtype, ready.seconds)
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
        shares=shares_of_kinds(texts.mixture),
        before=_by_kind(course.checks[0], texts.mixture),
        after=_by_kind(parts[-1].best, texts.mixture),
        agreement=_agreement(course.checks[0], parts[-1].best),
        written_by=read_writers(RECOVERY_TEXT),
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
    if done.agreement is not None:
        shares = " -> ".join(f"{share:.1%}" for share in done.agreement.values())
        change += (
            f", agreement with its answers to {training.abilities.questions:,} left-out questions {shares}"
        )
    summary(
        "recover",
        f"{made} steps, of which {done.scales_first + done.kept} were kept; divergence from the dense model "
        f"on left-out text {change}, in {RECOVERED}",
    )


def _by_kind(check: Check, mixture: Mapping[str, float]) -> dict[str, float]:
    return {ALL: check.divergence, **by_kind(check.by_domain, mixture)}


def _agreement(before: Check, after: Check) -> dict[str, float] | None:
    if before.agreement is None or after.agreement is None:
        return None
    return {"before": before.agreement, "after": after.agreement}


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
        check_optimizer(training.optimizer)
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
