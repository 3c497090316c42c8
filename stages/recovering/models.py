"""The models of a recovery: the pruned one, the dense one, and the trained one whole again."""

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.devices.placement import resolve_device, started_processes
from secateurs.progress import is_first
from secateurs.recover.pairing import Precision, placed_student, placed_teacher, precision_of
from secateurs.recover.sharding import whole_weights
from stages.common.checkpoints import load_model
from stages.common.paths import MODEL, PRUNED
from stages.params.file import Params


def precision(params: Params) -> Precision:
    """What both models are in."""
    device = resolve_device(params.compute.device)
    return precision_of(params.recover, getattr(torch, params.compute.dtype), device)


def load_teacher(
    params: Params, dense: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """The dense model, which chooses among the same tokens as the pruned one."""
    how = precision(params)
    teacher = load_model(MODEL, str(how.teacher).removeprefix("torch."))
    return placed_teacher(teacher, (dense, tokenizer), resolve_device(params.compute.device), how.autocast)


def load_pruned(params: Params, teacher: PreTrainedModel | None) -> PreTrainedModel:
    """The pruned model; what is equal in the dense one, where that is in memory too, is held once."""
    how = precision(params)
    student = load_model(PRUNED, str(how.student).removeprefix("torch."))
    return placed_student(
        student, teacher, params.recover, resolve_device(params.compute.device), how.autocast
    )


def whole_model(student: PreTrainedModel) -> PreTrainedModel:
    """The trained model in host memory; of several processes, in the first one."""
    moved: Any = student  # transformers' types leave out the arguments of `to`
    if started_processes() == 1:
        alone: PreTrainedModel = moved.to("cpu")
        return alone
    weights = whole_weights(student)
    if not is_first():
        return student
    result = load_model(PRUNED, "float32")
    for name, weight in result.named_parameters():
        weight.data.copy_(weights[name])
    return result
