"""Next-token loss without ever holding the logits of a whole batch."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.head import head_logits, hidden_states

# Logits of this many tokens exist at once; 512 x 49k x 4 bytes is 100 MB.
CHUNK_TOKENS = 512
# The label of a token whose loss is 0: what cross_entropy ignores.
NOT_COUNTED = -100


def sequence_losses(
    model: PreTrainedModel, input_ids: Tensor, every: int = 1, counted: Tensor | None = None
) -> Tensor:
    """Mean next-token loss of each sequence; with `counted`, the sum over those tokens by the number of all.

    input_ids: int64 [batch, tokens]. Returns float32 [batch], in nats per predicted token. With gradients
    enabled the result is differentiable with respect to activations (the weights are taken as frozen);
    the head then runs once, its gradient being made chunk by chunk in the forward pass. `every`: with n,
    the mean is over one position in n (number n // 2 and every n-th after it), and the head runs only there.
    counted: bool [batch, tokens]; the loss of predicting any other token is 0. A token counts the same then,
    whatever the sequence it is in.
    """
    hidden = hidden_states(model, input_ids)
    return losses_of_hidden(model, hidden, input_ids, every, counted)


def losses_of_hidden(
    model: PreTrainedModel, hidden: Tensor, input_ids: Tensor, every: int = 1, counted: Tensor | None = None
) -> Tensor:
    """As sequence_losses, where the head's input `hidden` [batch, tokens, d] is there already."""
    chosen = slice(min(every // 2, input_ids.shape[1] - 2), None, every)
    labels = input_ids if counted is None else input_ids.masked_fill(~counted, NOT_COUNTED)
    chunked_loss = cast(Callable[..., Tensor], _ChunkedLoss.apply)
    some = counted is not None
    return chunked_loss(hidden[:, :-1][:, chosen], labels[:, 1:][:, chosen], head_logits(model), some)


class _ChunkedLoss(torch.autograd.Function):
    """hidden [batch, tokens, d], labels [batch, tokens] -> mean loss of each sequence [batch].

    some: whether some labels may be NOT_COUNTED.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, labels: Tensor, logits: Callable[[Tensor], Tensor], some: bool
    ) -> Tensor:
        batch, tokens = labels.shape
        flat, targets = hidden.reshape(batch * tokens, -1), labels.reshape(-1)
        needs_gradient = ctx.needs_input_grad[0]
        losses, gradients = [], []
        for chunk, target in zip(flat.split(CHUNK_TOKENS), targets.split(CHUNK_TOKENS), strict=True):
            with torch.set_grad_enabled(needs_gradient):
                leaf = chunk.detach().requires_grad_(needs_gradient)
                scores = logits(leaf)
            # A model spread over devices may have its head elsewhere than its last layer.
            label = target.to(scores.device)
            log_p = F.log_softmax(scores.detach(), dim=-1)
            loss = F.nll_loss(log_p, label, reduction="none", ignore_index=NOT_COUNTED)
            losses.append(loss.to(hidden.device))
            if needs_gradient:
                gradients.append(torch.autograd.grad(scores, leaf, _by_scores(log_p, label, some))[0])
        if needs_gradient:
            ctx.save_for_backward(torch.cat(gradients).view_as(hidden) / tokens)
        return torch.cat(losses).view(batch, tokens).mean(dim=1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0][:, None, None].to(gradient.dtype), None, None, None


def _by_scores(log_p: Tensor, labels: Tensor, some: bool) -> Tensor:
    """The gradient of each token's loss by its scores, p - 1 at the label and p elsewhere, in place of log_p.

    some: whether a label may be NOT_COUNTED; to look would be to wait for the device. Autograd would make the
    gradient of a matrix of zeros, in two more passes over the vocabulary.
    """
    gradient = log_p.exp_()
    places = labels[:, None].clamp_min(0)
    gradient.scatter_add_(1, places, gradient.new_full(places.shape, -1.0))
    return gradient.mul_((labels != NOT_COUNTED)[:, None]) if some else gradient
