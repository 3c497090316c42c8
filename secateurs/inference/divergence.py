"""How far one model's next-token distributions are from another's, without ever holding both logits whole."""

import math
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.head import head_logits, hidden_states
from secateurs.inference.loss import CHUNK_TOKENS

Logits = Callable[[Tensor], Tensor]
# Takes logits [positions, vocabulary] and targets there; gives values [positions] and their gradients.
Divergence = Callable[..., tuple[Tensor, Tensor]]
# Which divergence, of the teacher's distribution p and the student's q: KL(p || q), KL(q || p), or that of
# Jensen and Shannon, (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2.
Kind = Literal["forward", "reverse", "js"]
# No log probability is lower. Its exponential is 0 in every dtype, and 0 times it is 0, where 0 times the
# -inf of a token that a head rules out would be no number.
LOWEST = -1e4


def divergences(student: PreTrainedModel, teacher: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """KL(teacher || student) of the next-token distributions, the mean over each sequence's positions.

    input_ids: int64 [batch, tokens]; every position counts, the last one too, because no label is needed.
    Returns float32 [batch], in nats. With gradients enabled the result is differentiable with respect to what
    enters the student's head; embeddings and head are taken as frozen, and so is the whole teacher.
    """
    with torch.no_grad():
        target = hidden_states(teacher, input_ids)
    hidden = hidden_states(student, input_ids)
    return divergences_of_hidden(hidden, target, head_logits(student), head_logits(teacher))


def divergences_where(
    student: PreTrainedModel, teacher: PreTrainedModel, input_ids: Tensor, where: Tensor, kind: Kind
) -> Tensor:
    """The divergence of that kind at chosen positions, each for itself: float32 [positions], in nats.

    input_ids: int64 [batch, tokens]; where: bool of that shape. The heads run at the chosen positions alone.
    Differentiable as `divergences` is. No mask is given to the models, so padding must be on the right, where
    no chosen position sees it.
    """
    with torch.no_grad():
        target = hidden_states(teacher, input_ids)[where]
    hidden = hidden_states(student, input_ids)[where]
    heads = head_logits(student), head_logits(teacher)
    return divergences_of_hidden(hidden[:, None], target[:, None], *heads, kind)


def divergences_of_hidden(
    hidden: Tensor,
    target: Tensor,
    student_logits: Logits,
    teacher_logits: Logits,
    kind: Kind = "forward",
) -> Tensor:
    """The mean over positions [batch] of hidden states that the heads read, [batch, tokens, d] of both."""

    def divergence(scores: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        log_p = F.log_softmax(teacher_logits(theirs), dim=-1).clamp_min_(LOWEST)
        log_q = F.log_softmax(scores, dim=-1).clamp_min_(LOWEST)
        return _KINDS[kind](log_p, log_q)

    return mean_by_chunks(hidden, (target,), student_logits, divergence)


def mean_by_chunks(
    hidden: Tensor, targets: tuple[Tensor, ...], logits: Logits, divergence: Divergence
) -> Tensor:
    """The mean over positions [batch] of a divergence, some positions at a time.

    hidden: [batch, tokens, d], which `logits` reads; targets: [batch, tokens, ...] each. The gradients that
    `divergence` gives are with respect to the logits; the result is differentiable with respect to `hidden`.
    """
    chunked = cast(Callable[..., Tensor], _Chunked.apply)
    return chunked(hidden, targets, logits, divergence)


class _Chunked(torch.autograd.Function):
    """mean_by_chunks.

    As in loss.py each chunk's gradient is made while its logits are there. Where both distributions are equal
    it is exactly zero: rounding errors instead of zeros would be scaled up by the optimizer.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        targets: tuple[Tensor, ...],
        logits: Logits,
        divergence: Divergence,
    ) -> Tensor:
        batch, tokens = hidden.shape[:2]
        needs_gradient = ctx.needs_input_grad[0]
        chunks = (one.flatten(0, 1).split(CHUNK_TOKENS) for one in (hidden, *targets))
        values, gradients = [], []
        for part, *theirs in zip(*chunks, strict=True):
            with torch.set_grad_enabled(needs_gradient):
                leaf = part.detach().requires_grad_(needs_gradient)
                scores = logits(leaf)
            value, by_scores = divergence(scores.detach(), *theirs)
            values.append(value)
            if needs_gradient:
                gradients.append(torch.autograd.grad(scores, leaf, by_scores)[0])
        if needs_gradient:
            ctx.save_for_backward(torch.cat(gradients).view_as(hidden) / tokens)
        return torch.cat(values).view(batch, tokens).mean(dim=1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0][:, None, None].to(gradient.dtype), None, None, None


# Each takes log p and log q, float32 [positions, vocabulary], which it may write over, and gives the
# divergence [positions] and its gradient with respect to the student's logits [positions, vocabulary].


def _forward(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """sum p (log p - log q); q - p."""
    p = log_p.exp()
    value = (p * (log_p - log_q)).sum(dim=-1)
    return value, log_q.exp_().sub_(p)


def _reverse(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """R = sum q (log q - log p); q (log q - log p - R)."""
    apart = log_q - log_p
    q = log_q.exp_()
    value = (q * apart).sum(dim=-1)
    return value, apart.sub_(value[:, None]).mul_(q)


def _jensen_shannon(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """(sum p a + Q) / 2; q (b - Q) / 2, with a = log p - log m, b = log q - log m and Q = sum q b.

    log m is not made: with d = log p - log q, b = log 2 - log(1 + exp d) and a = log 2 - log(1 + exp -d).
    """
    apart = log_p - log_q
    theirs = (log_p.exp_() * (math.log(2) - F.softplus(-apart))).sum(dim=-1)
    ours = math.log(2) - F.softplus(apart)
    q = log_q.exp_()
    value = (q * ours).sum(dim=-1)
    return (theirs + value) / 2, ours.sub_(value[:, None]).mul_(q).div_(2)


_KINDS: dict[Kind, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "forward": _forward,
    "reverse": _reverse,
    "js": _jensen_shannon,
}
