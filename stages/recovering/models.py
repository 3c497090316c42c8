"""The models of a recovery: the pruned one, the dense one, and the trained one whole again."""

from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.devices.placement import resolve_device, started_processes
from secateurs.progress import is_first
from secateurs.recover.sharding import sharded, whole_weights
from secateurs.recover.sharing import share_equal
from secateurs.recover.trained import trainable
from secateurs.text.recutting import same_cut
from secateurs.vocabulary.shared import cut_like
from stages.common.checkpoints import load_model
from stages.common.paths import MODEL, PRUNED
from stages.params.file import Params


def autocast_of(params: Params) -> torch.dtype | None:
    """The dtype of the pruned model's matrix products, None for float32."""
    # float16 would need its loss scaled, and on a CPU half precision is no faster.
    half = params.compute.dtype == "bfloat16" and resolve_device(params.compute.device).type != "cpu"
    return torch.bfloat16 if half else None


def load_dense(
    params: Params, dense: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """The dense model, which chooses among the same tokens as the pruned one."""
    autocast = autocast_of(params)
    teacher = load_model(MODEL, "float32" if autocast is None else "bfloat16")
    if not same_cut(dense, tokenizer):
        cut_like(teacher, dense, tokenizer)
    return sharded(teacher, resolve_device(params.compute.device), autocast)


def load_pruned(params: Params, teacher: PreTrainedModel | None) -> PreTrainedModel:
    """The pruned model; what is equal in the dense one, where that is in memory too, is held once."""
    autocast, frozen = autocast_of(params), params.recover.weights == "low_rank"
    student = load_model(PRUNED, "bfloat16" if frozen and autocast is not None else "float32")
    student = sharded(student, resolve_device(params.compute.device), autocast)
    if teacher is not None and started_processes() == 1:
        share_equal(student, teacher, () if frozen else trainable(student))
    return student


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
