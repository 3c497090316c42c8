"""Distributions as their likeliest tokens and the rest as one class, and a model's divergence from them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.divergence import LOWEST, mean_by_chunks
from secateurs.inference.head import head_logits, hidden_states
from secateurs.inference.loss import CHUNK_TOKENS


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
    hidden = hidden_states(teacher, input_ids)
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
    hidden = hidden_states(student, input_ids)
    return mean_by_chunks(hidden, (target.ids, target.log_p, target.rest), head_logits(student), _divergence)


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
