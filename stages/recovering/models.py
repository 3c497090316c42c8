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


def load_models(
    params: Params, dense: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, PreTrainedModel, torch.dtype | None]:
    """The pruned model, the dense one, and the dtype of the pruned one's matrix products."""
    device, frozen = resolve_device(params.compute.device), params.recover.weights == "low_rank"
    # float16 would need its loss scaled, and on a CPU half precision is no faster.
    half = params.compute.dtype == "bfloat16" and device.type != "cpu"
    dtype, autocast = ("bfloat16", torch.bfloat16) if half else ("float32", None)
    student, teacher = load_model(PRUNED, dtype if frozen else "float32"), load_model(MODEL, dtype)
    if not same_cut(dense, tokenizer):
        # Both then choose among the same tokens.
        cut_like(teacher, dense, tokenizer)
    student, teacher = sharded(student, device, autocast), sharded(teacher, device, autocast)
    if started_processes() == 1:
        share_equal(student, teacher, () if frozen else trainable(student))
    return student, teacher, autocast


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
