"""Where a text begins and ends, for the model that reads it.

The rule, in one place. Between two texts stands the token that stood there when the model was first trained.
That is the tokenizer's end token, unless it ends a turn of a conversation, as instruct models have it
(`<|im_end|>`, `<|eot_id|>`, `<end_of_turn>`): then it is the end of text that their vocabulary still holds.
A text starts from the beginning token if the tokenizer adds one to text, and else from the separator, which
stood before every text but the first.
"""

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from secateurs.errors import InputError
from secateurs.families.tokenizing import encode

# Ends of text of the models that are pruned here, and of what they were made from.
ENDS_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>")


def separator(tokenizer: PreTrainedTokenizerBase, where: Path) -> int:
    """The id between two texts. InputError, naming the directory `where`, if the tokenizer has none."""
    end = tokenizer.eos_token
    if end not in ENDS_OF_TEXT:
        special = tokenizer.added_tokens_encoder
        for token in ENDS_OF_TEXT:
            if token in special:
                return int(special[token])
    if isinstance(tokenizer.eos_token_id, int):
        return tokenizer.eos_token_id
    raise InputError(f"{where}: its tokenizer has no end-of-text token to put between documents")


def beginning(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """What the tokenizer puts before a text: the beginning token, or nothing.

    Some put an end token after it as well, which a text that goes on does not have.
    """
    bare: list[int] = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole: list[int] = tokenizer("a")["input_ids"]
    places = (place for place in range(len(whole)) if whole[place : place + len(bare)] == bare)
    return tuple(whole[: next(places, 0)])


def prompt_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """A text that the model is to go on with: what stands before a text, and the text; nothing after it."""
    (ids,) = encode(tokenizer, [text])
    return [*beginning(tokenizer), *ids]


def start(tokenizer: PreTrainedTokenizerBase, where: Path) -> int:
    """The id from which a text is written. InputError as for `separator`."""
    return (*beginning(tokenizer), separator(tokenizer, where))[0]
