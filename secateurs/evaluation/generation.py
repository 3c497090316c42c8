"""Greedy text of many prompts at once: sorted by length, padded on the left, ended early."""

from collections.abc import Sequence

import torch
from accelerate.utils import find_executable_batch_size
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from secateurs.families.decoder import context_length
from secateurs.inference.likelihood import ROW_TOKENS, Ids, batches
from secateurs.inference.plain import end_tokens
from secateurs.inference.writing import Looks, write
from secateurs.progress import counter

# Decoding a token is bound by memory and not by arithmetic, so that more rows cost little: a batch holds this
# many times the tokens that one holds where all are read at once.
MORE = 16
# Steps between two looks at the text, which the device has to wait for.
LOOK = 8
# Tokens before the last ones that a look reads again, so that it begins within no character of a stop.
MARGIN = 4


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Ids],
    until: Sequence[str],
    tokens: int,
    batch_size: int,
) -> list[str]:
    """What the model writes after each prompt, the likeliest token each time.

    At most `tokens` are written, and at most half of what the model's context holds. A text ends before an
    end token of the model or tokenizer, and before the first of the strings `until`. A prompt that does not
    fit in the context with the tokens to come loses its beginning. batch_size: as many tokens as MORE times
    these rows of ROW_TOKENS at a time; halved whenever memory runs out.
    """
    context = context_length(model.config)
    tokens = min(tokens, context // 2)
    longest = context - tokens
    cut = [prompt[-longest:] for prompt in prompts]
    ends = end_tokens(model, tokenizer)
    stops = _Stops(tokenizer, until, ends)
    found: dict[Ids, str] = {}
    ordered = sorted(set(cut), key=len, reverse=True)

    def run(batch_size: int) -> None:
        with counter("generation", "texts", len(ordered)) as bar:
            bar.update(len(found))
            looks = Looks(LOOK, stops.over if until else None, lambda _, ended: bar.update(ended))
            waiting = [prompt for prompt in ordered if prompt not in found]
            for batch in batches(waiting, MORE * batch_size * ROW_TOKENS, tokens):
                written = write(model, batch, tokens, _likeliest, looks, ends)
                found.update(zip(batch, stops.texts(written), strict=True))

    find_executable_batch_size(run, starting_batch_size=batch_size)()
    return [found[prompt] for prompt in cut]


def before_first(text: str, until: Sequence[str]) -> str:
    """The text before the first place where one of the strings begins."""
    places = [place for place in (text.find(stop) for stop in until if stop) if place >= 0]
    return text[: min(places)] if places else text


class _Stops:
    """Which texts have come to a string at which they stop, and the texts themselves."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, until: Sequence[str], ends: Sequence[int]) -> None:
        self.tokenizer, self.until, self.ends = tokenizer, until, set(ends)
        # A token that is seen gives a byte at least, so a stop that is new begins within so many tokens.
        self.window = LOOK + MARGIN + max((len(stop.encode()) for stop in until), default=0)

    def over(self, written: Tensor) -> Tensor:
        """Whether each row of ids [rows, steps], no end token among them, has come to a stop: bool [rows]."""
        found = torch.zeros(len(written), dtype=torch.bool, device=written.device)
        # Most rows go on: of those the last tokens alone are turned into text.
        tails = self.decoded(written[:, -self.window :].tolist())
        maybe = [row for row, tail in enumerate(tails) if any(stop and stop in tail for stop in self.until)]
        for row, text in zip(maybe, self.decoded(written[maybe].tolist()), strict=True):
            found[row] = len(before_first(text, self.until)) < len(text)
        return found

    def texts(self, written: list[list[int]]) -> list[str]:
        """The text of each row, of whose ids none but the last is an end token."""
        said = [[token for token in row if token not in self.ends] for row in written]
        return [before_first(text, self.until) for text in self.decoded(said)]

    def decoded(self, rows: list[list[int]]) -> list[str]:
        if not rows:
            return []
        texts: list[str] = self.tokenizer.batch_decode(
            rows, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts


def _likeliest(logits: Tensor, _rows: Tensor, _step: int) -> Tensor:
    return logits.argmax(dim=-1)
