"""Greedy text of many prompts at once: sorted by length, padded on the left, ended early."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import find_executable_batch_size
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from stages.common.console import counter
from stages.evaluation.likelihood import ROW_TOKENS, Ids, batches

# Decoding a token is bound by memory and not by arithmetic, so that more rows cost little: a batch holds this
# many times the tokens that one holds where all are read at once.
MORE = 16
# Steps between two looks at the text, which the device has to wait for.
LOOK = 8
# Tokens before the last ones that a look reads again, so that it begins within no character of a stop.
MARGIN = 4
# Rows that have ended are carried along until they are this share of the batch.
ENDED = 0.25

Show = Callable[[int], object]


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
    context = model.config.max_position_embeddings
    tokens = min(tokens, context // 2)
    longest = context - tokens
    cut = [prompt[-longest:] for prompt in prompts]
    ends = end_tokens(model, tokenizer)
    found: dict[Ids, str] = {}
    ordered = sorted(set(cut), key=len, reverse=True)

    def run(batch_size: int) -> None:
        with counter("generation", "texts", len(ordered)) as bar:
            bar.update(len(found))
            waiting = [prompt for prompt in ordered if prompt not in found]
            for batch in batches(waiting, MORE * batch_size * ROW_TOKENS, tokens):
                texts = _Batch(model, tokenizer, until, ends).write(batch, tokens, bar.update)
                found.update(zip(batch, texts, strict=True))

    with torch.inference_mode():
        find_executable_batch_size(run, starting_batch_size=batch_size)()
    return [found[prompt] for prompt in cut]


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids at which a text ends: the tokenizer's end token and those of the model's own settings."""
    generation: Any = getattr(model, "generation_config", None)
    named = [tokenizer.eos_token_id, getattr(generation, "eos_token_id", None), model.config.eos_token_id]
    flat = [token for one in named for token in (one if isinstance(one, list) else [one])]
    return sorted({token for token in flat if isinstance(token, int)})


def before_first(text: str, until: Sequence[str]) -> str:
    """The text before the first place where one of the strings begins."""
    places = [place for place in (text.find(stop) for stop in until if stop) if place >= 0]
    return text[: min(places)] if places else text


class _Batch:
    """Rows that are written side by side."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        until: Sequence[str],
        ends: Sequence[int],
    ) -> None:
        self.model, self.tokenizer, self.until = model, tokenizer, until
        self.ends = torch.tensor(ends, device=model.device)
        # A token that is seen gives a byte at least, so a stop that is new begins within so many tokens.
        self.window = LOOK + MARGIN + max((len(stop.encode()) for stop in until), default=0)

    def write(self, prompts: Sequence[Ids], tokens: int, show: Show) -> list[str]:
        """The text after each prompt, prompts longest first; show: told of each text that has ended."""
        device = self.model.device
        length = len(prompts[0])
        ids = torch.zeros(len(prompts), length, dtype=torch.int64)
        mask = torch.zeros(len(prompts), length + tokens, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) :] = torch.tensor(prompt)
            mask[row, length - len(prompt) :] = 1
        ids, mask = ids.to(device), mask.to(device)
        cache: Any = DynamicCache(config=self.model.config)
        places = (mask[:, :length].cumsum(dim=1) - 1).clamp(min=0)
        written = torch.zeros(len(prompts), 0, dtype=torch.int64, device=device)
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        rows = torch.arange(len(prompts))
        texts: dict[int, str] = {}
        for step in range(tokens):
            width = length + step
            output = self.model(
                input_ids=ids,
                attention_mask=mask[:, :width],
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            ids = output.logits[:, -1].argmax(dim=-1, keepdim=True).to(device)
            places = places[:, -1:] + 1
            written = torch.cat([written, ids], dim=1)
            ended |= torch.isin(ids[:, 0], self.ends)
            if (step + 1) % LOOK and step + 1 < tokens:
                continue
            last = step + 1 == tokens
            over = self._finish(rows, written, ended, texts, last)
            show(len(over))
            ended[over] = True
            if bool(ended.all()):
                break
            if float(ended.float().mean()) >= ENDED:
                kept = (~ended).nonzero()[:, 0]
                cache.batch_select_indices(kept)
                ids, mask, places, written = (one[kept] for one in (ids, mask, places, written))
                rows, ended = rows[kept.cpu()], ended[kept]
        return [texts[row] for row in range(len(prompts))]

    def _finish(
        self, rows: Tensor, written: Tensor, ended: Tensor, texts: dict[int, str], last: bool
    ) -> list[int]:
        """Note the texts that have ended since the last look; return their places in the batch."""
        open_rows = [place for place, row in enumerate(rows.tolist()) if row not in texts]
        at_end = ended.tolist()
        # Most rows go on: of those the last tokens alone are turned into text.
        tails = self._decode(written[open_rows, -self.window :].tolist())
        maybe = [
            place
            for place, tail in zip(open_rows, tails, strict=True)
            if last or at_end[place] or any(stop and stop in tail for stop in self.until)
        ]
        over = []
        for place, text in zip(maybe, self._decode(written[maybe].tolist()), strict=True):
            short = before_first(text, self.until)
            if last or at_end[place] or len(short) < len(text):
                texts[int(rows[place])] = short
                over.append(place)
        return over

    def _decode(self, rows: list[list[int]]) -> list[str]:
        stops = set(self.ends.tolist())
        cut = []
        for row in rows:
            end = next((place for place, token in enumerate(row) if token in stops), len(row))
            cut.append(row[:end])
        if not cut:
            return []
        texts: list[str] = self.tokenizer.batch_decode(
            cut, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts
