"""How far one model's next-token distributions are from another's, without ever holding both logits whole."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.loss import CHUNK_TOKENS, head_logits

Logits = Callable[[Tensor], Tensor]


def divergences(student: PreTrainedModel, teacher: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """KL(teacher || student) of the next-token distributions, the mean over each sequence's positions.

    input_ids: int64 [batch, tokens]; every position counts, the last one too, because no label is needed.
    Returns float32 [batch], in nats. With gradients enabled the result is differentiable with respect to what
    enters the student's head; embeddings and head are taken as frozen, and so is the whole teacher.
    """
    with torch.no_grad():
        target = teacher.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    hidden = student.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    return divergences_of_hidden(hidden, target, head_logits(student), head_logits(teacher))


def divergences_of_hidden(
    hidden: Tensor, target: Tensor, student_logits: Logits, teacher_logits: Logits
) -> Tensor:
    """The same of hidden states that the heads read, [batch, tokens, d] of student and of teacher."""
    chunked = cast(Callable[..., Tensor], _ChunkedDivergence.apply)
    return chunked(hidden, target, student_logits, teacher_logits)


class _ChunkedDivergence(torch.autograd.Function):
    """hidden, target [batch, tokens, d] and both heads -> mean divergence of each sequence [batch].

    As in loss.py each chunk's gradient is made while its logits are there. With respect to the student's
    logits it is q - p, where q is the student's distribution and p the teacher's: exactly zero where they are
    equal. Rounding errors instead of zeros would be scaled up by the optimizer.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, target: Tensor, student_logits: Logits, teacher_logits: Logits
    ) -> Tensor:
        batch, tokens = hidden.shape[:2]
        needs_gradient = ctx.needs_input_grad[0]
        values, gradients = [], []
        for ours, theirs in zip(
            hidden.flatten(0, 1).split(CHUNK_TOKENS), target.flatten(0, 1).split(CHUNK_TOKENS), strict=True
        ):
            log_p = F.log_softmax(teacher_logits(theirs), dim=-1)
            with torch.set_grad_enabled(needs_gradient):
                leaf = ours.detach().requires_grad_(needs_gradient)
                scores = student_logits(leaf)
            log_q = F.log_softmax(scores.detach(), dim=-1)
            p = log_p.exp()
            values.append((p * (log_p - log_q)).sum(dim=-1))
            if needs_gradient:
                gradients.append(torch.autograd.grad(scores, leaf, log_q.exp_().sub_(p))[0])
        if needs_gradient:
            ctx.save_for_backward(torch.cat(gradients).view_as(hidden) / tokens)
        return torch.cat(values).view(batch, tokens).mean(dim=1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0][:, None, None].to(gradient.dtype), None, None, None
