"""The loop in which a model writes after many prompts at once: rows that have ended leave the batch."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from secateurs.inference.attention_kernels import many_shapes
from secateurs.inference.cache import cache_of

# Rows that have ended are carried along until they are this share of the batch.
ENDED = 0.25

# (logits [rows, vocabulary], the rows' places among the prompts [rows], the step) -> token ids [rows]
Choose = Callable[[Tensor, Tensor, int], Tensor]
# Token ids [rows, steps] -> whether each row has ended, bool [rows]
Over = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Looks:
    """When and for what a loop looks at its rows, because a device has to be waited for at each look.

    every: steps between two looks. over: which rows have ended for another reason than an end token; all that
    such a row has written is kept. show: told of the steps, and of the rows that have ended, since the last
    look.
    """

    every: int
    over: Over | None = None
    show: Callable[[int, int], object] = lambda steps, ended: None


@torch.inference_mode()
@many_shapes()
def write(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    choose: Choose,
    looks: Looks,
    ends: Collection[int] = (),
) -> list[list[int]]:
    """The token ids that the model writes after each prompt: `tokens`, or fewer up to one of `ends`.

    Prompts of unequal length are padded on the left. choose: the next token of each row that is left.
    """
    device, longest = model.device, max(map(len, prompts))
    # What the padding is does not matter, because no token sees it.
    ids = torch.tensor([[0] * (longest - len(one)) + list(one) for one in prompts], device=device)
    lengths = [[0] * (longest - len(one)) + [1] * (len(one) + tokens) for one in prompts]
    mask = torch.tensor(lengths, device=device)
    places = (mask[:, :longest].cumsum(dim=1) - 1).clamp_min(0)
    # Without padding the model's own mask and positions are the same, and faster.
    padded = min(map(len, prompts)) < longest
    last_ids = torch.tensor(sorted(ends), dtype=torch.int64, device=device)
    cache = cache_of(model, longest + tokens)
    rows = torch.arange(len(prompts), device=device)
    written = torch.zeros(len(prompts), tokens, dtype=torch.int64, device=device)
    counts = torch.full_like(rows, tokens)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    looked = known = 0
    for step in range(tokens):
        padding = {"attention_mask": mask[:, : longest + step], "position_ids": places} if padded else {}
        output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **padding)
        places = places[:, -1:] + 1
        ids = choose(output.logits[:, -1], rows, step)[:, None].to(device)
        written[rows, step] = ids[:, 0]
        ended |= torch.isin(ids[:, 0], last_ids)
        done = step + 1
        if done % looks.every and done < tokens:
            continue
        if looks.over is not None:
            going = (~ended).nonzero()[:, 0]
            ended[going] = looks.over(written[rows[going], :done])
        count = int(ended.sum())
        looks.show(done - looked, count - known)
        looked, known = done, count
        if count < ENDED * len(rows):
            continue
        counts[rows[ended]] = done
        if count == len(rows):
            break
        left = (~ended).nonzero()[:, 0]
        cache.batch_select_indices(left)
        ids, mask, places, rows, ended = (one[left] for one in (ids, mask, places, rows, ended))
        known = 0
    looks.show(tokens - looked, len(rows) - known)
    cut = zip(written.tolist(), counts.tolist(), strict=True)
    return [_up_to_end(row[:count], ends) for row, count in cut]


def _up_to_end(ids: list[int], ends: Collection[int]) -> list[int]:
    """The ids up to the first of `ends`, which is one of them."""
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[: first + 1]
