"""Distributions as their likeliest tokens and the rest as one class, and a model's divergence from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.divergence import LOWEST, Logits
from secateurs.inference.loss import CHUNK_TOKENS, head_logits


@dataclass(frozen=True)
class Likeliest:
    """Of the next-token distribution p at each position the k likeliest tokens, and all others together.

    ids: int64 [..., k]. log_p: float32 [..., k], their log probabilities. rest: float32 [...], the logarithm
    of the others' sum, LOWEST where there are none.
    """

    ids: Tensor
    log_p: Tensor
    rest: Tensor


@torch.no_grad()
def likeliest(teacher: PreTrainedModel, input_ids: Tensor, count: int) -> Likeliest:
    """The `count` likeliest tokens after each position of int64 [batch, tokens], and the exact rest.

    The rest is summed over the other tokens themselves, because 1 minus the sum of the likeliest would be
    rounding where they have nearly all.
    """
    hidden = teacher.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    logits, parts = head_logits(teacher), list[tuple[Tensor, Tensor, Tensor]]()
    for part in hidden.flatten(0, 1).split(CHUNK_TOKENS):
        scores = logits(part)
        whole = scores.logsumexp(dim=-1, keepdim=True)
        top = scores.topk(count, dim=-1)
        others = scores.scatter(-1, top.indices, -torch.inf).logsumexp(dim=-1, keepdim=True)
        log_p, rest = (top.values - whole).clamp_min(LOWEST), (others - whole).clamp_min(LOWEST)
        parts.append((top.indices, log_p, rest[:, 0]))
    shape = input_ids.shape
    ids, log_p, rest = (torch.cat(one) for one in zip(*parts, strict=True))
    return Likeliest(ids.view(*shape, count), log_p.view(*shape, count), rest.view(shape))


def likeliest_divergences(student: PreTrainedModel, target: Likeliest, input_ids: Tensor) -> Tensor:
    """The divergence from p over k + 1 classes, the mean over each sequence's positions: float32 [batch].

        D = sum_{i in K} p_i (log p_i - log q_i) + r (log r - log s)
        dD / dz_j = q_j - p_j for j in K, and q_j - r q_j / s for all others

    K: the k tokens of the target; q = softmax(z): the student's distribution; r and s: what p and q give to
    all other tokens. By the chain rule

        KL(p || q) = D + r KL(p of the others || q of the others),   so that 0 <= D <= KL(p || q)

    and D lacks only what the student is wrong about among the others, weighed by their mass r; with k = the
    vocabulary r is 0 and D is KL. input_ids: int64 [batch, tokens]; every position counts. Differentiable
    with respect to what enters the student's head, which is taken as frozen.
    """
    hidden = student.base_model(input_ids=input_ids, use_cache=False).last_hidden_state
    chunked = cast(Callable[..., Tensor], _ChunkedLikeliest.apply)
    return chunked(hidden, target, head_logits(student))


class _ChunkedLikeliest(torch.autograd.Function):
    """hidden [batch, tokens, d], the target and the student's head -> mean divergence of each sequence.

    As in divergence.py each chunk's gradient is made while its logits are there.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, target: Likeliest, logits: Logits) -> Tensor:
        batch, tokens = hidden.shape[:2]
        needs_gradient = ctx.needs_input_grad[0]
        flat = (hidden.flatten(0, 1), target.ids.flatten(0, 1), target.log_p.flatten(0, 1))
        chunks = (*(one.split(CHUNK_TOKENS) for one in flat), target.rest.flatten().split(CHUNK_TOKENS))
        values, gradients = [], []
        for part, ids, log_p, rest in zip(*chunks, strict=True):
            with torch.set_grad_enabled(needs_gradient):
                leaf = part.detach().requires_grad_(needs_gradient)
                scores = logits(leaf)
            value, by_scores = _divergence(scores.detach(), ids, log_p, rest)
            values.append(value)
            if needs_gradient:
                gradients.append(torch.autograd.grad(scores, leaf, by_scores)[0])
        if needs_gradient:
            ctx.save_for_backward(torch.cat(gradients).view_as(hidden) / tokens)
        return torch.cat(values).view(batch, tokens).mean(dim=1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0][:, None, None].to(gradient.dtype), None, None


def _divergence(scores: Tensor, ids: Tensor, log_p: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """The divergence [positions] and its gradient with respect to the scores [positions, vocabulary]."""
    log_q = F.log_softmax(scores, dim=-1)
    ours = log_q.gather(-1, ids).clamp_min_(LOWEST)
    others = log_q.scatter(-1, ids, -torch.inf)
    log_s = others.logsumexp(dim=-1).clamp_min_(LOWEST)
    p, r = log_p.exp(), rest.exp()
    value = (p * (log_p - ours)).sum(dim=-1) + r * (rest - log_s)
    # r q_j / s as one exponential, because q_j and s may both be too small for a quotient. Where there are
    # no others it is exp(-inf) = 0.
    spread = others.sub_(log_s[:, None]).exp_().mul_(r[:, None])
    return value, log_q.exp_().sub_(spread).scatter_add_(-1, ids, -p)
