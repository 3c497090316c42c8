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
    """The beginning token, if the tokenizer adds one to text."""
    first: list[int] = tokenizer("a")["input_ids"][:1]
    return tuple(first) if first == [tokenizer.bos_token_id] else ()


def start(tokenizer: PreTrainedTokenizerBase, where: Path) -> int:
    """The id from which a text is written. InputError as for `separator`."""
    return (*beginning(tokenizer), separator(tokenizer, where))[0]
