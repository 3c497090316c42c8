"""Text that a model writes itself, from its own distribution."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.errors import SettingError
from secateurs.families.boundaries import start
from secateurs.inference.norms import fused_norms
from secateurs.inference.writing import Looks, write
from secateurs.progress import progress
from secateurs.settings.groups import Sample
from secateurs.text.documents import Document

# Steps between two looks at which texts have ended, which the device has to wait for.
LOOK = 16


@dataclass(frozen=True)
class Draw:
    """How a token is drawn: at a temperature, of tokens at least `min_p` times as likely as the likeliest.

    temperature: 0 takes the likeliest.
    opening: how many tokens are drawn at first at another temperature, and which.
    """

    temperature: float
    min_p: float = 0.0
    opening: tuple[int, float] = (0, 1.0)


@dataclass(frozen=True)
class Lots:
    """The random numbers of prompts, which depend on `key` and a place alone; and prompts at once."""

    key: str
    batch_size: int


class Writer(Protocol):
    """What writes after prompts of token ids: `go_on` with its model, or an engine that does as it does."""

    def __call__(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: int,
        draw: Draw,
        lots: Lots,
        *,
        ends: frozenset[int] = frozenset(),
        label: str = "sample",
    ) -> list[list[int]]:
        """`tokens` ids after each prompt, or fewer up to one of `ends`."""
        ...


def sample_documents(
    writer: Writer, tokenizer: PreTrainedTokenizerBase, settings: Sample, where: Path
) -> list[Document]:
    """`settings.documents` texts of `settings.tokens` tokens each, sampled from the whole distribution.

    Each starts as families/boundaries.py says that a text starts; where: the directory the tokenizer is from.
    An end-of-text token does not stop a document: it is kept in the text, and what the model writes next
    follows. A document's random numbers depend on the seed and its own number only, not on its batch.
    Raises InputError where the model's logits are no numbers.
    """
    written = writer(
        [[start(tokenizer, where)]] * settings.documents,
        settings.tokens,
        Draw(settings.temperature),
        Lots(str(settings.seed), settings.batch_size),
    )
    texts = tokenizer.batch_decode(written, skip_special_tokens=False)
    return [Document(f"sample-{number}", text) for number, text in enumerate(texts)]


def go_on(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    draw: Draw,
    lots: Lots,
    *,
    ends: frozenset[int] = frozenset(),
    label: str = "sample",
) -> list[list[int]]:
    """What the model writes after each prompt of token ids: `tokens` ids, or fewer up to one of `ends`.

    Prompts of unequal length are padded on the left. What follows a prompt does not depend on its batch.
    """
    written: list[list[int]] = []
    first_steps, first_temperature = draw.opening
    first_draw = replace(draw, temperature=first_temperature)
    steps = -(-len(prompts) // lots.batch_size) * tokens
    with fused_norms(model), progress(range(steps), label=label, unit="tokens") as bar:
        for first in range(0, len(prompts), lots.batch_size):
            batch = prompts[first : first + lots.batch_size]
            draws = torch.stack([_draws(lots.key, first + row, tokens) for row in range(len(batch))])
            # MPS has no float64.
            draws = draws.to("cpu" if model.device.type == "mps" else model.device)

            def choose(logits: Tensor, rows: Tensor, step: int, draws: Tensor = draws) -> Tensor:
                how = first_draw if step < first_steps else draw
                return _choose(logits, draws[rows.to(draws.device), step], how)

            looks = Looks(LOOK, show=lambda steps, _: bar.update(steps))
            written += write(model, batch, tokens, choose, looks, ends)
    return written


def seed_of(key: str, number: int) -> int:
    """The seed of a text's random numbers, 56 bits, by its key and its place."""
    return int.from_bytes(hashlib.blake2b(f"{key}:{number}".encode(), digest_size=7).digest())


def _draws(key: str, number: int, tokens: int) -> Tensor:
    """A text's uniform random numbers, one a token, drawn on the CPU: the same on every device."""
    generator = torch.Generator().manual_seed(seed_of(key, number))
    return torch.rand(tokens, generator=generator, dtype=torch.float64)


def _choose(logits: Tensor, draws: Tensor, draw: Draw) -> Tensor:
    """[batch] token ids, where the draws are: where the cumulative probability first exceeds the draw."""
    # In float64, because rounding must not depend on how a device sums float32.
    where = draws.device
    best = check_finite(logits)
    if not draw.temperature:
        return logits.argmax(dim=-1)
    if draw.min_p:
        return _among_the_likely(logits.to(where), best.to(where), draws, draw)
    return _among_all(logits.to(where), draws, draw)


def check_finite(logits: Tensor) -> Tensor:
    """The largest logit of each row. Raises SettingError where one is no finite number."""
    best = logits.amax(dim=-1)
    if not bool(torch.isfinite(best).all()):
        raise SettingError(
            f"compute.dtype: {str(logits.dtype).removeprefix('torch.')}: the model's logits "
            "are not finite, so its text would be noise; use bfloat16 or float32"
        )
    return best


def _among_all(logits: Tensor, draws: Tensor, draw: Draw) -> Tensor:
    cumulative = (logits.double() / draw.temperature).softmax(dim=-1).cumsum(dim=-1)
    chosen = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True)
    return chosen[:, 0].clamp(max=logits.shape[-1] - 1)


def _among_the_likely(logits: Tensor, best: Tensor, draws: Tensor, draw: Draw) -> Tensor:
    """The same where few tokens are left: those of all rows, in one list, are all that is added up.

    best: the largest logit of each row. A running sum over the whole vocabulary in float64 takes longer than
    the model does.
    """
    smallest = math.log(draw.min_p)
    # In float32 a few too many, which the exact ratios then leave out.
    rows, ids = ((logits.float() - best[:, None].float()) / draw.temperature >= smallest - 0.01).nonzero(
        as_tuple=True
    )
    ratios = (logits[rows, ids].double() - best[rows].double()) / draw.temperature
    left = ratios >= smallest
    rows, ids = rows[left], ids[left]
    cumulative = ratios[left].exp().cumsum(dim=0)
    ends = torch.bincount(rows, minlength=len(logits)).cumsum(dim=0)
    after = cumulative[ends - 1]
    before = torch.cat([after.new_zeros(1), after[:-1]])
    places = torch.searchsorted(cumulative, before + draws * (after - before), right=True)
    return ids[places.clamp(max=ends - 1)]
