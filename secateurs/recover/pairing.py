"""The pruned and the dense model of a recovery, ready to be trained and to teach."""

from dataclasses import dataclass
from functools import partial

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.devices.parallel import processes
from secateurs.inference.head import fold_head
from secateurs.recover.lost_tokens import Spelling
from secateurs.recover.sharding import sharded
from secateurs.recover.sharing import share_equal
from secateurs.recover.trained import trainable
from secateurs.settings.recovery import Training
from secateurs.text.recutting import same_cut
from secateurs.vocabulary.embedding_rows import cut_vocabulary


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

    tokenizers: its own and the pruned model's. Where they differ it is changed, in place, so that both read
    and choose among the same tokens (cut_like).
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


def cut_like(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase
) -> None:
    """Let a dense model, in place, read and choose among `other`'s tokens, some of its own `tokenizer`'s.

        p'(s) = sum of p(t) over the tokens t of which s is the first piece

    p: its next-token distribution, after a text in tokens of `other`; a token that is left is its own first
    piece, and one that is gone is written by its pieces from now on. Of the embeddings the rows of `other`'s
    tokens stay; the head stays whole.
    """
    dense, spelling = tokenizer.get_vocab(), Spelling(tokenizer, other)
    head = model.get_output_embeddings().get_parameter("weight")
    first = spelling.first(len(head)).to(head.device)
    ids = {dense[token]: index for token, index in other.get_vocab().items()}
    fold_head(model, first, partial(cut_vocabulary, model, ids))
