"""A head over more tokens than a pruned model has, which gives a distribution over those that are left."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from secateurs.families.decoder import text_config

# Where probabilities end before they are 0, whose logarithm is no number.
_LEAST = torch.finfo(torch.float32).tiny


class FoldedHead(nn.Module):
    """Logits over fewer tokens than its head has: a token that is gone counts for its first piece.

        log p',  p'(s) = sum of p(t) over the tokens t whose first piece is s

    head: the dense model's, of V rows. softcap: what its logits are capped by; None: nothing. first: int64
    [V], the first piece of each of its tokens among the n that are left; -1 for rows that are no token's,
    whose probability is divided among all.
    """

    first: Tensor

    def __init__(self, head: nn.Module, softcap: float | None, first: Tensor) -> None:
        super().__init__()
        self.head, self.softcap = head, softcap
        self.left = int(first.max()) + 1
        # Rows that are no token's are added up too, past the others, and left out.
        self.register_buffer("first", first.masked_fill(first < 0, self.left), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., d] to float32 [..., n]."""
        scores = self.head(hidden).float()
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        p = scores.softmax(dim=-1)
        folded: Tensor = p.new_zeros(*p.shape[:-1], self.left + 1).index_add_(-1, self.first, p)
        return folded[..., : self.left].clamp_min(_LEAST).log_()


def fold_head(model: PreTrainedModel, head: nn.Module, first: Tensor) -> None:
    """Give a model, in place, the head of another vocabulary, folded, with the cap of its logits."""
    config = text_config(model.config)
    softcap = getattr(config, "final_logit_softcapping", None)
    model.set_output_embeddings(FoldedHead(head, softcap, first))
    if softcap is not None:
        config.final_logit_softcapping = None
