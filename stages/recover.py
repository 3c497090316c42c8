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

from stages.checkpoints.devices import SHARDED, place
from stages.checkpoints.loading import load_model, load_tokenizer, saved_dtype
from stages.checkpoints.proof import PROOF_ROWS, PROOF_TOKENS, prove_load
from stages.checkpoints.saving import in_precision, save_model, save_tokenizer
from stages.common.artifacts import atomic, read_card, write_json
from stages.common.console import counter, stage, summary
from stages.common.errors import InputError
from stages.common.locks import hold
from stages.common.params import Params, read_params
from stages.common.paths import MODEL, PRUNED, RECOVERED, RECOVERY_TEXT
from stages.pruning import divergence, optimizer, precision, recovery
from stages.pruning.divergence import divergences
from stages.pruning.loss import sequence_losses
from stages.pruning.recovery import Snapshot, Training, recover, trainable
from stages.recovering.card import Fit, Recovery, recovered_card
from stages.recovering.snapshots import clear, read_snapshot, saving, snapshot_path
from stages.text.calibration import read_text

CODE = tuple(Path(str(module.__file__)) for module in (divergence, optimizer, precision, recovery))


@stage
def main() -> None:
    """Write data/recovered: the pruned checkpoint after a short distillation from the dense model."""
    params = read_params()
    hold(RECOVERED)
    _refuse_many(params)
    training = Training(**params.recover.model_dump())
    tokenizer, pruned_card = load_tokenizer(PRUNED), read_card(PRUNED)
    sequences = read_text(RECOVERY_TEXT)
    # Measured for the model card, on text that is trained on; the evaluate stage measures on held-out text.
    check = torch.cat([ids[:1] for ids in sequences.values()])
    student, teacher, autocast = _models(params)
    before = _fit(student, teacher, check)
    losses = _train(student, teacher, sequences, params, training, autocast)
    done = Recovery(
        training,
        tokens=training.steps * training.batch_size * check.shape[1],
        parameters=sum(weight.numel() for weight in trainable(student).values()),
        before=before,
        after=_fit(student, teacher, check),
    )
    trained: Any = student  # transformers' types leave out the arguments of `to`
    result = in_precision(trained.to("cpu"), saved_dtype(PRUNED))
    with atomic(RECOVERED) as directory:
        save_model(result, directory)
        save_tokenizer(tokenizer, directory)
        proof = prove_load(result, directory, check[:PROOF_ROWS, :PROOF_TOKENS], RECOVERED, tokenizer)
        card = recovered_card(pruned_card, done, proof)
        (directory / "README.md").write_text(card, encoding="utf-8")
        write_json(directory / "recovery.json", asdict(done) | {"divergence_by_step": losses})
    clear()
    change = f"{done.before.divergence:.4f} -> {done.after.divergence:.4f} nats"
    summary("recover", f"{training.steps} steps, divergence from the dense model {change}, in {RECOVERED}")


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
    sequences: dict[str, Tensor],
    params: Params,
    training: Training,
    autocast: torch.dtype | None,
) -> list[float]:
    settings = asdict(training) | {"mixture": params.mixture, "dtype": params.compute.dtype}
    path = snapshot_path(settings, [MODEL, PRUNED, RECOVERY_TEXT, *CODE])
    snapshot = read_snapshot(path)
    save = saving(path)
    with counter("recover", "step", training.steps) as bar:
        if snapshot is not None:
            click.echo(f"recover: goes on after step {len(snapshot.losses)} of {training.steps}")
            bar.update(len(snapshot.losses))

        def on_step(take: Callable[[], Snapshot]) -> None:
            bar.update()
            save(take)

        return recover(
            student,
            teacher,
            sequences,
            params.mixture,
            training,
            autocast=autocast,
            snapshot=snapshot,
            on_step=on_step,
        )


@torch.no_grad()
def _fit(student: PreTrainedModel, teacher: PreTrainedModel, input_ids: Tensor) -> Fit:
    rows = input_ids.to(student.device)
    return Fit(
        loss=float(sequence_losses(student, rows).mean()),
        divergence=float(divergences(student, teacher, rows).mean()),
    )


def _refuse_many(params: Params) -> None:
    """Raise InputError unless there is one process with one device, which must hold optimizer and models."""
    if params.compute.device == SHARDED:
        raise InputError(f"params.yaml: compute.device: {SHARDED}: recover needs one device; use auto")
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise InputError(f"recover: {processes} processes; run it as one: `python -m stages.recover`")


if __name__ == "__main__":
    main()
