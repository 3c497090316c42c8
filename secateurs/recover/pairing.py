"""The pruned and the dense model of a recovery, ready to be trained and to teach."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.devices.parallel import processes
from secateurs.recover.sharding import sharded
from secateurs.recover.sharing import share_equal
from secateurs.recover.trained import trainable
from secateurs.settings.recovery import Training
from secateurs.text.recutting import same_cut
from secateurs.vocabulary.shared import cut_like


@dataclass(frozen=True)
class Precision:
    """The dtypes of the model in training and of the dense one, and in which both multiply matrices.

    autocast: None for their own.
    """

    student: torch.dtype
    teacher: torch.dtype
    autocast: torch.dtype | None


def precision_of(training: Training, dtype: torch.dtype, device: torch.device) -> Precision:
    """What models of a dtype are trained in on a device."""
    # float16 would need its loss scaled, and on a CPU half precision is no faster.
    half = dtype == torch.bfloat16 and device.type != "cpu"
    each = torch.bfloat16 if half else torch.float32
    return Precision(each if training.frozen else torch.float32, each, torch.bfloat16 if half else None)


def placed_teacher(
    teacher: PreTrainedModel,
    tokenizers: tuple[PreTrainedTokenizerBase, PreTrainedTokenizerBase],
    device: torch.device,
    autocast: torch.dtype | None,
) -> PreTrainedModel:
    """The dense model, from host memory, on the device or over the processes of a group.

    tokenizers: its own and the pruned model's. Where they differ, rows of it go, in place, so that both
    choose among the same tokens.
    """
    if not same_cut(*tokenizers):
        cut_like(teacher, *tokenizers)
    return sharded(teacher, device, autocast)


def placed_student(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    training: Training,
    device: torch.device,
    autocast: torch.dtype | None,
) -> PreTrainedModel:
    """The model in training likewise; what is equal in the teacher and not trained is held once.

    teacher: None where it is not in memory.
    """
    student = sharded(student, device, autocast)
    if teacher is not None and processes() == 1:
        share_equal(student, teacher, () if training.frozen else trainable(student))
    return student
