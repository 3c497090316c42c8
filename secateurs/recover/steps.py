"""The gradient of a step: of text, and of answers that the model in training wrote."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.devices.parallel import own_rows, processes, summed
from secateurs.devices.precision import tensor_cores
from secateurs.inference.attention_kernels import many_shapes
from secateurs.inference.divergence import Kind, divergences, divergences_where
from secateurs.recover.rollouts import batches
from secateurs.recover.training import Answer


@dataclass(frozen=True)
class Pair:
    """The model in training and the dense one on one device.

    autocast: the dtype in which the first multiplies matrices, None for its own.
    """

    student: PreTrainedModel
    teacher: PreTrainedModel
    autocast: torch.dtype | None

    @property
    def device(self) -> torch.device:
        """Where both models are."""
        return self.student.device

    def casting(self) -> AbstractContextManager[object]:
        """In the context both models multiply matrices in `autocast`."""
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)


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
                loss = weight * divergences(pair.student, pair.teacher, part).sum() / len(rows)
            loss.backward()
            total += loss.detach()
    return float(summed(total)) / processes()


def add_answers(pair: Pair, answers: Sequence[Answer], tokens: int, kind: Kind, weight: float) -> float:
    """The same of the mean divergence over the tokens of answers; tokens: how many run together, about."""
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
    """Mean KL(teacher || student) in nats per token, by domain, computed as in training.

    sequences: int64 [count, tokens] by domain; at_once: how many run together.
    """
    found = {}
    with tensor_cores(), pair.casting():
        for domain, rows in sequences.items():
            parts = [
                divergences(pair.student, pair.teacher, part.to(pair.device)) for part in rows.split(at_once)
            ]
            found[domain] = float(torch.cat(parts).mean())
    return found
