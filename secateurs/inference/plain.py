"""Generation by settings of our own: of those that come with a checkpoint, its end tokens alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids at which a text ends: the tokenizer's end token and those of the model's own settings."""
    generation: Any = getattr(model, "generation_config", None)
    named = [
        tokenizer.eos_token_id,
        getattr(generation, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
    ]
    flat = [token for one in named for token in (one if isinstance(one, list) else [one])]
    # What the model cannot write ends nothing.
    embeddings: Any = model.get_input_embeddings()
    return sorted(
        {token for token in flat if isinstance(token, int) and 0 <= token < embeddings.num_embeddings}
    )


@contextmanager
def plain_generation(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tokens: int, **sampling: Any
) -> Iterator[GenerationConfig]:
    """What to give `generate`, in this context, for one text of at most `tokens` tokens, greedily or sampled.

    A checkpoint may come with settings of its own (several beams, penalties, a number of texts), which
    transformers adds to whatever it is given.
    """
    ends = end_tokens(model, tokenizer)
    own = model.generation_config
    padding = ends[0] if ends else None
    model.generation_config = GenerationConfig(eos_token_id=ends or None, pad_token_id=padding)
    try:
        yield GenerationConfig(
            max_new_tokens=tokens, eos_token_id=ends or None, pad_token_id=padding, **sampling
        )
    finally:
        model.generation_config = own
