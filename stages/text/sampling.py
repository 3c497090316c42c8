"""Text that a model writes itself, from its own distribution."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stages.common.artifacts import Document
from stages.common.console import progress
from stages.common.errors import InputError
from stages.common.params import PARAMS_FILE, Sample
from stages.text.boundaries import start

# Steps between two looks at which texts have ended, which the device has to wait for.
LOOK = 16
# Texts that have ended are carried along until they are this share of the batch.
ENDED = 0.25


def sample_documents(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Sample, where: Path
) -> list[Document]:
    """`settings.documents` texts of `settings.tokens` tokens each, sampled from the whole distribution.

    Each starts as text/boundaries.py says that a text starts; where: the directory the tokenizer is from.
    An end-of-text token does not stop a document: it is kept in the text, and what the model writes next
    follows. A document's random numbers depend on the seed and its own number only, not on its batch.
    Raises InputError where the model's logits are no numbers.
    """
    written = go_on(
        model,
        [[start(tokenizer, where)]] * settings.documents,
        settings.tokens,
        temperature=settings.temperature,
        batch_size=settings.batch_size,
        key=str(settings.seed),
    )
    texts = tokenizer.batch_decode(written, skip_special_tokens=False)
    return [Document(f"sample-{number}", text) for number, text in enumerate(texts)]


@dataclass(frozen=True)
class Draw:
    """How a token is drawn: see go_on."""

    temperature: float
    min_p: float


@torch.inference_mode()
def go_on(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    temperature: float,
    batch_size: int,
    key: str,
    min_p: float = 0.0,
    ends: frozenset[int] = frozenset(),
    label: str = "sample",
) -> list[list[int]]:
    """What the model writes after each prompt of token ids: `tokens` ids, or fewer up to one of `ends`.

    Sampled at `temperature`, of tokens that are at least `min_p` times as likely as the likeliest one. The
    random numbers of a prompt depend on `key` and its place in the list alone, not on the batch it is in.
    Prompts of unequal length are padded on the left.
    """
    written: list[list[int]] = []
    draw = Draw(temperature, min_p)
    steps = progress(range(-(-len(prompts) // batch_size) * tokens), label=label, unit="tokens")
    with steps:
        for first in range(0, len(prompts), batch_size):
            batch = prompts[first : first + batch_size]
            draws = torch.stack([_draws(key, first + row, tokens) for row in range(len(batch))])
            written += _batch_goes_on(model, batch, draws, draw, ends, steps.update)
    return written


def _batch_goes_on(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    draws: torch.Tensor,
    draw: Draw,
    ends: frozenset[int],
    on_token: Callable[[], object],
) -> list[list[int]]:
    longest = max(map(len, prompts))
    # What the padding is does not matter, because no token sees it.
    tokens = torch.tensor([[0] * (longest - len(one)) + list(one) for one in prompts], device=model.device)
    seen = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=model.device)
    stops = torch.tensor(sorted(ends), device=model.device)
    cache: Any = None
    rows = torch.arange(len(prompts), device=model.device)
    written = torch.zeros(len(prompts), draws.shape[1], dtype=torch.int64, device=model.device)
    ended = torch.zeros(len(prompts), dtype=torch.bool, device=model.device)
    padded = not bool(seen.all())
    for step in range(draws.shape[1]):
        positions = (seen.cumsum(dim=1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        # Without padding the model's own mask and positions are the same, and faster.
        padding = {"attention_mask": seen, "position_ids": positions} if padded else {}
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1, **padding)
        cache = output.past_key_values
        tokens = _choose(output.logits[:, -1], draws[:, step], draw)
        seen = torch.cat([seen, torch.ones_like(tokens)], dim=1)
        written[rows, step] = tokens[:, 0]
        ended |= torch.isin(tokens[:, 0], stops)
        on_token()
        if not ends or (step + 1) % LOOK:
            continue
        if bool(ended.all()):
            break
        if float(ended.float().mean()) >= ENDED:
            kept = (~ended).nonzero()[:, 0]
            cache.batch_select_indices(kept)
            tokens, seen, rows, ended = (one[kept] for one in (tokens, seen, rows, ended))
            draws = draws[kept.cpu()]
    return [_up_to_end(row, ends) for row in written.tolist()]


def _up_to_end(ids: list[int], ends: frozenset[int]) -> list[int]:
    """The ids up to the first of `ends`, which is one of them."""
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return ids[: first + 1]


def _draws(key: str, number: int, tokens: int) -> torch.Tensor:
    """A text's uniform random numbers, one a token, drawn on the CPU: the same on every device."""
    digest = hashlib.blake2b(f"{key}:{number}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest))
    return torch.rand(tokens, generator=generator, dtype=torch.float64)


def _choose(logits: torch.Tensor, draws: torch.Tensor, draw: Draw) -> torch.Tensor:
    """[batch, 1] token ids: where the cumulative probability first exceeds the draw."""
    # In float64, because rounding must not depend on how a device sums float32. MPS has no float64.
    where = torch.device("cpu") if logits.device.type == "mps" else logits.device
    if not bool(torch.isfinite(logits.amax(dim=-1)).all()):
        raise InputError(
            f"{PARAMS_FILE}: compute.dtype: {str(logits.dtype).removeprefix('torch.')}: the model's logits "
            "are not finite, so its text would be noise; use bfloat16 or float32"
        )
    choose = _among_the_likely if draw.min_p else _among_all
    return choose(logits.to(where), draws.to(where), draw)[:, None].to(logits.device)


def _among_all(logits: torch.Tensor, draws: torch.Tensor, draw: Draw) -> torch.Tensor:
    cumulative = (logits.double() / draw.temperature).softmax(dim=-1).cumsum(dim=-1)
    chosen = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)
    return chosen[:, 0].clamp(max=logits.shape[-1] - 1)


def _among_the_likely(logits: torch.Tensor, draws: torch.Tensor, draw: Draw) -> torch.Tensor:
    """The same where few tokens are left: those of all rows, in one list, are all that is added up.

    A running sum over the whole vocabulary in float64 takes longer than the model does.
    """
    best = logits.amax(dim=-1, keepdim=True).float()
    smallest = math.log(draw.min_p)
    # In float32 a few too many, which the exact ratios then leave out.
    rows, ids = ((logits.float() - best) / draw.temperature >= smallest - 0.01).nonzero(as_tuple=True)
    ratios = (logits[rows, ids].double() - best[rows, 0].double()) / draw.temperature
    left = ratios >= smallest
    rows, ids = rows[left], ids[left]
    cumulative = ratios[left].exp().cumsum(dim=0)
    ends = torch.bincount(rows, minlength=len(logits)).cumsum(dim=0)
    after = cumulative[ends - 1]
    before = torch.cat([after.new_zeros(1), after[:-1]])
    places = torch.searchsorted(cumulative, before + draws * (after - before), right=True)
    return ids[places.clamp(max=ends - 1)]
