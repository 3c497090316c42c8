"""The gradient of a step: of text, and of answers that the model in training wrote."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.devices.parallel import own_rows, processes, summed
from secateurs.devices.precision import tensor_cores
from secateurs.errors import SettingError
from secateurs.inference.attention_kernels import many_shapes
from secateurs.inference.divergence import Kind, divergences, divergences_where
from secateurs.inference.likeliest import likeliest_divergences
from secateurs.recover.rollouts import batches
from secateurs.recover.teacher_cache import CachedTeacher
from secateurs.recover.training import Answer


@dataclass(frozen=True)
class Pair:
    """The model in training and the dense one, on one device or in a file (teacher_cache.CachedTeacher).

    autocast: the dtype in which the first multiplies matrices, None for its own.
    """

    student: PreTrainedModel
    teacher: PreTrainedModel | CachedTeacher
    autocast: torch.dtype | None

    @property
    def device(self) -> torch.device:
        """Where both models are."""
        return self.student.device

    def casting(self) -> AbstractContextManager[object]:
        """In the context both models multiply matrices in `autocast`."""
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)

    def divergences(self, rows: Tensor) -> Tensor:
        """The divergence from the dense model on int64 [rows, tokens], the mean of each row: float32 [rows].

        KL(teacher || student), or over the classes that a file has (likeliest.likeliest_divergences).
        """
        if isinstance(self.teacher, CachedTeacher):
            return likeliest_divergences(self.student, self.teacher.targets(rows), rows)
        return divergences(self.student, self.teacher, rows)


def add_text(pair: Pair, rows: Tensor, at_once: int, weight: float) -> float:
    """Add the gradient of weight * the mean divergence on rows to the student's; return that value.

    rows: int64 [count, tokens]; at_once: how many run together. Of several processes each runs its own rows,
    equally many, and the mean of all their gradients is what each adds to its part.
    """
    rows = own_rows(rows)
    total = torch.zeros((), device=pair.device)
    with tensor_cores():
        for part in rows.to(pair.device).split(at_once):
            with pair.casting():
                loss = weight * pair.divergences(part).sum() / len(rows)
            loss.backward()
            total += loss.detach()
    return float(summed(total)) / processes()


def add_answers(pair: Pair, answers: Sequence[Answer], tokens: int, kind: Kind, weight: float) -> float:
    """The same of the mean divergence over the tokens of answers; tokens: how many run together, about.

    Raises SettingError where the dense model is in a file, which has no answers.
    """
    if isinstance(pair.teacher, CachedTeacher):
        raise SettingError("recover.teacher: cached: a file has no distributions for answers; set it to live")
    total = torch.zeros((), device=pair.device)
    count = sum(len(answer.ids) for answer in answers)
    with tensor_cores(), many_shapes():
        for ids, where, _ in batches(answers, tokens):
            ids, where = ids.to(pair.device), where.to(pair.device)
            with pair.casting():
                each = divergences_where(pair.student, pair.teacher, ids, where, kind)
                loss = weight * each.sum() / count
            loss.backward()
            total += loss.detach()
    return float(total)


@torch.no_grad()
def left_out_divergences(pair: Pair, sequences: Mapping[str, Tensor], at_once: int) -> dict[str, float]:
    """The mean divergence from the teacher in nats per token, by domain, computed as in training.

    sequences: int64 [count, tokens] by domain; at_once: how many run together.
    """
    found = {}
    with tensor_cores(), pair.casting():
        for domain, rows in sequences.items():
            parts = [pair.divergences(part.to(pair.device)) for part in rows.split(at_once)]
            found[domain] = float(torch.cat(parts).mean())
    return found
