"""The recovery of `secateurs prune`: text that prunes trains too, as much of it as there is."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.checkpoints.saving import in_precision
from secateurs.devices.capacity import capacity_of
from secateurs.devices.placement import copied, resolve_device
from secateurs.errors import InputError
from secateurs.order import Order, corpus_of
from secateurs.pruner import Pruned
from secateurs.recover.distillation import recover
from secateurs.recover.leaving_out import leave_out
from secateurs.recover.memory import Recovery, check_recovery_fits
from secateurs.recover.pairing import placed_student, placed_teacher, precision_of
from secateurs.recover.trained import trained_parameters
from secateurs.recover.training import Course, Texts, together
from secateurs.settings.recovery import Recover, Training
from secateurs.text.calibration import by_domain
from secateurs.text.corpus import Split, build_rest
from secateurs.text.documents import Document
from secateurs.text.overlap import NGram
from secateurs.text.packing import tokens_of
from secateurs.text.recutting import same_cut
from secateurs.vocabulary.shared import in_tokens_of


@dataclass(frozen=True)
class Recovered:
    """How a recovery went: its trainings' courses as one, the last one's best look, what was trained."""

    course: Course
    training: Training
    parameters: int

    def said(self) -> str:
        """What it did, in a line."""
        first, best, made = self.course.checks[0], self.course.best, len(self.course.losses)
        return (
            f"recovered in {made:,} steps of {self.training.batch_size} sequences "
            f"(`{self.training.weights}`, {self.parameters:,} parameters), of which {best.steps:,} were "
            f"kept: divergence from the dense model on left-out text {first.divergence:.4f} -> "
            f"{best.divergence:.4f} nats a token"
        )


def training_text(
    texts: Mapping[str, list[Document]],
    tokenizer: PreTrainedTokenizerBase,
    order: Order,
    heldout: Split,
    avoid: set[NGram],
) -> dict[str, Tensor]:
    """What a recovery reads, int64 [count, tokens] by domain that counts: calibration documents, whole.

    Raises InputError for a domain of which nothing would be left to train on.
    """
    recovery, mixture = _recovery(order), _mixture(order, texts)
    draws = recovery.steps * recovery.batch_size
    most = {domain: math.ceil(draws * share) + 1 + recovery.left_out for domain, share in mixture.items()}
    tokens = tokens_of(tokenizer, Path("the model's tokenizer"))
    rest = build_rest(texts, most, heldout, tokens, avoid, corpus_of(order))
    ids = dict(by_domain(rest.sequences).ids)
    leave_out(ids, dict.fromkeys(ids, recovery.left_out))
    return ids


def check_recovery(order: Order, model: PreTrainedModel) -> None:
    """Raise InputError where a recovery of this dense model cannot run on the order's device."""
    settings, recovery = order.settings, _recovery(order)
    device = resolve_device(settings.device)
    half = precision_of(recovery, model.dtype, device).autocast is not None
    planned = Recovery(recovery, settings.prune, half, order.tokens)
    try:
        check_recovery_fits(planned, model, capacity_of(device))
    except InputError as error:
        raise InputError(f"--recover: {error}; settings are given by --set KEY=VALUE") from None


def recover_pruned(
    pruned: Pruned,
    dense: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: Mapping[str, Tensor],
    order: Order,
    say: Callable[[str], object],
) -> Recovered:
    """Train the pruned model, in place, towards the dense one, which stays as it is.

    tokenizer: the dense model's, by which the text is cut. The pruned model ends in host memory and float32.
    """
    recovery, own = _recovery(order), pruned.tokenizer
    assert own is not None, "a tokenizer was given"
    begun, device = time.monotonic(), resolve_device(order.settings.device)
    ids = dict(text) if same_cut(tokenizer, own) else in_tokens_of(text, tokenizer, own)
    rows, left_out = leave_out(ids, dict.fromkeys(ids, recovery.left_out))
    precision = precision_of(recovery, dense.dtype, device)
    student = in_precision(pruned.model, precision.student)
    teacher = in_precision(copied(dense, "cpu"), precision.teacher).eval().requires_grad_(False)
    teacher = placed_teacher(teacher, (tokenizer, own), device, precision.autocast)
    student = placed_student(student, teacher, recovery, device, precision.autocast)
    texts = Texts(rows, left_out, _mixture(order, rows))
    count = sum(map(len, rows.values()))
    say(f"recovering for {recovery.minutes:g} minutes by {count:,} sequences …")
    courses = list[Course]()
    for training in recovery.trainings():
        if training.minutes is not None:
            left = training.minutes - (time.monotonic() - begun) / 60
            if left <= 0:
                raise InputError(
                    f"--recover: {training.minutes:g} minutes: all are gone before the first step; give more"
                )
            training = training.changed(minutes=left)
        courses.append(
            recover(
                student,
                teacher,
                texts,
                training,
                autocast=precision.autocast,
                snapshot=None,
                on_step=lambda take: None,
            )
        )
    parameters = trained_parameters(student, recovery)
    moved: Any = student  # transformers' types leave out the argument of `to`
    moved.to("cpu")
    in_precision(pruned.model, torch.float32)
    return Recovered(together(courses), recovery, parameters)


def _recovery(order: Order) -> Recover:
    assert order.recovery is not None, "asked for"
    return order.recovery


def _mixture(order: Order, domains: Mapping[str, object]) -> dict[str, float]:
    """The share of each domain that counts, together 1."""
    weights = order.settings.mixture or dict.fromkeys(domains, 1.0)
    whole = sum(weights.values())
    return {domain: weight / whole for domain, weight in weights.items() if weight > 0}
